"""Checkpoints that a kill or a full disk cannot spoil: tensors as safetensors, the rest as JSON.

The only submodule of the room that imports torch at its top; `alignloop.run` does not import it.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from alignloop.errors import UserError
from alignloop.run.files import atomic_folder, read_object, remove_folder

_log = logging.getLogger(__name__)
_FOLDER_NAME = re.compile(r"step-(\d{6,})")
_TENSORS, _STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What `save_checkpoint` was given: everything a stage needs to go on after `step`."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path | str,
    step: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
) -> Path:
    """Write `folder/step-000123`, whole or not at all, then delete all but the newest `keep`.

    `state` is JSON: keys come back as text and tuples as lists. Checkpoints of later steps belong
    to a future that was given up and go too. Tied tensors are stored once per name.
    Raises `UserError` when the disk is full; the earlier checkpoints are then intact.
    """
    assert keep >= 1 and step >= 0, (keep, step)
    target = Path(folder) / f"step-{step:06d}"
    with atomic_folder(target) as temporary:
        path = temporary / _TENSORS
        _write_tensors(path, _untied(tensors))
        header = {"step": step, "sha256": _sha256(path), "bytes": path.stat().st_size}
        text = json.dumps({**header, "state": dict(state)}, ensure_ascii=False, allow_nan=False)
        (temporary / _STATE).write_text(text + "\n", encoding="utf-8")
        # safetensors makes private files (0600); colleagues may read a checkpoint like any file.
        path.chmod((temporary / _STATE).stat().st_mode & 0o777)
    _prune(Path(folder), step, keep)
    return target


def load_latest(
    folder: Path | str,
    *,
    device: str = "cpu",
    sound: Callable[[dict[str, Any]], bool] = lambda _: True,
) -> Checkpoint | None:
    """The newest checkpoint that is complete and whose checksum is right, or None.

    One that is torn or altered, or whose state is not `sound`, is passed over with a warning.
    """
    for step in sorted(_steps(Path(folder)), reverse=True):
        path = Path(folder) / f"step-{step:06d}"
        try:
            state = _verified_state(path, step)
            if not sound(state):
                raise ValueError(f"{_STATE} is not what a stage saves")
            return Checkpoint(step=step, tensors=load_file(path / _TENSORS, device), state=state)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            _log.warning("passing over the damaged checkpoint %s: %s", path, error)
    return None


def any_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint to go on from, sound or not."""
    return bool(_steps(folder))


def memories(folder: Path) -> list[dict[str, Any]]:
    """What the stage remembered at each checkpoint that can be read."""
    found: list[dict[str, Any]] = []
    for step in _steps(folder):
        try:
            found.append(read_object(folder / f"step-{step:06d}" / _STATE)["state"]["memory"])
        except (OSError, KeyError, TypeError, UserError):
            continue
    return found


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """The optimiser's state as tensors named `<prefix>.<parameter index>.<key>`, without pickle.

    For Adam the keys are exp_avg, exp_avg_sq and step. The groups' numbers (lr, betas) are not
    stored: they come from the config and the schedule.
    """
    found: dict[str, Tensor] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            if value is None:  # SGD without momentum keeps empty places
                continue
            assert isinstance(value, Tensor), f"cannot store {key} of type {type(value).__name__}"
            found[f"{prefix}.{index}.{key}"] = value
    return found


def load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str
) -> None:
    """Put back what `optimizer_tensors` took, in place; the groups keep their present numbers.

    A schedule is made again by the caller: `LambdaLR(optimizer, f, last_epoch=steps_done - 1)`
    after setting each group's `initial_lr`. Raises `UserError` when the shapes are not the model's.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.(.+)")
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = pattern.fullmatch(name)
        if match is None:
            continue
        index, key = int(match[1]), match[2]
        _check_belongs(name, tensor, parameters, index)
        # A clone: the optimiser writes in place, and a checkpoint is not ours to change.
        state.setdefault(index, {})[key] = tensor.clone()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _check_belongs(name: str, tensor: Tensor, parameters: list[Tensor], index: int) -> None:
    # Every state of Adam, SGD and RMSprop has its parameter's shape or, like a step, none at all.
    if index < len(parameters) and (tensor.dim() == 0 or tensor.shape == parameters[index].shape):
        return
    shape = tuple(parameters[index].shape) if index < len(parameters) else "no such parameter"
    raise UserError(
        f"the checkpoint holds {tuple(tensor.shape)} where this model has {shape}",
        where=name,
        fix="resume with the model and settings that wrote the checkpoint",
    )


def _untied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU of which no two share memory, as safetensors wants them."""
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        address = plain.untyped_storage().data_ptr()
        result[name] = plain.clone() if address in seen else plain
        seen.add(address)
    return result


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        # safetensors hides the system's error in its text; a full disk has to be recognised.
        raise OSError(int(number[1]), str(error)) from error


def _verified_state(path: Path, step: int) -> dict[str, Any]:
    content = json.loads((path / _STATE).read_text(encoding="utf-8"))
    tensors = path / _TENSORS
    if content["step"] != step:
        raise ValueError(f"it says that it is of step {content['step']}")
    if tensors.stat().st_size != content["bytes"]:
        raise ValueError(f"{_TENSORS} has {tensors.stat().st_size} of {content['bytes']} bytes")
    if _sha256(tensors) != content["sha256"]:
        raise ValueError(f"{_TENSORS} has another checksum")
    if not isinstance(content["state"], dict):
        raise ValueError(f"{_STATE} holds no state")
    return content["state"]


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    matches = (_FOLDER_NAME.fullmatch(path.name) for path in folder.iterdir())
    return [int(match[1]) for match in matches if match]


def _prune(folder: Path, step: int, keep: int) -> None:
    steps = _steps(folder)
    newest = sorted(one for one in steps if one <= step)[-keep:]
    for one in set(steps) - set(newest):
        remove_folder(folder / f"step-{one:06d}")
