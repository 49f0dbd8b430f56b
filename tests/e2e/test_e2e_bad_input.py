"""What people get wrong: exit code 2, one message that says where and what to do, no traceback."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = pytest.mark.slow

GOOD = '{"prompt": "What is 1 plus 1?", "response": "It is 2."}\n'
PAIR = '{"prompt": "What is 1 plus 1?", "chosen": "It is 2.", "rejected": "It is 3."}\n'


def assert_refused(ended: Any, *patterns: str) -> None:
    """One message, nothing on stdout, and every pattern in the message."""
    assert ended.code == 2, ended.err
    assert ended.out == ""
    assert ended.err.count("error: ") == 1 and "Traceback" not in ended.err
    for pattern in patterns:
        assert re.search(pattern, ended.err), f"{pattern!r} is not in {ended.err!r}"


@pytest.mark.parametrize(
    ("settings", "patterns"),
    [
        (["--sft.lerning_rate", "1e-3"], ["unknown setting", "did you mean 'sft.learning_rate'"]),
        (["--sft.batch_size", "0"], [r"sft\.batch_size", "greater than or equal to 1"]),
        (["--sft.demonstrations", "nowhere/d.jsonl"], [r"nowhere/d\.jsonl", "file not found"]),
        (["--model.path", "nowhere/model"], ["nowhere/model", "no such folder"]),
    ],
    ids=["unknown setting", "out of range", "missing file", "missing model"],
)
def test_settings(
    settings: list[str], patterns: list[str], tiny: Any, tmp_path: Path, call: Any
) -> None:
    assert_refused(call(tiny.command("sft", tmp_path / "run", *settings)), *patterns)


@pytest.mark.parametrize(
    ("stage", "content", "patterns"),
    [
        ("sft", "", [r"rows\.jsonl", "the file is empty", "one JSON object per line"]),
        ("sft", GOOD + '{"prompt": "What\n', [r"rows\.jsonl:2", "broken JSON"]),
        ("sft", GOOD + '{"prompt": "Why?"}\n', [r"rows\.jsonl:2", "a key is missing"]),
        ("sft", GOOD + '{"prompt": "Why?", "response": " "}\n', [r"rows\.jsonl:2", "is empty"]),
        (
            "reward",
            PAIR + PAIR.replace("3", "2"),
            [r"rows\.jsonl:2", "chosen and rejected are the same text"],
        ),
    ],
    ids=["empty file", "broken JSON", "missing key", "empty response", "equal answers"],
)
def test_files(
    stage: str, content: str, patterns: list[str], tiny: Any, tmp_path: Path, call: Any
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(content)
    key = "--sft.demonstrations" if stage == "sft" else "--reward.pairs"
    words = tiny.command(stage, tmp_path / "run", key, str(rows), "--reward.model", str(tiny.model))
    assert_refused(call(words), *patterns)


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def without_eos(folder: Path) -> None:
    change_tokenizer(folder, lambda settings: settings.pop("eos_token"))


def with_few_embeddings(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(300)
    model.save_pretrained(folder)


def change_tokenizer(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    change(settings)
    path.write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("damage", "patterns"),
    [
        (without_tokenizer, ["no tokenizer", "save_pretrained"]),
        (without_template, ["no chat template", 'model.chat_template = "chatml"']),
        (without_eos, ["no EOS token"]),
        (with_few_embeddings, [r"3\d\d tokens but .* only 300 rows", "resize_token_embeddings"]),
    ],
)
def test_model_directories(
    damage: Callable[[Path], None], patterns: list[str], tiny: Any, tmp_path: Path, call: Any
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny.model, model)
    damage(model)
    words = tiny.command(
        "sft", tmp_path / "run", "--model.path", str(model), "--sft.max_steps", "1"
    )
    assert_refused(call(words), str(model), *patterns)


@pytest.mark.parametrize(
    ("stage", "settings", "patterns"),
    [
        ("sft", [], [r"1 of 2 rows", "128", r"raise sft\.max_tokens to \d+", 'too_long = "skip"']),
        ("sft", ["--sft.max_tokens", "9999"], ["the model's context allows 160"]),
        ("reward", [], [r"rows are too long", r"reward\.max_tokens allows 128"]),
        ("rl", [], [r"rows are too long", r"rl\.max_prompt_tokens allows 64"]),
        ("rl", ["--rl.max_prompt_tokens", "150"], ["the model's context is 160"]),
        ("evaluate", [], ["1 of 2 rows", "the model's context allows 148"]),
    ],
)
def test_too_long_for_the_setting_or_the_context(
    stage: str,
    settings: list[str],
    patterns: list[str],
    tiny: Any,
    straight: Path,
    tmp_path: Path,
    call: Any,
) -> None:
    """`straight` brings the models of the stages before; this run has its own folder."""
    long = " ".join(str(number) for number in range(200))
    rows = tmp_path / "rows.jsonl"
    row = {"prompt": long, "response": "1", "chosen": "1", "rejected": "2"}
    others = (tiny.folder / "pairs.jsonl").read_text() if stage != "evaluate" else PAIR
    keys = {"sft": "sft.demonstrations", "reward": "reward.pairs"}
    if stage == "sft":
        others = GOOD
    rows.write_text(others + json.dumps(row) + "\n")
    words = tiny.command(stage, tmp_path / "run", *settings)
    words += [f"--{keys.get(stage, f'{stage}.prompts')}", str(rows)]
    words += ["--sft.held_out_share", "0"]
    for name in ("sft", "reward", "rl"):
        shutil.copytree(straight / name / "model", tmp_path / "run" / name / "model")
    assert_refused(call(words), *patterns)


def test_a_reward_model_with_another_tokenizer_that_nothing_says_how_to_read(
    tiny: Any, straight: Path, tmp_path: Path, call: Any, make_model: Any
) -> None:
    other = make_model([tiny.folder / "pairs.jsonl"], tmp_path / "other", vocab_size=300)
    reward = tmp_path / "reward"
    shutil.copytree(straight / "reward" / "model", reward)
    (reward / "chat_template.jinja").unlink()
    (reward / "reward_scale.json").unlink()
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(reward)
    policy = str(tiny.model)
    words = tiny.command("rl", tmp_path / "run", "--rl.policy", policy, "--rl.rewards", str(reward))
    assert_refused(
        call(words), "its input format is unknown", "save its template with its tokenizer"
    )


def test_a_policy_in_place_of_a_reward_model(tiny: Any, tmp_path: Path, call: Any) -> None:
    policy = str(tiny.model)
    words = tiny.command("rl", tmp_path / "run", "--rl.policy", policy, "--rl.rewards", policy)
    assert_refused(call(words), "this is not a reward model", "alignloop reward")


def test_a_stage_before_its_turn(tiny: Any, tmp_path: Path, call: Any) -> None:
    words = tiny.command("reward", tmp_path / "run")
    assert_refused(call(words), "no model found here", "run `alignloop sft` first")


def test_the_folder_is_usable_after_the_input_is_mended(
    tiny: Any, tmp_path: Path, call: Any
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(GOOD + "{broken\n")
    words = tiny.command("sft", tmp_path / "run", "--sft.demonstrations", str(rows))
    words += ["--sft.held_out_share", "0"]
    assert_refused(call(words), r"rows\.jsonl:2")
    rows.write_text(GOOD + GOOD.replace("1 plus", "2 plus").replace("It is 2", "It is 3"))
    ended = call(words)
    assert ended.code == 0, ended.err
    facts = json.loads((tmp_path / "run/sft/done.json").read_text())["facts"]
    assert facts["num_demonstrations"] == 2


def test_skipping_too_long_rows_is_counted_and_said(
    tiny: Any, tmp_path: Path, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(GOOD + json.dumps({"prompt": "1 " * 200, "response": "2"}) + "\n")
    words = tiny.command("sft", tmp_path / "run", "--sft.demonstrations", str(rows))
    ended = call([*words, "--sft.held_out_share", "0", "--sft.too_long", "skip"])
    assert ended.code == 0, ended.err
    assert "sft.too_long: left out 1 of 2 rows with more than 128 tokens" in caplog.text
    facts = json.loads((tmp_path / "run/sft/done.json").read_text())["facts"]
    assert facts["num_demonstrations"] == 1
