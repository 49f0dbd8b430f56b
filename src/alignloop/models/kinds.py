"""What a model directory holds, without reading its weights: a policy, a reward model, or neither.

Decided by config.json and the tensor names and shapes in its safetensors headers. Other libraries'
reward models may name their head differently and give the normalisation of scores in config.json.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from safetensors import SafetensorError, safe_open
from torch import Tensor

from alignloop.errors import UserError
from alignloop.models.adapters import base_of, is_adapter, scores

SCALE_FILE = "reward_scale.json"  # in every reward model trained here, and in no other
# Names of scalar heads: transformers' own, then those of OpenRLHF, TRL's value heads,
# LLaMA-Factory and others.
OF_CLASSIFIERS = ("score", "classifier", "classification_head")
OF_OTHERS = ("value_head", "v_head.summary", "v_head", "reward_head", "regression_head", "rm_head")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
OUTPUT_LAYERS = ("lm_head.", "embed_out.", "output.")


@dataclass(frozen=True, kw_only=True)
class Head:
    """A scalar head on disk: its file, and the tensors' names without ".weight"."""

    file: Path
    name: str
    rows: int  # outputs per hidden state
    has_bias: bool

    def tensors(self) -> tuple[Tensor, Tensor | None]:
        """Weight [rows, hidden] and, if present, bias [rows]."""
        with safe_open(self.file, framework="pt") as file:
            bias = file.get_tensor(f"{self.name}.bias") if self.has_bias else None
            return file.get_tensor(f"{self.name}.weight"), bias


def settings_of(folder: Path) -> dict[str, Any]:
    """The config.json of a directory, or of its adapter's base model."""
    path = base_of(folder) / "config.json"
    try:
        found: JsonValue = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"this file is damaged: {error}", where=str(path)) from None
    if not isinstance(found, dict):
        raise UserError("this file is damaged: it holds no JSON object", where=str(path))
    return found


def is_ours(folder: Path) -> bool:
    """Whether a reward model was trained here; it then reads all tokens of prompt and answer."""
    return (folder / SCALE_FILE).is_file()


def head_of(folder: Path) -> Head | None:
    """The scalar head among the weights of a full model directory; None if there is none."""
    prefix = settings_of(folder).get("value_head_prefix")
    named = (prefix,) if isinstance(prefix, str) else ()
    for file in sorted(folder.glob("*.safetensors")):
        names = _names(file)
        for name in (*named, *OF_CLASSIFIERS, *OF_OTHERS):
            if f"{name}.weight" in names:
                shape = _shape(file, f"{name}.weight")
                has_bias = f"{name}.bias" in names
                return Head(file=file, name=name, rows=shape[0], has_bias=has_bias)
    return None


def is_reward_model(folder: Path) -> bool:
    """Whether a directory holds a model with a single score per text."""
    if is_adapter(folder):
        return scores(folder)
    settings = settings_of(folder)
    classes: list[str] = settings.get("architectures") or []
    if not any("SequenceClassification" in name for name in classes):
        head = head_of(folder)
        return head is not None and head.rows == 1
    labels = settings.get("id2label")
    if labels is not None or "num_labels" in settings:
        return settings.get("num_labels", len(labels or ())) == 1
    head = head_of(folder)
    return head is None or head.rows == 1


def require_policy(folder: Path) -> None:
    """Raise UserError, naming what the directory holds, unless it is a language model.

    Loading would not fail: with tied embeddings such a model lacks no tensor.
    """
    if is_adapter(folder):
        if scores(folder):
            raise UserError(
                "this adapter is a reward model, which cannot be a policy",
                where=str(folder),
                fix="name an adapter of a causal language model (task_type CAUSAL_LM)",
            )
        return require_policy(base_of(folder))
    settings = settings_of(folder)
    classes: list[str] = settings.get("architectures") or []
    if classes and not any(_writes_text(name, settings) for name in classes):
        kind = "a reward model or classifier" if _scores(classes[0], folder) else "not a causal LM"
        raise UserError(
            f"this is a {classes[0]}, {kind}: it cannot be a policy",
            where=str(folder),
            fix="name the directory of a complete causal language model",
        )
    head = head_of(folder)
    if head is not None and head.name in OF_CLASSIFIERS and not _has_output_layer(folder):
        raise UserError(
            f"the weights have a reward model's head ({head.name}) and no output layer: this"
            " cannot be a policy",
            where=str(folder),
            fix="name the directory of a causal language model",
        )
    return None


def scale_in_config(folder: Path) -> tuple[float, float] | None:
    """Mean and standard deviation of a model's scores if its config.json gives both.

    OpenRLHF writes them. Raises UserError if the deviation is not positive and finite.
    """
    settings = settings_of(folder)
    mean, std = settings.get("mean"), settings.get("std")
    if not (isinstance(mean, int | float) and isinstance(std, int | float)):
        return None
    if not 0 < std < float("inf"):
        raise UserError(
            f"the standard deviation of this model's scores is {std}, not positive and finite",
            where=f"{base_of(folder) / 'config.json'}, std",
            fix="set mean to 0 and std to 1, or to those of its scores",
        )
    return float(mean), float(std)


def by_openrlhf(folder: Path) -> bool:
    """Whether a reward model has OpenRLHF's class, which reads EOS at the end of every text."""
    return "RewardModel" in (settings_of(folder).get("architectures") or [])


def by_transformers(folder: Path) -> bool:
    """Whether a reward model has a transformers class, which pools the last token but PAD."""
    if is_adapter(folder):
        return True
    classes = settings_of(folder).get("architectures") or ["SequenceClassification"]
    return any("SequenceClassification" in name for name in classes)


def unread_token(folder: Path, tokenizer: Any) -> int | None:
    """The token that a transformers reward model skips at the end of a text: its PAD.

    From config.json; for an adapter, from its own tokenizer, with which the trainer padded.
    Models trained here, and those of other classes, read the last token whatever it is.
    """
    if is_ours(folder) or not by_transformers(folder):
        return None
    has_tokenizer = any((folder / name).is_file() for name in TOKENIZER_FILES)
    if is_adapter(folder) and has_tokenizer and tokenizer.pad_token_id is not None:
        return tokenizer.pad_token_id
    settings = settings_of(folder)
    return settings.get("text_config", settings).get("pad_token_id")


def _writes_text(name: str, settings: dict[str, Any]) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if "Classification" in name or "Reward" in name:
        return False
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(settings.get("model_type", ""))
    parts = ("CausalLM", "LMHead", "ConditionalGeneration")
    by_own_code = "AutoModelForCausalLM" in (settings.get("auto_map") or {})
    return by_own_code or name == known or any(part in name for part in parts)


def _scores(name: str, folder: Path) -> bool:
    return "Classification" in name or "Reward" in name or head_of(folder) is not None


def _has_output_layer(folder: Path) -> bool:
    names = (name for file in folder.glob("*.safetensors") for name in _names(file))
    return any(name.startswith(OUTPUT_LAYERS) for name in names)


def _names(file: Path) -> frozenset[str]:
    try:
        with safe_open(file, framework="pt") as opened:
            return frozenset(opened.keys())
    except (OSError, SafetensorError):
        return frozenset()  # loading the file will report what is wrong with it


def _shape(file: Path, name: str) -> list[int]:
    with safe_open(file, framework="pt") as opened:
        return opened.get_slice(name).get_shape()
