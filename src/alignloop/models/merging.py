"""`alignloop merge`: from an adapter to a full model directory that does not need PEFT."""

import json
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from alignloop.config import ModelConfig
from alignloop.config.model_paths import no_model
from alignloop.errors import UserError
from alignloop.models.adapters import CONFIG, base_of, is_adapter, scores
from alignloop.models.kinds import is_ours, unread_token
from alignloop.models.loading import load_policy, load_reward_model, load_tokenizer
from alignloop.models.saving import SCALE_FILE, save_model

Dtype = Literal["float32", "bfloat16"]


def merge_adapter(adapter: Path, out: Path, base: Path | None = None) -> None:
    """Write the merged model of an adapter's directory into the folder `out`.

    `base` overrides the base model that the adapter names. Weights keep the dtype in which the base
    is stored. A reward model's head and reward_scale.json are included.
    Raises UserError if there is no adapter.
    """
    if not is_adapter(adapter):
        raise UserError(
            f"there is no adapter here ({CONFIG} is missing)",
            where=str(adapter),
            fix="give a directory written by a stage with lora.rank set, or by PEFT",
        )
    with _with_base(base, adapter) as folder:
        stored = _stored_dtype(base_of(folder))
        working: Dtype = "bfloat16" if stored == torch.bfloat16 else "float32"
        config = ModelConfig(path=str(folder), dtype=working, device="cpu")
        makes_scores = scores(folder)
        as_it_is = makes_scores and not is_ours(folder)
        tokenizer = load_tokenizer(folder, config, as_it_is=as_it_is)
        load: Any = load_reward_model if makes_scores else load_policy
        model = load(folder, tokenizer, config).to(stored)
        if as_it_is:  # the merged model must find the end of a text as the adapter was trained to
            model.config.pad_token_id = unread_token(folder, tokenizer)
    save_model(out, model, tokenizer)
    if (adapter / SCALE_FILE).is_file():
        shutil.copyfile(adapter / SCALE_FILE, out / SCALE_FILE)


@contextmanager
def _with_base(base: Path | None, adapter: Path) -> Generator[Path]:
    """The adapter's directory, or a copy of it that names another base."""
    if base is None:
        yield adapter
        return
    if not (base / "config.json").is_file():
        raise no_model(base, "--base")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "adapter"
        shutil.copytree(adapter, folder)
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        settings["base_model_name_or_path"] = str(base.resolve())
        (folder / CONFIG).write_text(json.dumps(settings), encoding="utf-8")
        yield folder


def _stored_dtype(base: Path) -> torch.dtype:
    """Dtype of a model's weights by its config.json, in which the key was renamed."""
    settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
    name = settings.get("dtype") or settings.get("torch_dtype") or "float32"
    found = getattr(torch, name, None)
    return found if isinstance(found, torch.dtype) else torch.float32
