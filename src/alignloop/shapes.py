"""Named tensor shapes, so that a signature shows what goes in and what comes out.

One alignment (decision 0001): every per-token tensor is [batch, seq] like `input_ids`; entry t of
`logprobs` is log p(token t | tokens before t), `values[t]` is the critic just before token t.
One polarity: a mask is True for what counts.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

TokenIds = Int[Tensor, "batch seq"]
TokenMask = Bool[Tensor, "batch seq"]
PerToken = Float[Tensor, "batch seq"]
PerSequence = Float[Tensor, "batch"]
Scalar = Float[Tensor, ""]
