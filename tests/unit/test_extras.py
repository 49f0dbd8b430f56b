"""What is missing is one sentence with the command that installs it, at every door to an extra."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignloop import cli
from alignloop.errors import UserError
from alignloop.extras import needs

Without = Callable[..., None]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Without:
    """`without("peft")`: as if a package were not installed; modules of ours load anew."""

    def block(package: str, *ours: str) -> None:
        for name in list(sys.modules):
            if name.startswith(f"{package}."):
                monkeypatch.delitem(sys.modules, name)
            if any(name == one or name.startswith(f"{one}.") for one in ours):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    return block


def parquet(_: Path) -> None:
    from alignloop.data.containers.columnar import parquet_rows

    next(iter(parquet_rows(Path("x.parquet"))))


def arrow(_: Path) -> None:
    from alignloop.data.containers.columnar import arrow_rows

    next(iter(arrow_rows(Path("x.arrow"))))


def saved_dataset(folder: Path) -> None:
    from alignloop.data.containers.hub import saved_tables

    (folder / "state.json").write_text("{}", encoding="utf-8")
    next(iter(saved_tables(folder)[0].rows()))


def hub(_: Path) -> None:
    from alignloop.data.containers.hub import hub_tables

    hub_tables("hub:org/name")


def adapter(folder: Path) -> None:
    from alignloop.models.adapters import read_shape

    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    read_shape(folder)


def gguf(folder: Path) -> None:
    from alignloop.models.convert import convert_gguf

    convert_gguf(folder / "m.gguf", folder / "out")


def postgres(_: Path) -> None:
    from alignloop.label.store.database import open_database

    open_database("postgresql://nobody@localhost/none")


@pytest.mark.parametrize(
    ("door", "package", "sentence"),
    [
        (parquet, "pyarrow", "a Parquet file needs pyarrow,[data]"),
        (arrow, "pyarrow", "an Arrow file needs pyarrow,[data]"),
        (saved_dataset, "datasets", "a directory of the datasets library needs datasets,[data]"),
        (hub, "datasets", "a data set of the Hub needs datasets,[data]"),
        (adapter, "peft", "an adapter needs peft,[lora]"),
        (gguf, "gguf", "a GGUF file needs gguf,[gguf]"),
        (postgres, "pg8000", "a PostgreSQL database needs pg8000,[postgres]"),
    ],
)
def test_a_door_says_what_is_missing(
    door: Callable[[Path], None], package: str, sentence: str, without: Without, tmp_path: Path
) -> None:
    problem, _, extra = sentence.partition(",")
    without(package)
    with pytest.raises(UserError) as found:
        door(tmp_path)
    assert found.value.problem == f"{problem}, which is not installed"
    assert found.value.fix == f"pip install 'alignloop{extra}'"


@pytest.mark.parametrize(
    "words",
    [["serve"], ["export", "label", "out"], ["demo"], ["sample", "--policy=p", "--prompts=x"]],
)
def test_the_commands_of_label_are_one_sentence(
    words: list[str], without: Without, capsys: pytest.CaptureFixture[str]
) -> None:
    without("sqlalchemy", "alignloop.label", "alignloop.acquisition")
    with pytest.raises(SystemExit) as ended:
        cli.main(["label", *words])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: the annotation page needs sqlalchemy, which is not installed. What to do: pip"
        " install 'alignloop[label]'\n"
    )


def test_lora_is_looked_at_before_the_first_stage(without: Without, tmp_path: Path) -> None:
    from alignloop.ahead import look_ahead
    from alignloop.config.load import check_recipe

    without("peft")
    with pytest.raises(UserError, match=r"lora\.rank needs peft"):
        look_ahead(
            check_recipe({"name": "x", "model": {"path": "playground"}, "lora": {"rank": 4}}),
            tmp_path,
            (),
        )


def test_numbers_are_kept_without_tensorboard_and_it_is_said_once(
    without: Without, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from alignloop.run import MetricLog, read_metrics
    from alignloop.run.metrics import _say_once

    without("tensorboardX")
    _say_once.cache_clear()
    for stage in ("sft", "rl"):
        with MetricLog(tmp_path, stage, None) as log:
            log.log(1, {"loss": 0.5})
    assert [line["loss"] for line in read_metrics(tmp_path)] == [0.5, 0.5]
    assert not (tmp_path / "tensorboard").exists()
    assert capsys.readouterr().err.count("pip install 'alignloop[tensorboard]'") == 1


@pytest.mark.parametrize("error", [ModuleNotFoundError("x", name="alignloop.gone"), OSError("x")])
def test_mistakes_of_our_own_are_no_sentence(error: Any) -> None:
    with pytest.raises(type(error)), needs("label", "the annotation page"):
        raise error
