"""Saving models as plain Hugging Face directories, and the reward model's scale beside it."""

import copy
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedTokenizerBase

from alignloop.data.turns import stop_tokens
from alignloop.errors import UserError
from alignloop.models.kinds import SCALE_FILE
from alignloop.models.shared_base import role_of, save_role


class RewardScale(BaseModel):
    """From raw scores to normalised and calibrated ones; stored with the reward model.

    score      = (raw - bias) / scale             demonstrations: mean 0 (docs/algorithms.md#ppo-8)
    calibrated = sigmoid(score / temperature)     in 0..1: the chance of beating a demonstration

    `temperature_note` says in words why the temperature is to be taken with care; "" if it is not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias: float = 0.0
    scale: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    temperature_note: str = ""


def save_model(
    folder: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    scale: RewardScale | None = None,
) -> None:
    """Write weights (safetensors), config, tokenizer and chat template into an existing folder.

    Of a role the weights and the config are its adapter's, as PEFT keeps them. What generates gets
    a generation_config.json by which it stops where our sampling does.
    """
    if (role := role_of(model)) is not None:
        save_role(folder, model, role)
    else:
        model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    if model.can_generate():
        _stopping(model, tokenizer).save_pretrained(folder)
    if scale is not None:
        (folder / SCALE_FILE).write_text(scale.model_dump_json() + "\n", encoding="utf-8")


def _stopping(model: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The model's way of generating, which ends where the chat template ends a turn, and pads.

    Where a base model gets a template, its old EOS alone would let `generate` run on and on.
    """
    made = copy.deepcopy(model.generation_config)
    before = made.eos_token_id
    known = before if isinstance(before, list) else [] if before is None else [before]
    told = tokenizer.chat_template and tokenizer.eos_token_id is not None
    stops = stop_tokens(tokenizer) if told else ()
    made.eos_token_id = list(dict.fromkeys([*stops, *known])) or None
    made.pad_token_id = tokenizer.pad_token_id
    return made


def read_reward_scale(folder: str | Path) -> RewardScale:
    """The scale stored with a reward model; one from elsewhere has none and counts as it is."""
    path = Path(folder) / SCALE_FILE
    if not path.is_file():
        return RewardScale()
    try:
        return RewardScale.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"this file is damaged: {error}", where=str(path)) from None
