"""The command line: one line for people, exit code 2, and never a traceback."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import alignloop
from alignloop.cli import main, parse_overrides
from alignloop.errors import UserError
from alignloop.run import RunFolder

REPOSITORY = Path(__file__).parents[2]


WORLD = """\
model.path = "playground"
sft.demonstrations = "playground"
reward.pairs = "playground"
rl.prompts = "playground"
evaluate.prompts = "playground"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with default settings, whose data are a world's."""
    path = tmp_path / "recipe.toml"
    path.write_text(WORLD, encoding="utf-8")
    return path


def fail(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line on stderr of a command that must fail with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    assert caught.value.code == 2
    assert shown.out == ""
    return one_line(shown.err)


def one_line(text: str) -> str:
    """The text, which must be a single line beginning with "error:"."""
    lines = [line for line in text.splitlines() if not line.endswith("reading its files")]
    assert len(lines) == 1 and lines[0].startswith("error: "), text
    return lines[0]


def command(*arguments: str | Path) -> list[str]:
    """`alignloop ...` as a process of its own."""
    return [sys.executable, "-m", "alignloop.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Finds the package, installed or not."""
    return {"PYTHONPATH": str(REPOSITORY / "src"), "PATH": "", "OMP_NUM_THREADS": "1"}


def test_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    line = fail(capsys)
    assert "COMMAND" in line and "`alignloop --help`" in line


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    line = fail(capsys, "frobnicate")
    assert "frobnicate" in line and "evaluate" in line


def test_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    line = fail(capsys, "run")
    assert "RECIPE" in line and "`alignloop run --help`" in line


def test_missing_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = fail(capsys, "run", tmp_path / "nothing")
    assert line.startswith(f"error: {tmp_path}/nothing: no such recipe. What to do: ")


@pytest.mark.parametrize("below", ["", "x"])
def test_a_folder_that_cannot_be_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, below: str
) -> None:
    """A file stands where the folder should be, or above it."""
    (tmp_path / "file").touch()
    out = tmp_path / "file" / below
    line = fail(capsys, "playground", "export", "--out", out)
    assert line.startswith(f"error: {out}: the system reports: ")


def test_a_name_of_dots_is_no_run_folder(capsys: pytest.CaptureFixture[str], recipe: Path) -> None:
    """runs/.. is the present folder: the run would be strewn over it."""
    assert "name = '..'" in fail(capsys, "sft", recipe, "--name", "..")


def test_unknown_setting(capsys: pytest.CaptureFixture[str], recipe: Path) -> None:
    line = fail(capsys, "run", recipe, "--rl.learing_rate", "3")
    assert line.endswith("unknown setting 'rl.learing_rate'; did you mean 'rl.learning_rate'?")


def test_skip_refused_is_a_switch_and_a_setting(
    capsys: pytest.CaptureFixture[str], recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe.parent)  # the run folder is made in the present one
    missing = ["--sft.demonstrations", "nowhere.jsonl"]
    assert "nowhere.jsonl" in fail(capsys, "sft", recipe, "--skip-refused", *missing)
    assert "skip_refused = 'maybe'" in fail(capsys, "sft", recipe, "--skip_refused", "maybe")


def test_value_out_of_range(capsys: pytest.CaptureFixture[str], recipe: Path) -> None:
    line = fail(capsys, "rl", recipe, "--rl.num-steps=0")
    assert "rl.num_steps = '0'" in line


def test_value_missing(capsys: pytest.CaptureFixture[str], recipe: Path) -> None:
    line = fail(capsys, "sft", recipe, "--rl.num_steps")
    assert line == "error: --rl.num_steps has no value. What to do: write --rl.num_steps VALUE"


def test_bad_seed(capsys: pytest.CaptureFixture[str], recipe: Path) -> None:
    assert "seed = 'one'" in fail(capsys, "run", recipe, "--seed", "one")


def test_word_too_many(capsys: pytest.CaptureFixture[str], recipe: Path) -> None:
    assert "unknown argument 'again'" in fail(capsys, "run", recipe, "again")
    assert "unrecognised arguments: extra" in fail(capsys, "settings", "extra")


def test_nothing_to_report(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    line = fail(capsys, "report", recipe, "--folder", tmp_path / "nowhere")
    assert "no such run folder" in line


def test_a_second_process_on_the_same_run(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    with RunFolder.create(tmp_path / "run") as folder:
        folder.write_config("")
        line = fail(capsys, "report", recipe, "--folder", tmp_path / "run")
        assert "another run is using this folder" in line
        for stage in ("sft", "run"):
            assert "another run is using" in fail(
                capsys, stage, recipe, "--folder", tmp_path / "run"
            )


def test_other_settings_for_the_same_run(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    with RunFolder.create(tmp_path / "run") as folder:
        folder.write_config("seed = 1\n")
        folder.stage("sft").finish({})
    line = fail(capsys, "sft", recipe, "--folder", tmp_path / "run")
    assert "seed was 1 and is now 0" in line and "--redo" in line


def test_a_folder_that_is_no_run_stays_as_it_is(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "sea.jpg").write_text("")
    assert "is not a run folder" in fail(capsys, "report", recipe, "--folder", folder)
    assert [path.name for path in folder.iterdir()] == ["sea.jpg"]


@pytest.mark.parametrize("where", ["a\0b", "/proc/nowhere/run", "\udcff"])
@pytest.mark.parametrize("command", ["sft", "playground", "data", "merge"])
def test_paths_that_no_system_takes(
    capsys: pytest.CaptureFixture[str],
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    where: str,
) -> None:
    monkeypatch.chdir(tmp_path)  # a name of odd bytes is made, and only refused later
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "response": "b"}\n')
    words = {
        "sft": ["sft", recipe, "--folder", where, "--sft.demonstrations", rows],
        "playground": ["playground", "export", "--out", where],
        "data": ["data", "convert", rows, f"{where}.jsonl", "--to", "prompts"],
        "merge": ["merge", tmp_path, where],
    }[command]
    if where == "\udcff" and command != "sft":
        return  # a name of bytes that are no UTF-8 is a name to Linux
    line = fail(capsys, *words)
    assert "\0" not in line


def test_escape_sequences_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    line = fail(capsys, "sft", recipe, "--folder", tmp_path / "run", "--a\x1b[2J\x9b", "\u202e1")
    assert "\x1b" not in line and "\\x1b[2J" in line
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "response": "b"}\n{"\\u001b[2Jpro\\u009bmpt": "a"}\n')
    with pytest.raises(SystemExit):
        main(["data", "check", str(rows)])
    seen = capsys.readouterr()
    assert "\x1b[2J" not in seen.out + seen.err and "\x9b" not in seen.out + seen.err


@pytest.mark.parametrize("steps", ["0", "-3", "1.5", "9" * 5000])
def test_steps_of_the_base_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, steps: str
) -> None:
    line = fail(capsys, "playground", "build-base", "--out", tmp_path / "b", f"--steps={steps}")
    assert "is not a whole number from 1" in line and len(line) < 300
    assert not (tmp_path / "b").exists()


def test_a_full_disk_in_the_middle_of_a_write(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as write and fsync say it

    monkeypatch.setattr(os, "fsync", full)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "response": "b"}\n')
    for words in (
        ["data", "convert", rows, tmp_path / "out.jsonl", "--to", "prompts"],
        ["playground", "export", "--out", tmp_path / "out"],
    ):
        assert "the disk is full" in fail(capsys, *words)
    assert not list(tmp_path.glob("out*.jsonl")) and not list(tmp_path.glob("**/.*"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"{alignloop.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [["--help"], ["run", "--help"], ["dpo", "--help"], ["playground", "export", "-h"]],
)
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: alignloop")


def test_settings_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["settings"])
    assert "rl.algorithm.clip_range = 0.2" in capsys.readouterr().out


def test_export_names_its_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["playground", "export", "--out", str(tmp_path)])
    named = capsys.readouterr().out.splitlines()
    assert sorted(named) == sorted(str(path) for path in tmp_path.iterdir())
    assert len(named) == 8


