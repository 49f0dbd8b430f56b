"""Our own kernels for the Llama family: one forward pass for training, one decoder for rollouts.

Everything outside this room asks `supports(model)` first, and goes through transformers otherwise.
"""

from alignloop.fastpath.continuous_batching import decode
from alignloop.fastpath.fused_logprobs import target_logprobs
from alignloop.fastpath.llama_forward import forward, supports

__all__ = ["decode", "forward", "supports", "target_logprobs"]
