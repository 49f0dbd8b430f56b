"""Weights in 4 bits (QLoRA), if bitsandbytes supports the device. It is imported only here."""

import importlib.util
from typing import TYPE_CHECKING, Any

from alignloop.errors import UserError

if TYPE_CHECKING:
    import torch


def four_bit_options(device: "torch.device") -> dict[str, Any]:
    """Options of `from_pretrained` for linear layers in 4 bits (nf4, scales in 8 bits).

    Source: Dettmers et al. 2023 (arXiv:2305.14314). Raises UserError if not supported.
    """
    if device.type != "cuda":
        raise UserError(
            "weights in 4 bits need a GPU, but the model is on the CPU",
            where="lora.load_in_4bit",
            fix="set it to false, or model.device to 'cuda' on a machine with a GPU",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "weights in 4 bits need bitsandbytes, which is not installed",
            where="lora.load_in_4bit",
            fix="`pip install bitsandbytes`, or set lora.load_in_4bit to false",
        )
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": device}}
