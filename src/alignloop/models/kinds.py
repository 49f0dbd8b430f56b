"""What a model directory holds, before its weights are read: a policy, a reward model, neither.

By config.json and the names and shapes in the headers of its safetensors files. A reward model of
another library may keep its head under another name than transformers does, and say in config.json
how its scores are normalised.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from alignloop.errors import UserError
from alignloop.models.adapters import base_of, is_adapter, scores

SCALE_FILE = "reward_scale.json"  # lies beside every reward model of ours, and of ours alone
# Where a linear layer that makes one number of a hidden state is kept: transformers' own names, and
# those of OpenRLHF, TRL's value heads, LLaMA-Factory and others.
OF_CLASSIFIERS = ("score", "classifier", "classification_head")
OF_OTHERS = ("value_head", "v_head.summary", "v_head", "reward_head", "regression_head", "rm_head")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
OUTPUT_LAYERS = ("lm_head.", "embed_out.", "output.")


@dataclass(frozen=True, kw_only=True)
class Head:
    """A scalar head as a directory keeps it: the file, and the tensors' names without ".weight"."""

    file: Path
    name: str
    rows: int  # how many numbers it makes
    has_bias: bool

    def tensors(self) -> tuple[Tensor, Tensor | None]:
        """Weight [rows, hidden] and, where there is one, bias [rows]."""
        with safe_open(self.file, framework="pt") as file:
            bias = file.get_tensor(f"{self.name}.bias") if self.has_bias else None
            return file.get_tensor(f"{self.name}.weight"), bias


def settings_of(folder: Path) -> dict[str, Any]:
    """The config.json of a directory, or of the model that its adapter belongs to."""
    path = base_of(folder) / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"this file is damaged: {error}", where=str(path)) from None
    if not isinstance(found, dict):
        raise UserError("this file is damaged: it holds no table", where=str(path))
    return found


def is_ours(folder: Path) -> bool:
    """Whether a reward model was trained here: it reads the prompt and the answer's own tokens."""
    return (folder / SCALE_FILE).is_file()


def head_of(folder: Path) -> Head | None:
    """The scalar head among the weights of a plain model directory; None where there is none."""
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
    """Whether a directory holds a model that makes one number of a text."""
    if is_adapter(folder):
        return scores(folder)
    settings = settings_of(folder)
    classes = settings.get("architectures") or []
    if not any("SequenceClassification" in name for name in classes):
        head = head_of(folder)
        return head is not None and head.rows == 1
    labels = settings.get("id2label")
    if labels is not None or "num_labels" in settings:
        return settings.get("num_labels", len(labels or ())) == 1
    head = head_of(folder)
    return head is None or head.rows == 1


def require_policy(folder: Path) -> None:
    """Raise UserError, naming what a directory holds, where that writes no text.

    With tied embeddings no tensor would be missing, so that such a model would load.
    """
    if is_adapter(folder):
        if scores(folder):
            raise UserError(
                "this adapter makes a reward model, which cannot be a policy",
                where=str(folder),
                fix="name an adapter of a causal language model (task_type CAUSAL_LM)",
            )
        return require_policy(base_of(folder))
    settings = settings_of(folder)
    classes = settings.get("architectures") or []
    if classes and not any(_writes_text(name, settings) for name in classes):
        kind = (
            "a reward model or classifier" if _scores(classes[0], folder) else "no language model"
        )
        raise UserError(
            f"this is a {classes[0]}, {kind}: it cannot be a policy",
            where=str(folder),
            fix="name the directory of a causal language model, saved as a whole",
        )
    head = head_of(folder)
    if head is not None and head.name in OF_CLASSIFIERS and not _has_output_layer(folder):
        raise UserError(
            f"the weights hold the head of a reward model ({head.name}) and no output layer: it"
            " cannot be a policy",
            where=str(folder),
            fix="name the directory of a causal language model",
        )
    return None


def scale_in_config(folder: Path) -> tuple[float, float] | None:
    """The mean and the standard deviation of a model's scores where its config.json gives both.

    OpenRLHF writes them. Raises UserError for a deviation that nothing can be divided by.
    """
    settings = settings_of(folder)
    mean, std = settings.get("mean"), settings.get("std")
    if not (isinstance(mean, int | float) and isinstance(std, int | float)):
        return None
    if not 0 < std < float("inf"):
        raise UserError(
            f"the standard deviation of this model's scores is {std}",
            where=f"{base_of(folder) / 'config.json'}, std",
            fix="set mean to 0 and std to 1, or to what its scores have",
        )
    return float(mean), float(std)


def by_openrlhf(folder: Path) -> bool:
    """Whether a reward model is of OpenRLHF's class, which reads EOS at the end of every text."""
    return "RewardModel" in (settings_of(folder).get("architectures") or [])


def by_transformers(folder: Path) -> bool:
    """Whether a reward model is of a class of transformers, which pools the last token not PAD."""
    if is_adapter(folder):
        return True
    classes = settings_of(folder).get("architectures") or ["SequenceClassification"]
    return any("SequenceClassification" in name for name in classes)


def unread_token(folder: Path, tokenizer: Any) -> int | None:
    """The token that a reward model of transformers passes over at the end of a text: its PAD.

    That of its config.json; of an adapter that of its own tokenizer, which the trainer padded with.
    Our own models, and those of other classes, read the last token whatever it is.
    """
    if is_ours(folder) or not by_transformers(folder):
        return None
    own_words = any((folder / name).is_file() for name in TOKENIZER_FILES)
    if is_adapter(folder) and own_words and tokenizer.pad_token_id is not None:
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
        return frozenset()  # whoever loads it says what is wrong with it


def _shape(file: Path, name: str) -> list[int]:
    with safe_open(file, framework="pt") as opened:
        return opened.get_slice(name).get_shape()
