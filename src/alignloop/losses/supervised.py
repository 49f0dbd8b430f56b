"""The loss of supervised fine-tuning, per token."""

import torch
from torch import Tensor

from alignloop.shapes import PerToken, TokenIds


def token_cross_entropy(logits: Tensor, targets: TokenIds) -> PerToken:
    """Surprise at each token: -log softmax(logits)[target], computed in float32 or wider.

    `logits[b,t]` are those that predict `targets[b,t]`: the shift by one has been made before.
    There is no ignored id such as -100; what does not count is left out by the mask of
    `reduce_tokens`, and a negative target is an error of the gather (RuntimeError).

    Where log probabilities of the tokens are already there, the loss is simply their negative.

    Shapes: `logits` [batch, seq, vocab], `targets` [batch, seq]; result [batch, seq]. Unit: nats.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logprobs = torch.log_softmax(wide, dim=-1)
    return -logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
