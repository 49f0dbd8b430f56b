"""The only place that chooses the device of a process."""

import torch

from alignloop.config import ModelConfig
from alignloop.errors import UserError
from alignloop.parallel import PLACE_VARIABLE, place_on_machine


def device_of(config: ModelConfig) -> torch.device:
    """The torch device for `model.device`; a GPU always has its index.

    "auto" is a GPU if there is one. The index is that of the setting ("cuda:1"), otherwise the
    local rank of the process. Raises UserError if there is no such GPU.
    """
    kind, _, index = config.device.partition(":")
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            "torch finds no GPU",
            where="model.device",
            fix="set model.device to 'auto' or 'cpu', or install torch for CUDA",
        )
    number, count = int(index or place_on_machine()), torch.cuda.device_count()
    if number >= count:
        raise UserError(
            f"there is no GPU {number}: torch finds {count}, counted from 0",
            where="model.device" if index else PLACE_VARIABLE,
            fix="start at most one process per GPU, or set model.device to another one",
        )
    return torch.device("cuda", number)
