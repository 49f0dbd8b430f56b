"""Where models live: one place chooses the device of a process."""

import torch

from alignloop.config import ModelConfig
from alignloop.errors import UserError
from alignloop.parallel import PLACE_VARIABLE, place_on_machine


def device_of(config: ModelConfig) -> torch.device:
    """The device of `model.device`; a GPU always with its index.

    "auto" is a GPU if there is one. The index is that of the setting ("cuda:1"), otherwise
    the place of the process on its machine. Raises UserError if
    there is no such GPU.
    """
    kind, _, index = config.device.partition(":")
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            "there is no GPU that torch can use",
            where="model.device",
            fix="set model.device to 'auto' or 'cpu', or install torch for CUDA",
        )
    number, count = int(index or place_on_machine()), torch.cuda.device_count()
    if number >= count:
        raise UserError(
            f"there is no GPU {number}: torch sees {count}, counted from 0",
            where="model.device" if index else PLACE_VARIABLE,
            fix="start at most one process for each GPU, or name another one in model.device",
        )
    return torch.device("cuda", number)
