"""The formula of `alignloop plan`: from a model's shape and a stage's settings to bytes.

Plain arithmetic on numbers known before a run; docs/performance.md compares it with measurements.
With P parameters of b bytes, of which T are trained:

    weights      P b                 in 4 bits: 0.516 bytes per linear weight of the trunk
    masters      4 T                 float32 copies, if the weights are bfloat16
    gradients    4 T                 in float32, even if the weights are not
    optimiser    8 T                 AdamW's two moments

    activations  tokens (layers h b + layer)      with checkpointing: the input of each layer,
                 tokens layers layer              and one layer's inside; else all of them
    layer        b (4 h + 2 q + 2 kv + 4 m) + 4 heads longest (CPU, up to 512 tokens)
    KV cache     rows (prompt + answer) layers 2 kv b
    logits       3.5 copies of a chunk in float32 (fastpath.fused_logprobs)

h is the hidden size, m the width of the MLP, q and kv those of queries and of keys. A trunk with
adapters of rank r in layers with i inputs and o outputs trains r (i + o) parameters in each, in
float32; if the weights are bfloat16, each also keeps its inputs in float32, 4 i bytes per token.
"""

from dataclasses import dataclass

LONGEST_WHOLE = 512  # fastpath.attention: up to here a CPU keeps all attention weights
CHUNK_LOGITS = {"cpu": 2**23, "cuda": 2**27}  # fastpath.fused_logprobs
# logits, exponentials and gradient, measured at between 3 and 4 copies
LOGITS_COPIES = 3.5
FOUR_BIT = 0.516  # bytes: 4 bits, plus an 8-bit scale per 64 weights


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model's sizes from its config.json; widths are those of one layer's projections.

    `parameters` counts tied ones once; `head` is a separate output layer, which a scorer lacks;
    `linear` are the trunk's linear layers; `adapter_inputs` and `adapter_width` sum the inputs, and
    inputs plus outputs, of all layers that get an adapter.
    """

    family: str
    parameters: int
    head: int
    linear: int
    layers: int
    hidden: int
    mlp: int
    heads: int
    queries: int
    keys: int
    vocabulary: int
    adapter_inputs: int
    adapter_width: int

    @property
    def trunk(self) -> int:
        """Parameters without an output layer: those of a reward model or critic."""
        return self.parameters - self.head


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """How numbers are stored: bytes per weight, the kind of device, and what is recomputed."""

    weight_bytes: int
    device: str
    checkpointing: bool
    rank: int | None
    four_bit: bool


@dataclass(frozen=True, kw_only=True)
class RoleMemory:
    """One role's parameters, and the bytes it needs while the stage runs."""

    role: str
    trainable: int
    frozen: int
    weights: int
    masters: int
    gradients: int
    optimizer: int
    on_host: bool = False

    @property
    def host(self) -> int:
        """Bytes in host memory, if the optimiser is offloaded."""
        return self.masters + self.gradients + self.optimizer if self.on_host else 0

    @property
    def held(self) -> int:
        """Bytes on the device at any time: all but gradients."""
        return self.weights + (0 if self.on_host else self.masters + self.optimizer)

    @property
    def total(self) -> int:
        """Bytes on the device at the peak of an update."""
        return self.held + (0 if self.on_host else self.gradients)


def full_role(
    role: str, parameters: int, numbers: Numbers, *, trained: bool, on_host: bool = False
) -> RoleMemory:
    """A full model; with `on_host`, gradients, masters and optimiser are in host memory."""
    learns = parameters if trained else 0
    return RoleMemory(
        role=role,
        trainable=learns,
        frozen=parameters - learns,
        weights=parameters * numbers.weight_bytes,
        masters=4 * learns if numbers.weight_bytes < 4 or on_host else 0,
        gradients=4 * learns,
        optimizer=8 * learns,
        on_host=on_host,
    )


def trunk_role(shape: Shape, numbers: Numbers, *, scores: bool) -> RoleMemory:
    """The weights shared by all adapters; with `scores`, without an output layer."""
    parameters = shape.trunk if scores else shape.parameters
    weights = parameters * numbers.weight_bytes
    if numbers.four_bit:
        weights = round(
            (parameters - shape.linear) * numbers.weight_bytes + FOUR_BIT * shape.linear
        )
    return RoleMemory(
        role="trunk",
        trainable=0,
        frozen=parameters,
        weights=weights,
        masters=0,
        gradients=0,
        optimizer=0,
    )


def adapter_role(role: str, shape: Shape, numbers: Numbers, *, trained: bool) -> RoleMemory:
    """An adapter on the trunk: r (i + o) parameters in float32 for each adapted layer."""
    assert numbers.rank is not None
    parameters = numbers.rank * shape.adapter_width
    learns = parameters if trained else 0
    return RoleMemory(
        role=role,
        trainable=learns,
        frozen=parameters - learns,
        weights=4 * parameters,
        masters=0,
        gradients=4 * learns,
        optimizer=8 * learns,
    )


def layer_bytes(shape: Shape, numbers: Numbers, longest: int) -> int:
    """Bytes per token that one layer keeps for the backward pass.

    Its input, the attention's output, and both normed: 4 h. Queries and what they read: 2 q; keys
    and values: 2 kv. The MLP's gate, its activation, up and their product: 4 m.
    """
    b = numbers.weight_bytes
    found = b * (4 * shape.hidden + 2 * shape.queries + 2 * shape.keys + 4 * shape.mlp)
    if numbers.device == "cpu" and longest <= LONGEST_WHOLE:
        found += b * shape.heads * longest
    if numbers.rank is not None and b < 4:
        found += 4 * shape.adapter_inputs // shape.layers
    return found


def activation_bytes(shape: Shape, numbers: Numbers, tokens: int, longest: int) -> int:
    """Bytes that a micro-batch of `tokens` keeps between forward and backward pass."""
    layer = layer_bytes(shape, numbers, longest)
    if numbers.checkpointing:
        return tokens * (shape.layers * shape.hidden * numbers.weight_bytes + layer)
    return tokens * shape.layers * layer


def logits_bytes(shape: Shape, numbers: Numbers, tokens: int) -> int:
    """Bytes of the logits that exist at a time, with their exponentials and gradient."""
    chunk = max(shape.vocabulary, CHUNK_LOGITS[numbers.device])
    return round(LOGITS_COPIES * 4 * min(tokens * shape.vocabulary, chunk))


def cache_bytes(shape: Shape, numbers: Numbers, rows: int, length: int) -> int:
    """Keys and values of all layers for `rows` sequences of `length` tokens."""
    return rows * length * shape.layers * 2 * shape.keys * numbers.weight_bytes


def side_by_side_bytes(shape: Shape, numbers: Numbers) -> int:
    """The fast decoder's copies of matrices with the same input; none with adapters."""
    if numbers.rank is not None:
        return 0
    width = shape.queries + 2 * shape.keys + 2 * shape.mlp
    return shape.layers * shape.hidden * width * numbers.weight_bytes
