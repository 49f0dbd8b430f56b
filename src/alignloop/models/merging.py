"""`alignloop merge`: from an adapter to a plain model directory that needs neither PEFT nor us."""

import json
import shutil
import tempfile
from collections.abc import Iterator
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
    """Fill the folder `out` with the model of an adapter's directory, the adapter in its weights.

    `base` takes the place of the model that the adapter names. Weights keep the type in which the
    base is stored. Of a reward model the head is in it, and its reward_scale.json goes along.
    Raises UserError where there is no adapter.
    """
    if not is_adapter(adapter):
        raise UserError(
            f"there is no adapter here ({CONFIG} is missing)",
            where=str(adapter),
            fix="give a directory that a stage wrote with lora.rank set, or that PEFT wrote",
        )
    with _standing_on(base, adapter) as folder:
        stored = _stored_dtype(base_of(folder))
        working: Dtype = "bfloat16" if stored == torch.bfloat16 else "float32"
        config = ModelConfig(path=str(folder), dtype=working, device="cpu")
        makes_scores = scores(folder)
        as_it_is = makes_scores and not is_ours(folder)
        tokenizer = load_tokenizer(folder, config, as_it_is=as_it_is)
        load: Any = load_reward_model if makes_scores else load_policy
        model = load(folder, tokenizer, config).to(stored)
        if as_it_is:  # whoever reads the merged model finds the end as the adapter was taught
            model.config.pad_token_id = unread_token(folder, tokenizer)
    save_model(out, model, tokenizer)
    if (adapter / SCALE_FILE).is_file():
        shutil.copyfile(adapter / SCALE_FILE, out / SCALE_FILE)


@contextmanager
def _standing_on(base: Path | None, adapter: Path) -> Iterator[Path]:
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
    """The type of a model's weights by its config.json, which has had two names for it."""
    settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
    name = settings.get("dtype") or settings.get("torch_dtype") or "float32"
    found = getattr(torch, name, None)
    return found if isinstance(found, torch.dtype) else torch.float32
