"""Own kernels for the Llama family: one forward pass for training, one decoder for rollouts.

Code elsewhere checks `supports(model)` first and falls back to transformers.
"""

from alignloop.fastpath.continuous_batching import decode
from alignloop.fastpath.fused_logprobs import target_logprobs
from alignloop.fastpath.llama_forward import forward, supports

__all__ = ["decode", "forward", "supports", "target_logprobs"]
