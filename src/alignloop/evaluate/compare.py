"""The SFT model against the policy on held-out prompts: same prompts, same random numbers."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alignloop.config import EvaluateConfig, ModelConfig
from alignloop.data.tokenise import decode, encode_prompt
from alignloop.evaluate.judges import Judge
from alignloop.evaluate.tables import Answer, measure, win_rates
from alignloop.models import load_policy, load_tokenizer
from alignloop.records import Prompt
from alignloop.rollout import TransformersSampler
from alignloop.run import append_jsonl, atomic_write, derive_seed, generator
from alignloop.run.stage_run import StageRun

MAX_PROMPT_TOKENS = 10**9


def compare_policies(
    config: EvaluateConfig,
    model_config: ModelConfig,
    sft_dir: Path,
    policy_dir: Path,
    sets: Mapping[str, Sequence[Prompt]],
    judge: Judge,
    run: StageRun,
) -> dict[str, Any]:
    """Answer every set with both models, judge, and write answers.jsonl and results.json."""
    chosen = {
        name: choose_prompts(prompts, config.max_prompts, run.seed)
        for name, prompts in sets.items()
    }
    answers = {
        who: {
            name: answer_all(folder, model_config, config, prompts, judge, run.seed)
            for name, prompts in chosen.items()
        }
        for who, folder in (("sft", sft_dir), ("policy", policy_dir))
    }
    rows = [
        {"set": name, "prompt": prompt.model_dump(mode="json"), "sft": asdict(sft), "policy": asdict(policy)}
        for name, prompts in chosen.items()
        for prompt, sft, policy in zip(prompts, answers["sft"][name], answers["policy"][name], strict=True)
    ]  # fmt: skip
    path = run.path / "answers.jsonl"
    path.unlink(missing_ok=True)
    append_jsonl(path, rows)
    seed = derive_seed(run.seed, "evaluate") % 2**32
    results = _results(chosen, answers, judge, seed)
    atomic_write(
        run.path / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    )
    run.finish({"judge": judge.name, "num_prompts": {name: len(p) for name, p in chosen.items()}})
    return results


def choose_prompts(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """Up to `count` prompts, as evenly as possible over (category, language)."""
    groups: dict[tuple[str, str], list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault((prompt.category, prompt.language), []).append(prompt)
    for key, group in groups.items():
        random.Random(f"evaluate/{seed}/{key}").shuffle(group)
    rounds = max(len(group) for group in groups.values())
    in_turn = [group[i] for i in range(rounds) for group in groups.values() if i < len(group)]
    return in_turn[:count]


def answer_all(
    folder: Path,
    model_config: ModelConfig,
    config: EvaluateConfig,
    prompts: Sequence[Prompt],
    judge: Judge,
    seed: int,
) -> list[Answer]:
    """One judged answer to each prompt."""
    tokenizer = load_tokenizer(folder, model_config)
    sampler = TransformersSampler(
        model=load_policy(folder, tokenizer, model_config),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        config=config.sampling,
    )
    asked = [(p.prompt_id, encode_prompt(tokenizer, p, MAX_PROMPT_TOKENS)) for p in prompts]
    answers: list[Answer] = []
    rollouts = sampler.generate(asked, generator(seed, "evaluate"))
    for prompt, rollout in zip(prompts, rollouts, strict=True):
        text = decode(tokenizer, rollout.response_ids)
        verdict = judge.judge(prompt, text, finished=rollout.finish_reason == "eos")
        answers.append(
            Answer(
                response=text,
                num_tokens=len(rollout.response_ids),
                finish_reason=rollout.finish_reason,
                **verdict.model_dump(),
            )
        )
    return answers


def _results(
    chosen: Mapping[str, Sequence[Prompt]],
    answers: Mapping[str, Mapping[str, Sequence[Answer]]],
    judge: Judge,
    seed: int,
) -> dict[str, Any]:
    sets, rates = {}, {}
    for name, prompts in chosen.items():
        both = {who: answers[who][name] for who in answers}
        sets[name] = measure(prompts, both, seed)
        rates[name] = win_rates(prompts, both["sft"], both["policy"], seed)
    return {
        "judge": judge.name,
        "sets": sets,
        "win_rate": {name: rate["win_rate"] for name, rate in rates.items()},
        "length_controlled_win_rate": {n: r["length_controlled"] for n, r in rates.items()},
        "sign_test_p": {name: rate["sign_test_p"] for name, rate in rates.items()},
    }