def test_a_reader_who_has_seen_enough_sees_no_traceback() -> None:
    """`alignloop settings | head -1`, with a reader that closes at once."""
    process = subprocess.Popen(
        command("settings"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


def test_a_missing_recipe_as_a_process(tmp_path: Path) -> None:
    done = subprocess.run(
        command("run", tmp_path), capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such recipe" in one_line(done.stderr)


@pytest.mark.slow
def test_reward_before_sft_as_a_process(recipe: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command("reward", recipe, "--folder", tmp_path / "run"),
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert (done.returncode, done.stdout) == (2, "")
    line = one_line(done.stderr)
    assert line.startswith(f"error: {tmp_path}/run/sft/model: no model found here")
    assert "`alignloop sft`" in line and "reward.model" in line


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        ([], {}),
        (["--rl.num_steps", "20"], {"rl.num_steps": "20"}),
        (["--rl.num-steps=20"], {"rl.num_steps": "20"}),
        (["--model.path", "my-model"], {"model.path": "my-model"}),
        (["--rl.missing_eos_penalty", "-2"], {"rl.missing_eos_penalty": "-2"}),
        (["--a.b=c=d", "--e", "--f"], {"a.b": "c=d", "e": "--f"}),
        (["--name=", "--seed", "1", "--seed", "2"], {"name": "", "seed": "2"}),
    ],
)
def test_overrides(words: list[str], overrides: dict[str, str]) -> None:
    assert parse_overrides(words) == overrides


@pytest.mark.parametrize("words", [["rl.num_steps", "3"], ["-x", "3"], ["--", "3"], ["--seed"]])
def test_overrides_that_are_none(words: list[str]) -> None:
    with pytest.raises(UserError):
        parse_overrides(words)
