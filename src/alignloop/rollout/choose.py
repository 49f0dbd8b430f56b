"""Which sampler a model gets: the fast one where it computes the same, otherwise transformers."""

from typing import Any

from alignloop.config import SamplingConfig
from alignloop.data.turns import stop_tokens
from alignloop.rollout.decode import Sampler, TransformersSampler
from alignloop.rollout.llama import is_supported
from alignloop.rollout.slots import LlamaSampler


def new_sampler(model: Any, tokenizer: Any, config: SamplingConfig) -> Sampler:
    """A sampler for `model`, which is read in place: training it changes what is sampled."""
    stops = stop_tokens(tokenizer)
    if is_supported(model):
        return LlamaSampler(model=model, stop_ids=stops, config=config)
    return TransformersSampler(
        model=model,
        stop_ids=stops,
        pad_token_id=tokenizer.pad_token_id,
        config=config,
    )
