"""Which settings are fixed once a stage has begun, and which of them differ."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from alignloop.config.recipe import Recipe

# Tables read by every stage, then the table of each stage.
SHARED = ("seed", "skip_refused", "data", "model", "lora")
OWN = {
    "sft": "sft",
    "comparisons": "comparisons",
    "reward_held_out": "reward",
    "reward_judge": "reward",
    "reward": "reward",
    "rl": "rl",
    "dpo": "dpo",
    "evaluate": "evaluate",
}
# Names of files and folders: compared by content if the stage recorded it.
NAMES_OF_INPUTS = frozenset(
    {
        "model.path",
        "sft.demonstrations",
        "reward.model",
        "reward.pairs",
        "reward.attributes",
        "dpo.model",
        "dpo.pairs",
        "rl.policy",
        "rl.held_out_reward_model",
        "rl.prompts",
        "rl.validation_prompts",
        "evaluate.baseline",
        "evaluate.policy",
        "evaluate.base",
        "evaluate.prompts",
        "evaluate.judge",
    }
)
# endings of the names of settings that do not change a number
_CHANGE_NOTHING = (".save_every", ".device", ".reward_time_limit")


@dataclass(frozen=True, kw_only=True)
class Changed:
    """One changed setting: its name, its value when the stage began, and its value now."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key} was {self.old!r} and is now {self.new!r}"


def changed_settings(
    stage: str, old: Recipe, new: Recipe, *, by_content: bool = True
) -> list[Changed]:
    """The settings that matter for `stage` and differ; both recipes include their defaults.

    With `by_content`, names of inputs are not compared: their content has been recorded.
    """
    before, after = _flat(old.model_dump()), _flat(new.model_dump())
    return [
        Changed(key=key, old=before.get(key), new=after.get(key))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key) and counts(key, stage)
        if not (by_content and key in NAMES_OF_INPUTS)
    ]


def counts(key: str, stage: str) -> bool:
    """Whether a setting affects the output of `stage`."""
    if key.endswith(_CHANGE_NOTHING):
        return False
    # settings of later stages may still change
    return key.split(".")[0] in (*SHARED, OWN.get(stage))


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def in_words(changes: Iterable[Changed]) -> str:
    """All of them in one sentence."""
    return "; ".join(map(str, changes))
