"""Sampling on the fast decoder: a response that ends gives its row to the next prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignloop.config import SamplingConfig
from alignloop.rollout.decode import Rollout, as_rollout, draw, is_stop, require_finite
from alignloop.rollout.llama import LlamaDecoder

# New prompts are read when this share of the rows is free: reading them one by one costs more.
REFILL_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class LlamaSampler:
    """Samples from a model of the Llama family; the same draws as `TransformersSampler`."""

    model: Any
    stop_ids: tuple[int, ...]
    config: SamplingConfig

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[tuple[str, Sequence[int]]], generator: torch.Generator
    ) -> list[Rollout]:
        """Sample one response to each (prompt_id, token ids), in their order."""
        uniforms = torch.rand(len(prompts), self.config.max_new_tokens, generator=generator)
        slots = _Slots(self, [list(ids) for _, ids in prompts], uniforms.to(self.model.device))
        while slots.refill() or slots.decoder.count:
            slots.advance()
        return [
            as_rollout(prompt, tokens, logprobs, self.stop_ids)
            for prompt, (tokens, logprobs) in zip(prompts, slots.responses(), strict=True)
        ]


class _Slots:
    """Which prompt stands in which row of the decoder, and what was drawn for each prompt."""

    def __init__(self, sampler: LlamaSampler, prompts: list[list[int]], uniforms: Tensor) -> None:
        config, device = sampler.config, uniforms.device
        self.rows = min(config.batch_size, len(prompts))
        capacity = max(map(len, prompts), default=0) + config.max_new_tokens
        self.decoder = LlamaDecoder(
            sampler.model, rows=self.rows, capacity=capacity, compiled=config.compile
        )
        self._tokens = torch.zeros(uniforms.shape, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(uniforms.shape, device=device)
        self._drawn = torch.zeros(len(prompts), dtype=torch.long, device=device)
        self._prompts, self._uniforms = prompts, uniforms
        # the longest last: neighbours are padded to the same length and the shortest ends first
        self._waiting = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        self._stops, self._config, self._model = sampler.stop_ids, config, sampler.model
        self._owners = torch.zeros(self.rows, dtype=torch.long, device=device)  # prompt by row
        self._next = torch.zeros(self.rows, dtype=torch.long, device=device)

    def refill(self) -> bool:
        """Read waiting prompts into free rows where it is worth it; whether it did."""
        free = self.rows - self.decoder.count
        if not self._waiting or free < max(1, REFILL_SHARE * self.rows):
            return False
        begin = self.decoder.count
        chosen = [self._waiting.pop() for _ in range(min(free, len(self._waiting)))]
        logits = self.decoder.add([self._prompts[i] for i in chosen])
        owners = self._owners.new_tensor(chosen)
        self._owners[begin : begin + len(chosen)] = owners
        self._draw(begin, logits)
        return True

    def responses(self) -> list[tuple[list[int], list[float]]]:
        """What was drawn for each prompt: tokens and logprobs."""
        tokens, logprobs = self._tokens.tolist(), self._logprobs.tolist()
        return [(tokens[i][:n], logprobs[i][:n]) for i, n in enumerate(self._drawn.tolist())]

    def advance(self) -> None:
        """One more token for every row."""
        if self.decoder.count:
            self._draw(0, self.decoder.step(self._next[: self.decoder.count]))

    def _draw(self, begin: int, logits: Tensor) -> None:
        """Draw for the rows from `begin` on; the rows of responses that ended are given up."""
        owners = self._owners[begin : self.decoder.count]
        counts = self._drawn[owners]
        uniforms = self._uniforms[owners, counts]
        drawn, logprobs = draw(logits, uniforms, self._config.temperature, self._config.top_p)
        require_finite(logprobs, self._model)
        self._next[begin : self.decoder.count] = drawn
        self._tokens[owners, counts], self._logprobs[owners, counts] = drawn, logprobs
        self._drawn[owners] = counts + 1
        over = is_stop(drawn, self._stops) | (counts == self._uniforms.shape[1] - 1)
        for row in reversed(over.nonzero().flatten().tolist()):
            self.decoder.drop(begin + row)
            for rows in (self._next, self._owners):
                rows[begin + row] = rows[self.decoder.count]
