"""Files that other people published, through all stages, with models of other families."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

DATA = Path(__file__).parents[2].parent / "shared" / "data"
RECIPE = Path(__file__).parents[2] / "recipes/real-small/recipe.toml"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the published files are not on this machine"),
]

# A few steps of everything: this tests that real files pass, not what is learnt from them.
FEW_STEPS = """\
 --num_threads 1 --sft.max_steps 3 --sft.micro_batch_tokens 2048 --sft.batch_size 8
 --sft.held_out_share 0.02 --reward.max_steps 2 --reward.batch_size 8 --reward.labels shares
 --reward.test_share 0.05
 --reward.calibration_share 0.05 --reward.held_out_model_share 0.1 --reward.judge_share 0.1
 --reward.max_tokens 384
 --rl.num_steps 2 --rl.batch_size 4 --rl.validation_size 4 --rl.eval_every 1
 --rl.max_prompt_tokens 256 --rl.sampling.max_new_tokens 12 --evaluate.max_prompts 6
 --evaluate.sampling.max_new_tokens 12
"""


def settings(demonstrations: str, pairs: str, model: Path) -> list[str]:
    prompts = str(DATA / "helpful/koala_test_set.jsonl")
    return [
        *("--model.path", str(model)),
        *("--sft.demonstrations", str(DATA / demonstrations)),
        *("--reward.pairs", str(DATA / pairs)),
        *("--rl.prompts", prompts, "--evaluate.prompts", prompts),
    ]


@pytest.mark.parametrize(
    ("family", "demonstrations", "pairs", "held_out"),
    [
        ("qwen2", "demos/chatterbot_en.jsonl", "pref_en/hh_harmless_base_test.jsonl.gz", "false"),
        ("llama", "demos/chatterbot_zh.jsonl", "pref_zh/jade_v3_pairs_dev.jsonl", "true"),
        (
            "qwen2",
            "demos/selfinstruct_seed_tasks.jsonl",
            "pref_zh/jade_v3_pairs_dev.jsonl",
            "false",
        ),
    ],
)
def test_all_stages(
    family: str,
    demonstrations: str,
    pairs: str,
    held_out: str,
    tmp_path: Path,
    make_model: Any,
    call: Any,
) -> None:
    texts = [DATA / demonstrations, DATA / pairs]
    model = make_model(texts, tmp_path / "model", family=family, vocab_size=600, context=768)
    words = settings(demonstrations, pairs, model)
    words += ["--reward.held_out_model", held_out]
    run = tmp_path / "run"
    ended = call(["run", str(RECIPE), "--folder", str(run), *words, *FEW_STEPS.split()])
    assert ended.code == 0, ended.err
    assert ended.out.strip().endswith("report.html")
    assert (run / "report.html").stat().st_size > 10_000

    summary = json.loads((run / "summary.json").read_text())
    assert summary["rl"]["steps"] == 2
    low, high = summary["reward"]["accuracy_ci"]
    assert 0 <= low <= summary["reward"]["accuracy"] <= high <= 1
    answers = (run / "evaluate/answers.jsonl").read_text().splitlines()
    assert len(answers) == 6

    # What is handed on loads without this package.
    policy = AutoModelForCausalLM.from_pretrained(run / "rl/model")
    assert policy.config.model_type == family
    reward = AutoModelForSequenceClassification.from_pretrained(run / "reward/model")
    assert reward.config.num_labels == 1
    assert AutoTokenizer.from_pretrained(run / "rl/model").chat_template


def test_refused_and_too_long_rows_of_real_files_are_explained(
    tmp_path: Path, make_model: Any, call: Any
) -> None:
    demonstrations, pairs = "demos/chatterbot_zh.jsonl", "pref_en/hh_harmless_base_test.jsonl.gz"
    model = make_model([DATA / demonstrations], tmp_path / "model", vocab_size=300, context=768)
    words = settings(demonstrations, pairs, model)
    words += ["--reward.model", str(model), *FEW_STEPS.split()]
    base = ["reward", str(RECIPE), "--folder", str(tmp_path / "run")]

    ended = call([*base, *words, "--skip_refused", "false"])
    assert ended.code == 2 and "rows are refused" in ended.err
    assert "hh_harmless_base_test.jsonl.gz:" in ended.err and "skip_refused = true" in ended.err

    again = ["reward", str(RECIPE), "--folder", str(tmp_path / "other")]
    ended = call([*again, *words, "--skip_refused", "true", "--reward.too_long", "refuse"])
    assert ended.code == 2 and "rows are too long: the longest has" in ended.err
    assert 'reward.too_long = "skip"' in ended.err
