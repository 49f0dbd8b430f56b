"""Save models as Hugging Face directories, with a reward model's scale."""

import copy
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedTokenizerBase

from alignloop.data.turns import stop_tokens
from alignloop.errors import UserError
from alignloop.models.kinds import SCALE_FILE
from alignloop.models.library import untyped
from alignloop.models.shared_base import role_of, save_role


class RewardScale(BaseModel):
    """Converts raw scores to normalised and calibrated ones; stored with the reward model.

    score      = (raw - bias) / scale             demonstrations: mean 0 (docs/algorithms.md#ppo-8)
    calibrated = sigmoid(score / temperature)     in 0..1: the chance of beating a demonstration

    `temperature_note` explains any doubt about the temperature; otherwise "".
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

    For a role, weights and config are those of its adapter in PEFT's format. Generating models get
    a generation_config.json with the stop tokens of our sampling.
    """
    if (role := role_of(model)) is not None:
        save_role(folder, model, role)
    else:
        model.save_pretrained(folder, safe_serialization=True)
    untyped(tokenizer).save_pretrained(folder)
    if model.can_generate():
        _stopping(model, tokenizer).save_pretrained(folder)
    if scale is not None:
        (folder / SCALE_FILE).write_text(scale.model_dump_json() + "\n", encoding="utf-8")


def _stopping(model: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The model's generation config, with the chat template's end of turn and PAD added.

    If a base model gets a template, its old EOS alone would let `generate` run on.
    """
    made = copy.deepcopy(model.generation_config)
    before: int | list[int] | None = made.eos_token_id
    known = before if isinstance(before, list) else [] if before is None else [before]
    has_turns = untyped(tokenizer).chat_template and tokenizer.eos_token_id is not None
    stops = stop_tokens(tokenizer) if has_turns else ()
    # a list: `generate` stops at any of them
    made.eos_token_id = list(dict.fromkeys([*stops, *known])) or None
    made.pad_token_id = tokenizer.pad_token_id
    return made


def read_reward_scale(folder: str | Path) -> RewardScale:
    """The scale stored with a reward model; other libraries' models have none: identity."""
    path = Path(folder) / SCALE_FILE
    if not path.is_file():
        return RewardScale()
    try:
        return RewardScale.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"this file is damaged: {error}", where=str(path)) from None
