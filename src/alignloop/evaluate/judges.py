"""Who says how good an answer is: a Protocol, and a held-out reward model behind it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch

from alignloop.config import ModelConfig
from alignloop.data.batching import pad_batch
from alignloop.data.tokenise import encode_example
from alignloop.models import (
    RewardScale,
    load_reward_model,
    load_tokenizer,
    read_reward_scale,
    sequence_scores,
)
from alignloop.records import Prompt, Verdict


class Judge(Protocol):
    """Rates one answer by itself; a comparison of two follows from their scores."""

    @property
    def name(self) -> str:
        """Who the judge is, for the report."""
        ...

    def judge(self, prompt: Prompt, answer: str, *, finished: bool) -> Verdict:
        """The verdict on one answer."""
        ...


@dataclass(frozen=True, kw_only=True)
class RewardModelJudge:
    """A reward model as judge: its calibrated score, the chance of beating a demonstration.

    The rating is that chance in fifths. It must not be the model that PPO climbed.
    """

    model: Any
    tokenizer: Any
    scale: RewardScale
    name: str

    @classmethod
    def load(cls, folder: Path, config: ModelConfig) -> Self:
        """From a reward model's directory."""
        tokenizer = load_tokenizer(folder, config)
        return cls(
            model=load_reward_model(folder, tokenizer, config),
            tokenizer=tokenizer,
            scale=read_reward_scale(folder),
            name=f"reward model {folder}",
        )

    @torch.no_grad()
    def judge(self, prompt: Prompt, answer: str, *, finished: bool) -> Verdict:
        """sigmoid((raw - bias) / scale / temperature); an answer that was cut off gets 0."""
        if not finished or not answer:
            return Verdict(score=0.0, rating=1, reasons=("it was cut off or empty",))
        encoded = encode_example(self.tokenizer, prompt, answer, max_tokens=10**9)
        batch = pad_batch([encoded], self.tokenizer.pad_token_id)
        raw = float(sequence_scores(self.model, batch["input_ids"], batch["attention_mask"]))
        logit = (raw - self.scale.bias) / self.scale.scale / self.scale.temperature
        chance = 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))
        return Verdict(score=chance, rating=min(5, 1 + int(chance * 5)))
