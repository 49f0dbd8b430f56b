"""PEFT's directories: adapters on disk, as `PeftModel.from_pretrained` reads and writes them.

An adapter's directory holds adapter_config.json, adapter_model.safetensors and, from us, tokenizer
and chat template. The model that the adapter belongs to is named in it, not copied.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alignloop.errors import UserError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
POLICY, SCORER = "CAUSAL_LM", "SEQ_CLS"  # PEFT's names of what an adapter's model is for
HEAD = "base_model.model.score.weight"


def is_adapter(folder: Path) -> bool:
    """Whether a directory holds an adapter rather than a model of its own."""
    return (folder / CONFIG).is_file()


def base_of(folder: Path) -> Path:
    """The plain model directory that a directory's weights belong to: itself, or its adapter's.

    Raises UserError where the adapter's model is not on this machine.
    """
    if not is_adapter(folder):
        return folder
    name = _settings(folder).get("base_model_name_or_path") or ""
    for base in (Path(name), folder / name):
        if name and (base / "config.json").is_file():
            return base
    raise UserError(
        f"this adapter belongs to the model {name!r}, which is not there",
        where=str(folder / CONFIG),
        fix="put that model there, or `alignloop merge ADAPTER_DIR OUT --base DIR`",
    )


def scores(folder: Path) -> bool:
    """Whether an adapter makes a reward model."""
    return _settings(folder).get("task_type") == SCORER


def read_shape(folder: Path) -> Any:
    """The `peft.LoraConfig` of an adapter directory, without what is said about heads."""
    import peft

    kind = _settings(folder).get("peft_type")
    if kind != "LORA":
        raise UserError(f"only adapters of type LORA are read, not {kind}", where=str(folder))
    try:
        found = peft.LoraConfig.from_pretrained(str(folder))
    except (TypeError, ValueError) as error:
        raise UserError(f"this file is damaged: {error}", where=str(folder / CONFIG)) from None
    return dataclasses.replace(found, task_type=None, modules_to_save=None, inference_mode=False)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter directory, by the names that PEFT gives them on disk."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(
            f"this adapter has no {WEIGHTS}",
            where=str(folder),
            fix="save it with `model.save_pretrained(folder, safe_serialization=True)`",
        )
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"the adapter cannot be read: {error}", where=str(path)) from None


def write_adapter(
    folder: Path, shape: Any, tensors: Mapping[str, Tensor], *, base: Path, task: str
) -> None:
    """Write configuration and tensors; `base` is the model's directory, kept as a whole path."""
    settings = shape.to_dict() | {
        "base_model_name_or_path": str(base.resolve()),
        "inference_mode": True,
        "modules_to_save": ["score"] if task == SCORER else None,
        "task_type": task,
    }
    # PEFT keeps names in sets: sorted, so that the same adapter is the same file
    plain = {key: sorted(v) if isinstance(v, set) else v for key, v in settings.items()}
    text = json.dumps(plain, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )


def adapter_parameters(model: nn.Module, adapter: str) -> dict[str, nn.Parameter]:
    """An adapter's parameters in a model, by their names on disk, where it is nameless."""
    found: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        on_disk, count = re.subn(rf"(\.lora_\w+)\.{re.escape(adapter)}(?=\.|$)", r"\1", name)
        if count:
            found[f"base_model.model.{on_disk}"] = parameter
    return found


@torch.no_grad()
def fill(parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Put tensors of an adapter directory into parameters of the same names, in place.

    Raises UserError where names or shapes are not those of this model.
    """
    strangers = set(parameters) ^ {name for name in tensors if name != HEAD}
    if strangers:
        raise UserError(
            f"the adapter is not of this model: {len(strangers)} tensors have no counterpart, such"
            f" as {min(strangers)}",
            where=str(folder),
        )
    for name, parameter in parameters.items():
        if parameter.shape != tensors[name].shape:
            raise UserError(
                f"the adapter is not of this model: {name} is {tuple(tensors[name].shape)} and not"
                f" {tuple(parameter.shape)}",
                where=str(folder),
            )
        parameter.copy_(tensors[name])


@torch.no_grad()
def fill_head(head: nn.Linear, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Put the scalar head of an adapter directory into a reward model's."""
    weight = tensors.get(HEAD)
    if weight is None or weight.shape != head.weight.shape:
        raise UserError("this adapter has no scalar head for this model", where=str(folder))
    head.weight.copy_(weight)


def merged(model: Any, folder: Path) -> Any:
    """The plain model with an adapter directory's changes in its weights: W + alpha / rank * B A.

    A reward model's head comes from there too.
    """
    from peft.tuners.lora import LoraModel

    shape, tensors = read_shape(folder), read_weights(folder)
    tuner = LoraModel(model, shape, "merged")
    fill(adapter_parameters(model, "merged"), tensors, folder)
    plain: Any = tuner.merge_and_unload()
    plain.requires_grad_(True)
    if scores(folder) and hasattr(plain, "score"):
        fill_head(plain.score, tensors, folder)
    return plain


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"this file is damaged: {error}", where=str(path)) from None
    if not isinstance(found, dict):
        raise UserError("this file is damaged: it holds no table", where=str(path))
    return found
