"""Choose a sampler: the fast path if it supports the model, otherwise transformers."""

from transformers import PreTrainedTokenizerBase

from alignloop import fastpath
from alignloop.config import SamplingConfig
from alignloop.data.turns import stop_tokens
from alignloop.models.padding import pad_of
from alignloop.protocols import Policy
from alignloop.rollout.decode import LlamaSampler, Sampler, TransformersSampler


def make_sampler(
    model: Policy, tokenizer: PreTrainedTokenizerBase, config: SamplingConfig
) -> Sampler:
    """A sampler for `model`, read in place: training it changes the samples."""
    stops = stop_tokens(tokenizer)
    if fastpath.supports(model):
        return LlamaSampler(model=model, stop_ids=stops, config=config)
    pad = pad_of(tokenizer)
    return TransformersSampler(model=model, stop_ids=stops, pad_token_id=pad, config=config)
