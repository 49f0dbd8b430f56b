"""What stands where a model directory should be is named, and what to do about it."""

from pathlib import Path

import pytest

from alignloop.cli import main
from alignloop.config.model_paths import no_model

RECIPE = """\
name = "{name}"
model.path = "{path}"
sft.demonstrations = "d.jsonl"
reward.pairs = "d.jsonl"
rl.prompts = "d.jsonl"
evaluate.prompts = "d.jsonl"
"""


def error_of(path: Path | str) -> tuple[str, str]:
    error = no_model(path)
    assert error.where == str(path)
    return error.problem, error.fix


@pytest.mark.parametrize("name", ["model.Q4_1.gguf", "weights"])
def test_a_gguf_file_by_its_first_bytes(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"GGUF\x03\x00")
    problem, fix = error_of(file)
    assert "GGUF" in problem
    assert f"alignloop models convert {file} " in fix


def test_a_folder_of_gguf_files(tmp_path: Path) -> None:
    (tmp_path / "a.GGUF").write_bytes(b"GGUF")
    problem, fix = error_of(tmp_path)
    assert "a folder of GGUF files" in problem
    assert f"alignloop models convert {tmp_path} " in fix


@pytest.mark.parametrize(
    "name",
    [
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "hub:HuggingFaceTB/SmolLM2-135M-Instruct",
        "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/",
    ],
)
def test_a_hub_name(name: str) -> None:
    problem, fix = error_of(name)
    assert "nothing is downloaded automatically" in problem
    assert "`hf download HuggingFaceTB/SmolLM2-135M-Instruct " in fix
    assert "--local-dir models/SmolLM2-135M-Instruct`" in fix
    assert fix.endswith("model.path = models/SmolLM2-135M-Instruct")


@pytest.mark.parametrize(
    "name", ["./models/mine", "/nowhere/mine", "mine", "a/b/c", "models/Qwen2.5-0.5B", "mine/x"]
)
def test_a_folder_that_is_not_there_is_no_hub_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir() if name == "mine/x" else None
    problem, fix = error_of(name)
    assert problem == "no such folder"
    assert "`hf download ORG/NAME " in fix
    assert fix.endswith(f"--local-dir {name}`")


def test_a_path_made_of_an_address_is_still_known() -> None:
    assert "hf download org/name" in no_model(Path("https://hf.co/org/name"), "rl.policy").fix


def test_the_cache_of_the_hub(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert str(snapshot) in error_of(tmp_path / "models--a--b")[1]


def test_files_out_of_a_model_directory(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    problem, fix = error_of(tmp_path / "model.safetensors")
    assert "one file of a model directory" in problem
    assert fix == f"set model.path to the folder: {tmp_path}"


def test_an_empty_folder(tmp_path: Path) -> None:
    problem, fix = error_of(tmp_path)
    assert "config.json is missing" in problem
    assert "save_pretrained" in fix


@pytest.mark.parametrize("command", ["plan", "sft", "rl"])
def test_the_commands_say_it(
    tmp_path: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.gguf").write_bytes(b"GGUF\x03\x00")
    (tmp_path / "d.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    recipe = tmp_path / "recipe.toml"
    options = [] if command == "plan" else ["--sft.demonstrations", "d.jsonl"]
    setting = "rl.policy" if command == "rl" else "model.path"
    for path, said in (("m.gguf", "alignloop models convert"), ("org/name", "hf download")):
        recipe.write_text(RECIPE.format(path=path, name=path[0]))
        if command == "rl":
            options = ["--rl.policy", path]
        with pytest.raises(SystemExit) as stopped:
            main([command, str(recipe), *options])
        assert stopped.value.code == 2
        message = capsys.readouterr().err
        assert said in message
        assert said.startswith("alignloop") or setting in message
