"""docs/configuration.md says what the settings say."""

from collections import Counter
from pathlib import Path

import pytest

from alignloop.cli import main
from alignloop.config import Recipe
from alignloop.config.load import known_settings
from alignloop.config.markdown import settings_markdown

COMMITTED = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_committed_file_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main(["settings", "--markdown"])
    printed = capsys.readouterr().out
    assert printed == COMMITTED.read_text(encoding="utf-8"), (
        "print it again: alignloop settings --markdown > docs/configuration.md"
    )


@pytest.mark.parametrize(
    "line",
    [
        '| `name` | text | `"run"` | the run folder is runs/\\<name> |',
        '| `model.chat_template` | `"chatml"`, or none | none |'
        " template to install if the model has none |",
        "| `rl.algorithm.clip_range_value` | number > 0, or none | `0.2` |"
        " value clipping; none = off |",
        "| `comparisons.responses_per_prompt` | integer >= 2 and <= 9 | `4` |  |",
        "| `rl.algorithm.adaptive_kl` | a table, or none | none | adapt kl_coef to a target |",
    ],
)
def test_a_row_says_values_default_and_meaning(line: str) -> None:
    assert line in settings_markdown().splitlines()


def test_every_setting_has_one_row_or_a_table_of_its_own() -> None:
    lines = settings_markdown().splitlines()
    rows = [line.split("`")[1] for line in lines if line.startswith("| `")]
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    tables = [heading.split(", ")[0] for heading in headings]
    twice = [name for name, count in Counter(rows).items() if count > 1]
    assert twice and all(name.startswith(("rl.algorithm.", "dpo.objective.")) for name in twice)
    assert set(rows) | set(tables) - {"The recipe itself"} == set(known_settings(Recipe))
