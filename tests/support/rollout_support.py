"""What the tests of decoding hold our steps against."""

from collections.abc import Sequence
from typing import Any

import torch

from alignloop.rollout import Rollout, Sampler
from alignloop.run import row_seeds

STOPS = (3, 17)  # an end of turn, and EOS
NEW_TOKENS = 24


def answers(
    sampler: Sampler, prompts: Sequence[tuple[str, list[int]]], *names: Any
) -> list[Rollout]:
    """The responses of all prompts, drawn by the seeds of `names`: a seed first."""
    return sampler.generate(prompts, row_seeds(len(prompts), *names))


def greedy_by_generate(model: Any, prompt: list[int]) -> list[int]:
    """Prompt and response as transformers' own `generate` decodes them."""
    ids = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        eos_token_id=list(STOPS),
        pad_token_id=0,
    )
    return ids[0].tolist()
