"""Which sampler a model gets: the fast one where it computes the same, otherwise transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alignloop.config import SamplingConfig
from alignloop.data.turns import stop_tokens
from alignloop.errors import UserError
from alignloop.models.roles import enter, role_of
from alignloop.rollout.decode import Rollout, Sampler, TransformersSampler
from alignloop.rollout.llama import is_supported
from alignloop.rollout.slots import LlamaSampler


@dataclass(frozen=True, kw_only=True)
class InRole:
    """A sampler that first lets the trunk be the policy's, where several roles share it."""

    model: Any
    sampler: Sampler

    def generate(
        self, prompts: Sequence[tuple[str, Sequence[int]]], generator: torch.Generator
    ) -> list[Rollout]:
        """Sample one response to each (prompt_id, token ids)."""
        enter(self.model)
        return self.sampler.generate(prompts, generator)


def new_sampler(model: Any, tokenizer: Any, config: SamplingConfig) -> Sampler:
    """A sampler for `model`, which is read in place: training it changes what is sampled."""
    sampler = _sampler(model, tokenizer, config)
    return sampler if role_of(model) is None else InRole(model=model, sampler=sampler)


def _sampler(model: Any, tokenizer: Any, config: SamplingConfig) -> Sampler:
    stops = stop_tokens(tokenizer)
    if is_supported(model):
        return LlamaSampler(model=model, stop_ids=stops, config=config)
    if config.compile:
        raise UserError(
            f"decoding cannot be compiled for this model ({model.config.model_type})",
            where="sampling.compile",
            fix="set it to false: only models of the Llama family without sliding windows"
            " (docs/models.md) are decoded by our own step",
        )
    return TransformersSampler(
        model=model,
        stop_ids=stops,
        pad_token_id=tokenizer.pad_token_id,
        config=config,
    )
