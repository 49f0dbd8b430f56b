"""Sample several answers to each prompt; samples are saved and never drawn twice."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignloop.acquisition.candidates import Answered
from alignloop.config import ModelConfig, SamplingConfig
from alignloop.data.tokenise import check_tokenizer, decode, encode_prompt
from alignloop.errors import UserError
from alignloop.models import load_policy, load_tokenizer
from alignloop.records import Prompt
from alignloop.rollout import make_sampler
from alignloop.run import (
    append_jsonl,
    derive_seed,
    fingerprint,
    progress_for,
    read_jsonl,
    row_seeds,
)

CHUNK_SIZE = 64  # prompts answered and saved together


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A model and the name its answers are filed under."""

    name: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to answer prompts: `answers` times each, with policies and temperatures in turn."""

    policies: tuple[Policy, ...]
    answers: int
    temperatures: tuple[float, ...] = (1.0,)
    max_new_tokens: int = 256
    max_prompt_tokens: int = 512
    chat_template: str | None = None
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.answers <= 9:
            raise UserError(f"{self.answers} is not between 2 and 9", where="--answers")
        if not self.policies or not self.temperatures:
            raise UserError("there is no model to answer", where="--policy", fix="name one")

    def slots(self) -> list[tuple[Policy, float]]:
        """Policy and temperature of each answer: every policy at every temperature in turn."""
        pairs = [(policy, heat) for heat in self.temperatures for policy in self.policies]
        return [pairs[slot % len(pairs)] for slot in range(self.answers)]


def sample_answers(sampling: Sampling, prompts: Sequence[Prompt], folder: Path) -> list[Answered]:
    """The answers to all prompts, in order, with a progress bar.

    They are saved in `folder`, in a file named by everything they depend on: an interrupted run
    resumes, and repeating the command only reads. Raises UserError if a prompt is too long or a
    policy is not a model.
    """
    path = folder / f"answers-{_name(sampling, prompts)}.jsonl"
    done = {(row["slot"], row["part"]): row["answers"] for row in read_jsonl(path)}
    parts = [prompts[start : start + CHUNK_SIZE] for start in range(0, len(prompts), CHUNK_SIZE)]
    todo = [
        (slot, part)
        for slot in range(sampling.answers)
        for part in range(len(parts))
        if (slot, part) not in done
    ]
    total = sampling.answers * len(prompts)
    finished = total - sum(len(parts[part]) for _, part in todo)
    with progress_for("answers", total, start=finished) as bar:
        for slot, part, answers in _sampled(sampling, parts, todo):
            append_jsonl(path, [{"slot": slot, "part": part, "answers": answers}])
            done[slot, part] = answers
            finished += len(answers)
            bar.update(finished)
    return _in_order(sampling, parts, done)


def _sampled(
    sampling: Sampling, parts: Sequence[Sequence[Prompt]], todo: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int, list[dict[str, Any]]]]:
    """The answers for each (slot, part) to do, with one model in memory at a time."""
    slots = sampling.slots()
    for policy in sampling.policies:
        own = [(slot, part) for slot, part in todo if slots[slot][0] == policy]
        if not own:
            continue
        model, tokenizer = _load(policy, sampling)
        for slot, part in own:
            config = SamplingConfig(
                temperature=slots[slot][1], max_new_tokens=sampling.max_new_tokens
            )
            sampler = make_sampler(model, tokenizer, config)
            encoded = [
                (p.prompt_id, encode_prompt(tokenizer, p, sampling.max_prompt_tokens))
                for p in parts[part]
            ]
            drawn = sampler.generate(
                encoded, row_seeds(len(encoded), sampling.seed, "asking", slot, part)
            )
            yield (
                slot,
                part,
                [
                    {
                        "text": decode(tokenizer, one.response_ids).strip(),
                        "finish_reason": one.finish_reason,
                    }
                    for one in drawn
                ],
            )


def _load(policy: Policy, sampling: Sampling) -> tuple[Any, Any]:
    config = ModelConfig.model_validate(
        {
            "path": policy.path,
            "chat_template": sampling.chat_template,
            "device": sampling.device,
        }
    )
    tokenizer = load_tokenizer(policy.path, config)
    check_tokenizer(tokenizer, policy.path)
    return load_policy(policy.path, tokenizer, config), tokenizer


def _in_order(
    sampling: Sampling,
    parts: Sequence[Sequence[Prompt]],
    done: dict[tuple[int, int], list[dict[str, Any]]],
) -> list[Answered]:
    slots = sampling.slots()
    return [
        Answered(
            prompt=prompt,
            text=done[slot, part][row]["text"],
            model=slots[slot][0].name,
            settings={
                "temperature": slots[slot][1],
                "max_new_tokens": sampling.max_new_tokens,
                "seed": sampling.seed,
                "finish_reason": done[slot, part][row]["finish_reason"],
            },
        )
        for part, prompts in enumerate(parts)
        for row, prompt in enumerate(prompts)
        for slot in range(sampling.answers)
    ]


def _name(sampling: Sampling, prompts: Sequence[Prompt]) -> str:
    """A hash of the settings, the models' weights and the prompts, 16 hex digits."""
    weights = [fingerprint(policy.path) for policy in sampling.policies]
    texts = [prompt.model_dump_json() for prompt in prompts]
    everything = json.dumps([asdict(sampling), weights, texts], ensure_ascii=False)
    return f"{derive_seed(0, everything):016x}"
