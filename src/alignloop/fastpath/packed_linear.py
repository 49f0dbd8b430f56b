"""Linear layers for decoding: few rows at a time, many steps, the same weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

Project = Callable[[Tensor], Tensor]


def side_by_side(rows: int, *modules: Any) -> Project:
    """One product for several linear layers with the same input, tuned for about `rows` rows.

    Layers that are not a plain `nn.Linear` (adapters, quantised, with hooks) are called as modules.
    """
    plain = all(type(m) is nn.Linear and not has_hooks(m) for m in modules)
    if not plain or len({m.bias is None for m in modules}) > 1:
        if len(modules) == 1:
            return modules[0]
        return lambda x: torch.cat([module(x) for module in modules], dim=-1)
    weight = torch.cat([module.weight for module in modules])
    bias = None if modules[0].bias is None else torch.cat([module.bias for module in modules])
    if not _packs(weight):
        return lambda x: linear(x, weight, bias)
    # At 32 rows oneDNN packs the weight for each product, which costs as much as the product if the
    # weight exceeds the CPU cache; packed once, reading 10M parameters takes half as long.
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    product = torch.ops.mkldnn._linear_pointwise
    return lambda x: product(x, packed, bias, "none", [], "")


def has_hooks(module: Any) -> bool:
    """Whether calling the module runs more than its `forward`."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _packs(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
