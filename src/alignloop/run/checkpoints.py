"""Checkpoints that survive a kill or a full disk: tensors as safetensors, the rest as JSON.

The only module of `run` with torch imported at the top; `alignloop.run` does not import it.
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
    """The arguments of `save_checkpoint`: everything a stage needs to resume after `step`."""

    # no pickle anywhere: a checkpoint from a stranger must not run code (decision 0005)

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

    `state` is JSON: keys come back as text and tuples as lists. Checkpoints of later steps are
    deleted too, since the run went back to before them. Tied tensors are stored once per name.
    Raises `UserError` if the disk is full; earlier checkpoints are then intact.
    """
    assert keep >= 1 and step >= 0, (keep, step)
    target = Path(folder) / f"step-{step:06d}"
    with atomic_folder(target) as temporary:
        path = temporary / _TENSORS
        _write_tensors(path, _untied(tensors))
        # the checksum is read back before a checkpoint is trusted
        header = {"step": step, "sha256": _sha256(path), "bytes": path.stat().st_size}
        text = json.dumps({**header, "state": dict(state)}, ensure_ascii=False, allow_nan=False)
        (temporary / _STATE).write_text(text + "\n", encoding="utf-8")
        # safetensors creates private files (0600); give them the mode of the other files
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

    A torn or altered one, or one whose state is not `sound`, is skipped with a warning.
    """
    for step in sorted(_steps(Path(folder)), reverse=True):
        path = Path(folder) / f"step-{step:06d}"
        try:
            state = _verified_state(path, step)
            if not sound(state):
                raise ValueError(f"{_STATE} was not written by a stage")
            return Checkpoint(step=step, tensors=load_file(path / _TENSORS, device), state=state)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            _log.warning("skipping the damaged checkpoint %s: %s", path, error)
    return None


def any_checkpoint(folder: Path) -> bool:
    """Whether there is any checkpoint, sound or not."""
    return bool(_steps(folder))


def memories(folder: Path) -> list[dict[str, Any]]:
    """The stage's memory at each readable checkpoint."""
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
    stored: config and schedule give them.
    """
    found: dict[str, Tensor] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            if value is None:  # SGD without momentum has empty entries
                continue
            assert isinstance(value, Tensor), f"cannot store {key} of type {type(value).__name__}"
            found[f"{prefix}.{index}.{key}"] = value
    return found


def load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str
) -> None:
    """Restore the output of `optimizer_tensors` in place; the groups keep their current numbers.

    The caller recreates a schedule: `LambdaLR(optimizer, f, last_epoch=steps_done - 1)` after
    setting each group's `initial_lr`. Raises `UserError` if the shapes do not match the model's.
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
        # Clone: the optimiser writes in place, and the caller's checkpoint must not change.
        state.setdefault(index, {})[key] = tensor.clone()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _check_belongs(name: str, tensor: Tensor, parameters: list[Tensor], index: int) -> None:
    # Every state of Adam, SGD and RMSprop has its parameter's shape or, like a step, is a scalar.
    if index < len(parameters) and (tensor.dim() == 0 or tensor.shape == parameters[index].shape):
        return
    shape = tuple(parameters[index].shape) if index < len(parameters) else "no such parameter"
    raise UserError(
        f"shape {tuple(tensor.shape)} in the checkpoint, {shape} in this model",
        where=name,
        fix="resume with the model and settings that wrote the checkpoint",
    )


def _untied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors, no two of which share memory, as safetensors requires."""
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
        # safetensors hides the errno in its message; a full disk has to be recognised
        raise OSError(int(number[1]), str(error)) from error


def _verified_state(path: Path, step: int) -> dict[str, Any]:
    content = json.loads((path / _STATE).read_text(encoding="utf-8"))
    tensors = path / _TENSORS
    if content["step"] != step:
        raise ValueError(f"it claims to be of step {content['step']}")
    if tensors.stat().st_size != content["bytes"]:
        raise ValueError(f"{_TENSORS} has {tensors.stat().st_size} of {content['bytes']} bytes")
    if _sha256(tensors) != content["sha256"]:
        raise ValueError(f"the checksum of {_TENSORS} is wrong")
    if not isinstance(content["state"], dict):
        raise ValueError(f"{_STATE} contains no state")
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
