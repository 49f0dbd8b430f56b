"""A run folder that can be mended and cannot lie: changes are refused, or made again if asked."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignloop.run import chain

pytestmark = pytest.mark.slow

REFUSED = "this run is out of date with its inputs or settings"


@pytest.fixture
def own(tiny: Any, tmp_path: Path) -> Any:
    """The tiny world as a copy that a test may change."""
    folder = tmp_path / "world"
    shutil.copytree(tiny.folder, folder)
    recipe = folder / "recipe.toml"
    recipe.write_text(tiny.recipe.read_text().replace(str(tiny.folder), str(folder)))
    return type(tiny)(folder=folder, recipe=recipe)


@pytest.fixture
def finished(straight: Path, tmp_path: Path) -> Path:
    """A whole run, copied: the world beside it has other paths and the same content."""
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    return run


def change(path: Path) -> None:
    """Other content of the same length and with the same times."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def reword(path: Path) -> None:
    """Another answer in every row."""
    path.write_text(path.read_text().replace("It is", "It makes"))


def test_moved_data_is_the_same_data(own: Any, finished: Path, call: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/done.json")}
    ended = call(own.command("run", finished))
    assert ended.code == 0, ended.err
    assert {path: path.stat().st_mtime_ns for path in finished.glob("*/done.json")} == before
    assert chain.broken(finished) == []


@pytest.mark.parametrize(
    ("file", "stage"),
    [("demonstrations", "sft"), ("pairs", "reward"), ("prompts", "rl")],
)
def test_data_replaced_after_a_run(
    file: str, stage: str, own: Any, finished: Path, call: Any
) -> None:
    reword(own.folder / f"{file}.jsonl")
    if file == "prompts":
        path = own.folder / "prompts.jsonl"
        path.write_text(path.read_text().replace("plus", "and"))
    ended = call(own.command("run", finished))
    assert ended.code == 2 and REFUSED in ended.err
    assert f"{stage}: its {file}" in ended.err and "--redo" in ended.err
    assert (finished / "report.html").exists() and (finished / stage / "done.json").exists()


def test_a_data_file_that_is_gone(own: Any, finished: Path, call: Any) -> None:
    (own.folder / "pairs.jsonl").unlink()
    ended = call(own.command("reward", finished))
    assert ended.code == 2 and "its pairs" in ended.err and REFUSED in ended.err


def test_sft_removed_and_its_data_changed(
    own: Any, finished: Path, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(finished / "sft")
    reword(own.folder / "demonstrations.jsonl")
    began = time.monotonic()
    ended = call(own.command("run", finished))
    assert time.monotonic() - began < 10
    assert ended.code == 2 and "sft, which will now come out different" in ended.err
    assert not (finished / "sft" / "model").exists()  # known before anything was done

    ended = call(own.command("run", finished, "--redo"))
    assert ended.code == 0, ended.err
    for stage in ("reward_held_out", "reward", "rl", "evaluate"):
        assert f"redoing: {stage}: its " in caplog.text
    assert chain.broken(finished) == []
    lineage = json.loads((finished / "lineage.json").read_text())
    made = lineage["sft"]["outputs"]["sft/model"]
    for stage, role in (("reward", "model"), ("rl", "policy"), ("evaluate", "sft")):
        assert lineage[stage]["inputs"]["sft/model"] == made, role


def test_sft_removed_alone_is_made_again_and_all_else_stands(
    own: Any, finished: Path, call: Any, weights: Any, straight: Path
) -> None:
    shutil.rmtree(finished / "sft")
    kept = (finished / "rl" / "done.json").stat().st_mtime_ns
    ended = call(own.command("run", finished))
    assert ended.code == 0, ended.err
    assert weights(finished) == weights(straight)
    assert (finished / "rl" / "done.json").stat().st_mtime_ns == kept


def test_rl_removed_with_other_settings(own: Any, finished: Path, call: Any) -> None:
    shutil.rmtree(finished / "rl")
    other = ("--rl.num_steps", "2")
    ended = call(own.command("run", finished, *other))
    assert ended.code == 2
    assert "evaluate: it was made from rl" in ended.err and "rl.num_steps was 8" in ended.err

    # the single stage may work; the page says then that the evaluation is of another policy
    assert call(own.command("rl", finished, *other)).code == 0
    assert call(own.command("report", finished)).code == 0
    page = (finished / "report.html").read_text()
    assert "evaluate: its policy rl/model has changed" in page
    assert "results that do not belong together" in page
    ended = call(own.command("evaluate", finished, *other))
    assert ended.code == 2 and "its policy rl/model has changed" in ended.err
    ended = call(own.command("evaluate", finished, *other, "--redo"))
    assert ended.code == 0, ended.err
    assert call(own.command("report", finished)).code == 0
    assert "do not belong together" not in (finished / "report.html").read_text()


def test_a_bit_that_flips_in_a_finished_model(own: Any, finished: Path, call: Any) -> None:
    change(finished / "sft/model/model.safetensors")
    for command in ("sft", "run"):
        ended = call(own.command(command, finished))
        assert ended.code == 2 and "sft/model was changed or damaged" in ended.err
    shutil.rmtree(finished / "evaluate")  # a stage that has yet to begin does not read it either
    ended = call(own.command("evaluate", finished))
    assert ended.code == 2 and "sft/model was changed or damaged" in ended.err
    assert call(own.command("report", finished)).code == 0
    assert "sft/model was changed or damaged" in (finished / "report.html").read_text()
    ended = call(own.command("run", finished, "--redo"))
    assert ended.code == 0, ended.err
    assert chain.broken(finished) == []


def test_a_deleted_model_is_made_again_by_its_command(
    own: Any,
    finished: Path,
    call: Any,
    weights: Any,
    straight: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.rmtree(finished / "sft/model")
    ended = call(own.command("sft", finished))
    assert ended.code == 0 and "sft/model is gone" in caplog.text
    assert weights(finished) == weights(straight)


def killed_in_sft(own: Any, tmp_path: Path, kill_at: Callable[..., None]) -> tuple[Path, list[str]]:
    run = tmp_path / "run"
    words = own.command("sft", run)
    kill_at("sft:log:5", words)
    return run, words


def test_data_changed_between_kill_and_going_on(
    own: Any, tmp_path: Path, kill_at: Any, call: Any
) -> None:
    run, words = killed_in_sft(own, tmp_path, kill_at)
    reword(own.folder / "demonstrations.jsonl")
    ended = call(words)
    assert ended.code == 2 and "sft: its demonstrations" in ended.err
    assert (run / "sft/checkpoints/step-000004").is_dir()
    ended = call([*words, "--redo"])
    assert ended.code == 0 and "resuming" not in ended.err


def test_before_the_first_checkpoint_nothing_is_frozen(
    own: Any, tmp_path: Path, kill_at: Any, call: Any
) -> None:
    run = tmp_path / "run"
    kill_at("sft:log:2", own.command("sft", run))
    reword(own.folder / "demonstrations.jsonl")
    ended = call(own.command("sft", run, "--sft.learning_rate", "5e-4"))
    assert ended.code == 0, ended.err


def test_settings_of_a_begun_stage_stay_and_of_others_may_change(
    own: Any, tmp_path: Path, kill_at: Any, call: Any
) -> None:
    run, words = killed_in_sft(own, tmp_path, kill_at)
    ended = call([*words, "--sft.learning_rate", "0.5"])
    assert ended.code == 2 and "sft.learning_rate was 0.001 and is now 0.5" in ended.err
    ended = call([*words, "--seed", "3"])
    assert ended.code == 2 and "seed was 0 and is now 3" in ended.err
    ended = call([*words, "--rl.learning_rate", "0.5", "--sft.save_every", "3"])
    assert ended.code == 0, ended.err
    assert "resuming after step 4" in ended.err
    ended = call([*words, "--rl.learning_rate", "0.5", "--evaluate.max_prompts", "7"])
    assert ended.code == 0 and "max_prompts = 12" in (run / "config.toml").read_text()


def test_the_policys_start_replaced_during_rl(
    own: Any, finished: Path, kill_at: Any, call: Any
) -> None:
    shutil.rmtree(finished / "rl")
    words = own.command("rl", finished)
    kill_at("rl:log:5", words)
    shutil.rmtree(finished / "sft/model")
    shutil.copytree(own.model, finished / "sft/model")
    ended = call(words)
    assert ended.code == 2 and "rl: its policy sft/model has changed" in ended.err


def test_a_kill_before_lineage_loses_no_entry(own: Any, finished: Path, call: Any) -> None:
    path = finished / "lineage.json"
    assert call(own.command("report", finished)).code == 0  # it names the place that it is in now
    before = json.loads(path.read_text())
    assert set(before) == {
        "sft",
        "reward_held_out",
        "reward_judge",
        "reward",
        "rl",
        "evaluate",
    }
    for torn in (None, "{", "[]", "1"):
        path.unlink() if torn is None else path.write_text(torn)
        assert call(own.command("report", finished)).code == 0
        assert json.loads(path.read_text()) == before


def test_a_run_of_an_earlier_release(own: Any, finished: Path, call: Any) -> None:
    """No inputs.json, no checksums in done.json, and settings that this release has more of."""
    for part in finished.glob("*/done.json"):
        (part.parent / "inputs.json").unlink()
        done = json.loads(part.read_text())
        part.write_text(json.dumps({k: v for k, v in done.items() if k != "outputs"}))
    config = finished / "config.toml"
    lines = config.read_text().replace(str(own.folder), "x").splitlines()
    kept = [line for line in lines if not line.startswith(("skip_refused", "near_duplicate"))]
    config.write_text("\n".join([*kept[:1], "forgotten = 3", *kept[1:]]) + "\n")
    for command in ("report", "run"):
        ended = call(own.command(command, finished))
        assert ended.code == 0, ended.err
    reword(own.folder / "pairs.jsonl")
    ended = call(own.command("run", finished))
    assert ended.code == 2 and "reward: its pairs" in ended.err
