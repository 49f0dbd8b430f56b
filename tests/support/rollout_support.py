"""What the tests of decoding hold our steps against."""

from typing import Any

import torch

STOPS = (3, 17)  # an end of turn, and EOS
NEW_TOKENS = 24


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
