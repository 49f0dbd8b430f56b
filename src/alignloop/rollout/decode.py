"""Batched sampling from a transformers model, with the log-probability of every drawn token."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from alignloop.config import SamplingConfig
from alignloop.errors import UserError

# Above so many tokens, drawing sums blocks of so many before it looks into one of them.
LARGE_VOCABULARY, BLOCK = 4096, 128


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One prompt with one sampled response, ragged: `input_ids` holds both.

    `rollout_logprobs` are the sampler's own, one per response token, in nats.
    """

    prompt_id: str
    input_ids: tuple[int, ...]
    response_start: int
    rollout_logprobs: tuple[float, ...]
    finish_reason: Literal["eos", "length"]

    @property
    def response_ids(self) -> tuple[int, ...]:
        """The response's tokens, EOS included where it was drawn."""
        return self.input_ids[self.response_start :]

    @property
    def response_mask(self) -> tuple[bool, ...]:
        """True at the response's tokens."""
        prompt, response = self.response_start, len(self.input_ids) - self.response_start
        return (False,) * prompt + (True,) * response


def as_rollout(
    prompt: tuple[str, Sequence[int]],
    tokens: list[int],
    logprobs: list[float],
    stop_ids: Sequence[int],
) -> Rollout:
    """A prompt, (prompt_id, token ids), with the tokens that were drawn for it."""
    prompt_id, ids = prompt
    return Rollout(
        prompt_id=prompt_id,
        input_ids=(*ids, *tokens),
        response_start=len(ids),
        rollout_logprobs=tuple(logprobs),
        finish_reason="eos" if tokens[-1] in stop_ids else "length",
    )


class Sampler(Protocol):
    """Anything that answers tokenised prompts with rollouts, one per prompt and in their order."""

    def generate(
        self, prompts: Sequence[tuple[str, Sequence[int]]], generator: torch.Generator
    ) -> list[Rollout]:
        """Sample one response to each (prompt_id, token ids)."""
        ...


@dataclass(frozen=True, kw_only=True)
class TransformersSampler:
    """Samples from a transformers causal language model with a KV cache.

    Tokens are drawn as `draw` says, by one uniform number per token that is drawn up front for each
    prompt. So a response does not depend on which others are decoded with it. Finished sequences
    leave the batch.
    """

    model: Any
    stop_ids: tuple[int, ...]
    pad_token_id: int
    config: SamplingConfig

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[tuple[str, Sequence[int]]], generator: torch.Generator
    ) -> list[Rollout]:
        """Sample one response to each (prompt_id, token ids), in their order."""
        uniforms = torch.rand(len(prompts), self.config.max_new_tokens, generator=generator)
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i][1]))
        rollouts: dict[int, Rollout] = {}
        for start in range(0, len(prompts), self.config.batch_size):
            chunk = by_length[start : start + self.config.batch_size]
            drawn = self._decode([list(prompts[i][1]) for i in chunk], uniforms[chunk])
            for i, (tokens, logprobs) in zip(chunk, drawn, strict=True):
                rollouts[i] = as_rollout(prompts[i], tokens, logprobs, self.stop_ids)
        return [rollouts[i] for i in range(len(prompts))]

    def _decode(
        self, prompts: list[list[int]], uniforms: Tensor
    ) -> list[tuple[list[int], list[float]]]:
        """Decode left-padded prompts together; `alive` maps rows of the batch to prompts."""
        device = self.model.device
        input_ids, mask = _left_pad(prompts, self.pad_token_id, device)
        tokens = torch.full(uniforms.shape, self.pad_token_id, device=device)
        logprobs = torch.zeros(uniforms.shape, device=device)
        lengths = torch.zeros(len(prompts), dtype=torch.long, device=device)
        uniforms = uniforms.to(device)
        cache, alive = (
            DynamicCache(config=self.model.config),
            torch.arange(len(prompts), device=device),
        )
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        argument = cache_argument(self.model)
        for t in range(self.config.max_new_tokens):
            output = self.model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=positions,
                **{argument: cache},
                use_cache=True,
                logits_to_keep=1,
            )
            how = self.config.temperature, self.config.top_p
            drawn, logprob = draw(output.logits[:, -1], uniforms[alive, t], *how)
            require_finite(logprob, self.model)
            tokens[alive, t], logprobs[alive, t] = drawn, logprob
            lengths[alive] += 1
            going_on = ~is_stop(drawn, self.stop_ids)
            if not bool(going_on.any()):
                break
            if not bool(going_on.all()):
                keep = going_on.nonzero().squeeze(-1)
                alive, drawn, mask, positions = (
                    alive[keep],
                    drawn[keep],
                    mask[keep],
                    positions[keep],
                )
                cache.batch_select_indices(keep)
            input_ids, positions = drawn.unsqueeze(-1), positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        return [
            (tokens[i, :n].tolist(), logprobs[i, :n].tolist())
            for i, n in enumerate(lengths.tolist())
        ]


