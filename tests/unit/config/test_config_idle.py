"""Settings that change nothing without another one are refused, in words that name that one."""

from typing import Any

import pytest

from alignloop.config import RewardConfig, RlConfig, SamplingConfig
from alignloop.config.load import check_recipe
from alignloop.errors import UserError


@pytest.mark.parametrize(
    ("kind", "idle", "without", "at_work"),
    [
        (
            RlConfig,
            {"reward_time_limit": 3.0},
            "a reward function",
            {"reward_time_limit": 3.0, "rewards": ["1 * reward", "2 * mine:f"]},
        ),
        (
            SamplingConfig,
            {"temperature": 0, "top_p": 0.5},
            "a temperature above 0",
            {"temperature": 0.1, "top_p": 0.5},
        ),
    ],
)
def test_what_changes_nothing_is_refused(
    kind: Any, idle: dict[str, Any], without: str, at_work: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=f"has no effect without {without}"):
        kind.model_validate(idle)
    assert kind.model_validate(at_work)


def test_details_of_what_is_turned_off_may_stay() -> None:
    """A recipe names them, and the command line turns it off."""
    assert RewardConfig(labels="shares", held_out_model=False, held_out_model_share=0.2)
    assert RlConfig(missing_eos="off", missing_eos_penalty=-3.0)


def test_a_person_is_told_in_one_line() -> None:
    with pytest.raises(UserError) as caught:
        check_recipe({"lora": {"load_in_4bit": True}}, where="my/recipe.toml")
    assert str(caught.value).startswith(
        "my/recipe.toml: lora: load_in_4bit = True has no effect without lora.rank"
    )
