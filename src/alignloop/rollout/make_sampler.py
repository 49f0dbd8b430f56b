"""Which sampler a model gets: the fast one if it computes the same, otherwise transformers' own."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from alignloop import fastpath
from alignloop.config import SamplingConfig
from alignloop.data.turns import stop_tokens
from alignloop.protocols import Policy
from alignloop.rollout.decode import LlamaSampler, Sampler, TransformersSampler


def make_sampler(
    model: Policy, tokenizer: PreTrainedTokenizerBase, config: SamplingConfig
) -> Sampler:
    """A sampler for `model`, which is read in place: training it changes what is sampled."""
    stops = stop_tokens(tokenizer)
    if fastpath.supports(model):
        return LlamaSampler(model=model, stop_ids=stops, config=config)
    pad: Any = tokenizer.pad_token_id
    return TransformersSampler(model=model, stop_ids=stops, pad_token_id=pad, config=config)
