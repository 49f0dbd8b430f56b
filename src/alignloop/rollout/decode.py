"""Sampling responses from a policy, with the log-probability of every token drawn."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from alignloop import fastpath
from alignloop.config import SamplingConfig
from alignloop.models.shared_base import activate
from alignloop.protocols import Policy
from alignloop.rollout.drawing import draw, is_stop, require_finite, uniforms_of
from alignloop.tensors import floats, integers


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
        """The response's tokens, including EOS if it was drawn."""
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
    """A prompt, (prompt_id, token ids), with the tokens drawn for it."""
    prompt_id, ids = prompt
    return Rollout(
        prompt_id=prompt_id,
        input_ids=(*ids, *tokens),
        response_start=len(ids),
        rollout_logprobs=tuple(logprobs),
        finish_reason="eos" if tokens[-1] in stop_ids else "length",
    )


class Sampler(Protocol):
    """Anything that answers tokenised prompts with rollouts, one per prompt, in order."""

    def load(self, policy: Policy, step: int) -> None:
        """Sample from the weights of `policy` after `step` steps; often nothing to do."""
        ...

    def generate(
        self, prompts: Sequence[tuple[str, Sequence[int]]], seeds: Sequence[int]
    ) -> list[Rollout]:
        """Sample one response per (prompt_id, token ids), with random numbers from its seed.

        A response depends on prompt, seed and weights, not on the rest of the batch.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LocalSampler(ABC):
    """Samples in this process from a model read in place: training it changes the samples."""

    model: Policy
    stop_ids: tuple[int, ...]
    config: SamplingConfig

    def load(self, policy: Policy, step: int) -> None:
        """Nothing to do: the sampler reads `policy` itself."""
        assert policy is self.model, "another model needs another sampler"

    def generate(
        self, prompts: Sequence[tuple[str, Sequence[int]]], seeds: Sequence[int]
    ) -> list[Rollout]:
        """Sample one response per (prompt_id, token ids), in order."""
        assert len(prompts) == len(seeds), "a seed for each prompt"
        # a role on a shared base may have another adapter active
        activate(self.model)
        uniforms = uniforms_of(seeds, self.config.max_new_tokens).to(self.model.device)
        responses = self.responses([list(ids) for _, ids in prompts], uniforms)
        return [
            as_rollout(prompt, tokens, logprobs, self.stop_ids)
            for prompt, (tokens, logprobs) in zip(prompts, responses, strict=True)
        ]

    @abstractmethod
    def responses(
        self, prompts: Sequence[list[int]], uniforms: Tensor
    ) -> list[tuple[list[int], list[float]]]:
        """Tokens and logprobs per prompt; uniforms[i, t] draws token t of row i."""

    def draw_tokens(self, logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, their logprobs, and whether they end the response, all [rows].

        Raises UserError if the logits do not define a distribution.
        """
        tokens, logprobs = draw(logits, uniforms, self.config.temperature, self.config.top_p)
        require_finite(logprobs, self.model)
        return tokens, logprobs, is_stop(tokens, self.stop_ids)


@dataclass(frozen=True, kw_only=True)
class LlamaSampler(LocalSampler):
    """Samples on the fast path; draws the same as `TransformersSampler`."""

    def responses(
        self, prompts: Sequence[list[int]], uniforms: Tensor
    ) -> list[tuple[list[int], list[float]]]:
        """Tokens and logprobs for each prompt."""
        rows = self.config.batch_size
        return fastpath.decode(self.model, prompts, uniforms, self.draw_tokens, rows=rows)


@dataclass(frozen=True, kw_only=True)
class TransformersSampler(LocalSampler):
    """Samples with a transformers model's own forward pass and KV cache.

    Finished sequences leave the batch.
    """

    pad_token_id: int

    @torch.no_grad()
    def responses(
        self, prompts: Sequence[list[int]], uniforms: Tensor
    ) -> list[tuple[list[int], list[float]]]:
        """Tokens and logprobs per prompt; prompts of similar length are decoded together."""
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found: dict[int, tuple[list[int], list[float]]] = {}
        for start in range(0, len(prompts), self.config.batch_size):
            chunk = by_length[start : start + self.config.batch_size]
            drawn = self._decode([prompts[i] for i in chunk], uniforms[chunk])
            found |= zip(chunk, drawn, strict=True)
        return [found[i] for i in range(len(prompts))]

    def _decode(
        self, prompts: list[list[int]], uniforms: Tensor
    ) -> list[tuple[list[int], list[float]]]:
        """Decode left-padded prompts together; `alive` maps rows of the batch to prompts."""
        device = self.model.device
        input_ids, mask = _left_pad(prompts, self.pad_token_id, device)
        tokens = torch.full(uniforms.shape, self.pad_token_id, device=device)
        logprobs = torch.zeros(uniforms.shape, device=device)
        lengths = torch.zeros(len(prompts), dtype=torch.long, device=device)
        cache, alive = (
            DynamicCache(config=self.model.config),
            torch.arange(len(prompts), device=device),
        )
        # left padding must not shift positions
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
            drawn, logprob, ends = self.draw_tokens(output.logits[:, -1], uniforms[alive, t])
            tokens[alive, t], logprobs[alive, t] = drawn, logprob
            lengths[alive] += 1
            # finished rows leave the batch: their forward passes would be wasted
            going_on = ~ends
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
            (integers(tokens[i, :n]), floats(logprobs[i, :n]))
            for i, n in enumerate(integers(lengths))
        ]


def cache_argument(model: Any) -> str:
    """Name of the KV cache argument of a model's forward pass: "cache" or "past_key_values".

    transformers renames it from 5.24 on, family by family, and warns about the old name.
    """
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


def _left_pad(prompts: list[list[int]], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    longest = max(len(prompt) for prompt in prompts)
    ids = [[pad] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
