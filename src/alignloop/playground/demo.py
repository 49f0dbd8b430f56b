"""Make the comparisons of `alignloop label demo`: models' answers, and a few gold questions.

The result is shipped with the package, so the demo needs no model and starts at once.
"""

import json
import random
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from alignloop.config import ModelConfig, SamplingConfig
from alignloop.data.files import whole_file
from alignloop.data.formats.parts import digest_of
from alignloop.data.tokenise import decode, encode_prompt
from alignloop.models import load_policy, load_tokenizer
from alignloop.playground.demonstrations import full_answer
from alignloop.playground.prompts import intent_of, prompt_sets
from alignloop.playground.world import join_sentences, phrases
from alignloop.records import Prompt
from alignloop.rollout import make_sampler
from alignloop.run import progress_for, row_seeds

NUM_PAIRS, NUM_RANKINGS, NUM_GOLD = 64, 12, 6
RANKED = 4  # answers of a ranking
TEMPERATURE, MAX_NEW_TOKENS, MAX_PROMPT_TOKENS = 0.7, 144, 96
Row = dict[str, Any]


def build_demo(policies: dict[str, Path], out: Path, seed: int = 0) -> list[Path]:
    """Write comparisons.jsonl and rankings.jsonl into `out`, as items for `alignloop label`.

    All policies answer each prompt, several times if there are too few for a ranking.
    """
    prompts = _prompts(NUM_PAIRS + NUM_RANKINGS + NUM_GOLD, seed)
    sampled, gold = prompts[: NUM_PAIRS + NUM_RANKINGS], prompts[NUM_PAIRS + NUM_RANKINGS :]
    repeats = max(1, RANKED // len(policies))
    answers: dict[str, list[tuple[str, str]]] = {prompt.prompt_id: [] for prompt in sampled}
    with progress_for("demo", len(policies) * repeats) as bar:
        for number, (name, path) in enumerate(policies.items(), start=1):
            for prompt_id, text in _answered(path, sampled, repeats, seed):
                if text and text not in [known for known, _ in answers[prompt_id]]:
                    answers[prompt_id].append((text, name))
            bar.update(number * repeats)
    ranked = [p for p in sampled if len(answers[p.prompt_id]) >= RANKED][:NUM_RANKINGS]
    paired = [p for p in sampled if p not in ranked and _two(answers[p.prompt_id])]
    rankings = [_item(p, answers[p.prompt_id][:RANKED]) for p in ranked]
    pairs = [_item(p, _two(answers[p.prompt_id])) for p in paired]
    pairs += [_gold_item(prompt, seed) for prompt in gold]
    files = {"comparisons": pairs, "rankings": rankings}
    return [_write(out / f"{name}.jsonl", rows) for name, rows in files.items()]


def _prompts(count: int, seed: int) -> list[Prompt]:
    """Prompts of all kinds in both languages, in turn."""
    by_slice: dict[tuple[str, str], list[Prompt]] = {}
    for prompt in prompt_sets()["comparisons"]:
        by_slice.setdefault((prompt.category, prompt.language), []).append(prompt)
    rng = random.Random(f"demo/{seed}")
    for prompts in by_slice.values():
        rng.shuffle(prompts)
    found: list[Prompt] = []
    while len(found) < count:
        found += [prompts.pop() for _, prompts in sorted(by_slice.items()) if prompts]
    return found[:count]


def _answered(
    path: Path, prompts: Sequence[Prompt], repeats: int, seed: int
) -> Iterator[tuple[str, str]]:
    config = ModelConfig(path=str(path), device="cpu")
    tokenizer = load_tokenizer(path, config)
    model = load_policy(path, tokenizer, config)
    sampling = SamplingConfig(temperature=TEMPERATURE, max_new_tokens=MAX_NEW_TOKENS)
    sampler = make_sampler(model, tokenizer, sampling)
    for turn in range(repeats):
        encoded = [(p.prompt_id, encode_prompt(tokenizer, p, MAX_PROMPT_TOKENS)) for p in prompts]
        for one in sampler.generate(encoded, row_seeds(len(encoded), seed, "demo", turn)):
            yield one.prompt_id, decode(tokenizer, one.response_ids).strip()


def _two(answers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first two answers of different models."""
    couples = (couple for couple in combinations(answers, 2) if couple[0][1] != couple[1][1])
    return list(next(couples, ()))


def _item(prompt: Prompt, answers: Sequence[tuple[str, str]]) -> Row:
    ordered = sorted(answers, key=lambda answer: digest_of(answer[0]))
    names = [f"{prompt.prompt_id}#{digest_of(text)}" for text, _ in ordered]
    responses = [
        {"response_id": name, "text": text} for name, (text, _) in zip(names, ordered, strict=True)
    ]
    comparison = {
        "comparison_id": f"{prompt.prompt_id}~{digest_of(names)}",
        "prompt": prompt.model_dump(mode="json"),
        "responses": responses,
    }
    models = {name: model for name, (_, model) in zip(names, ordered, strict=True) if model}
    return {"comparison": comparison, "models": models}


def _gold_item(prompt: Prompt, seed: int) -> Row:
    """A full answer against pure filler: every annotator should see which is better."""
    rng = random.Random(f"demo/gold/{seed}/{prompt.prompt_id}")
    intent = intent_of(prompt)
    good = join_sentences(full_answer(intent, rng), intent.language)
    bad = join_sentences(phrases(intent.language)["filler"], intent.language)
    row = _item(prompt, [(good, ""), (bad, "")])
    right = next(r for r in row["comparison"]["responses"] if r["text"] == good)
    return {**row, "why": "gold", "gold": right["response_id"]}


def _write(path: Path, rows: Sequence[Row]) -> Path:
    with whole_file(path) as write:
        for row in rows:
            write(json.dumps(row, ensure_ascii=False))
    return path
