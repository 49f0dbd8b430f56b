"""Continuous batching: when a response ends, the next prompt takes over its row of the decoder."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from alignloop.fastpath.llama_decoder import LlamaDecoder
from alignloop.protocols import Policy
from alignloop.tensors import floats, integers

# Refill when this share of the rows is free: reading prompts one at a time costs more.
REFILL_SHARE = 0.25

# (logits [rows, vocabulary], uniforms [rows]) to tokens, logprobs and whether a token ends its
# response, all [rows]
Draw = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
Response = tuple[list[int], list[float]]  # tokens and their logprobs


@torch.inference_mode()
def decode(
    model: Policy,
    prompts: Sequence[Sequence[int]],
    uniforms: Tensor,
    draw: Draw,
    *,
    rows: int,
) -> list[Response]:
    """One response per prompt, in order; at most `rows` are decoded at a time.

    `uniforms` [prompts, max new tokens] go to `draw`: entry (i, t) draws token t of the response
    to prompt i, whichever row and step computes it.
    """
    scheduler = Scheduler(model, prompts, uniforms, draw, rows=rows)
    while scheduler.refill() or scheduler.decoder.count:
        scheduler.advance()
    return scheduler.responses()


class Scheduler:
    """Tracks which prompt occupies which row of the decoder, and the tokens drawn for each."""

    def __init__(
        self,
        model: Policy,
        prompts: Sequence[Sequence[int]],
        uniforms: Tensor,
        draw: Draw,
        *,
        rows: int,
    ) -> None:
        device = uniforms.device
        self.rows = min(rows, len(prompts))
        # the longest prompt with the longest response: the cache is never reallocated
        capacity = max(map(len, prompts), default=0) + uniforms.shape[1]
        self.decoder = LlamaDecoder(model, rows=self.rows, capacity=capacity)
        self._tokens = torch.zeros(uniforms.shape, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(uniforms.shape, device=device)
        self._drawn = torch.zeros(len(prompts), dtype=torch.long, device=device)
        self._prompts, self._uniforms, self._draw_tokens = prompts, uniforms, draw
        # taken from the end, so shortest first: prompts read together have similar lengths
        self._waiting = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        self._owners = torch.zeros(self.rows, dtype=torch.long, device=device)  # prompt by row
        self._next = torch.zeros(self.rows, dtype=torch.long, device=device)

    def refill(self) -> bool:
        """Read waiting prompts into free rows if enough are free; True if any were read."""
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

    def responses(self) -> list[Response]:
        """Tokens and logprobs drawn for each prompt."""
        # one copy of each, not one per row: on a GPU each waits for the device
        tokens, logprobs = self._tokens.cpu(), self._logprobs.cpu()
        return [
            (integers(tokens[i, :n]), floats(logprobs[i, :n]))
            for i, n in enumerate(integers(self._drawn))
        ]

    def advance(self) -> None:
        """Decode one more token for every row."""
        if self.decoder.count:
            self._draw(0, self.decoder.step(self._next[: self.decoder.count]))

    def _draw(self, begin: int, logits: Tensor) -> None:
        """Draw for the rows from `begin` on, and free the rows whose responses ended."""
        owners = self._owners[begin : self.decoder.count]
        counts = self._drawn[owners]
        drawn, logprobs, ends = self._draw_tokens(logits, self._uniforms[owners, counts])
        self._next[begin : self.decoder.count] = drawn
        self._tokens[owners, counts], self._logprobs[owners, counts] = drawn, logprobs
        self._drawn[owners] = counts + 1
        over = ends | (counts == self._uniforms.shape[1] - 1)
        # from the back: `drop` moves the last row into the gap, which must not be one still to drop
        for row in reversed(integers(over.nonzero().flatten())):
            self.decoder.drop(begin + row)
            for rows in (self._next, self._owners):
                rows[begin + row] = rows[self.decoder.count]