def cache_argument(model: Any) -> str:
    """What a model's forward pass calls its KV cache: "cache", or "past_key_values".

    transformers renames it from 5.24 on, family by family, and warns of the old name.
    """
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


def is_stop(tokens: Tensor, stop_ids: Sequence[int]) -> Tensor:
    """True where a token is one of `stop_ids`."""
    found = tokens == stop_ids[0]
    for stop in stop_ids[1:]:
        found |= tokens == stop
    return found


def require_finite(logprobs: Tensor, model: Any) -> None:
    """Raise UserError where `draw` found no distribution: its logprobs [batch] are NaN there."""
    if bool(logprobs.isnan().any()):
        raise UserError(
            "the model's logits are no finite numbers (NaN or infinity): nothing can be drawn",
            where=str(getattr(model, "name_or_path", "") or type(model).__name__),
            fix="its weights are damaged or diverged (try an earlier checkpoint, or a lower"
            " learning_rate), or too large for model.dtype",
        )


def draw(
    logits: Tensor, uniform: Tensor, temperature: float, top_p: float = 1.0
) -> tuple[Tensor, Tensor]:
    """One token per row by inverting the cumulative distribution at `uniform` in [0, 1).

    That is the softmax of logits / temperature, of which `top_p` below 1 keeps the likeliest tokens
    up to the one with which they reach that share (Holtzman et al. 2019, arXiv:1904.09751). At
    temperature 0 it is the likeliest token, whose probability is then 1.

    logits [batch, vocabulary]; returns token ids [batch] and their logprobs [batch] in nats, NaN in
    a row of which there is no distribution: one with NaN, with +infinity, or with -infinity alone.
    """
    logits = logits.float()
    if temperature == 0:
        largest, token = logits.max(dim=-1)
        return token, 0 * largest
    if temperature != 1:
        logits = logits / temperature
    # one softmax serves the draw and the logprob: on a CPU the exponentials are what drawing costs
    probabilities = torch.softmax(logits, dim=-1)
    if top_p < 1:
        probabilities = _nucleus(probabilities, top_p)
    token = _invert(probabilities, uniform.unsqueeze(-1)).clamp(max=probabilities.shape[-1] - 1)
    return token.squeeze(-1), probabilities.gather(-1, token).squeeze(-1).log()


def _nucleus(p: Tensor, top_p: float) -> Tensor:
    """The likeliest tokens of p [batch, vocabulary] that reach `top_p` together; they sum to 1."""
    ordered, places = p.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.where(before < top_p, ordered, 0.0)
    return torch.zeros_like(p).scatter_(-1, places, kept / kept.sum(-1, keepdim=True))


def _invert(p: Tensor, share: Tensor) -> Tensor:
    """The first token up to which more than `share` [batch, 1] of the probability lies: [batch, 1].

    In a large vocabulary first the block of tokens is found, then the token in it: a cumulative sum
    over all tokens takes as long as all else that drawing does, and several times that from 30,000.
    """
    vocabulary = p.shape[-1]
    if vocabulary <= LARGE_VOCABULARY:
        return _pick(p, share)[0]
    whole = vocabulary // BLOCK * BLOCK
    sums = p[:, :whole].unflatten(-1, (-1, BLOCK)).sum(-1)
    if whole < vocabulary:
        sums = torch.cat([sums, p[:, whole:].sum(-1, keepdim=True)], dim=-1)
    block, cumulative = _pick(sums, share)
    weight, up_to = sums.gather(-1, block), cumulative.gather(-1, block)
    inner_share = (share * cumulative[:, -1:] - (up_to - weight)) / weight
    places = block * BLOCK + torch.arange(BLOCK, device=p.device)
    inside = p.gather(-1, places.clamp(max=vocabulary - 1)).masked_fill(places >= vocabulary, 0)
    return block * BLOCK + _pick(inside, inner_share.clamp(0, 1 - 2**-24))[0]


def _pick(weights: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Where the cumulative sum [batch, choices] passes a share in [0, 1) of the total; that sum.

    weights [batch, choices], share [batch, 1]; the places are [batch, 1].
    """
    cumulative = weights.cumsum(-1)
    threshold = share * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, threshold, right=True)
    return index.clamp(max=weights.shape[-1] - 1), cumulative


def _left_pad(prompts: list[list[int]], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    longest = max(len(prompt) for prompt in prompts)
    ids = [[pad] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
