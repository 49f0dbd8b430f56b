"""All stages with adapters, by the command line: on one base, resumed exactly, then merged."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from alignloop import cli
from alignloop.config import ModelConfig
from alignloop.models import load_policy, load_tokenizer

pytestmark = pytest.mark.slow

LORA = ("--lora.rank", "4", "--lora.dropout", "0.1")
STAGES = ("sft", "reward_held_out", "reward_judge", "reward", "rl")
IDS = torch.tensor([[5, 9, 30, 7, 61, 12]])


@pytest.fixture(scope="module")
def adapted(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run with adapters that was never stopped."""
    run = tmp_path_factory.mktemp("runs") / "lora"
    cli.main(tiny.command("run", run, *LORA))
    return run


def digests(run: Path) -> dict[str, str]:
    files = {stage: run / stage / "model/adapter_model.safetensors" for stage in STAGES}
    return {stage: hashlib.sha256(f.read_bytes()).hexdigest() for stage, f in files.items()}


def test_every_stage_leaves_an_adapter_of_the_same_base(tiny: Any, adapted: Path) -> None:
    for stage in STAGES:
        folder = adapted / stage / "model"
        assert not (folder / "model.safetensors").exists()
        settings = json.loads((folder / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(tiny.model.resolve())
        assert settings["r"] == 4 and (folder / "tokenizer.json").is_file()
    sft, rl = (load_file(adapted / s / "model/adapter_model.safetensors") for s in ("sft", "rl"))
    assert sft.keys() == rl.keys()
    assert len({digests(adapted)[stage] for stage in ("sft", "reward_held_out", "reward")}) == 3
    assert (adapted / "report.html").is_file()


def test_its_policy_starts_as_the_reference_and_moves_away(adapted: Path, curves: Any) -> None:
    steps = [line for line in curves(adapted) if line["stage"] == "rl" and line["step"]]
    assert steps[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert steps[0]["first_ratio"] == pytest.approx(1.0, abs=1e-6)
    assert steps[-1]["kl"] > 1e-3
    assert max(line["sampler_mismatch"] for line in steps) < 1e-5


def test_killed_and_gone_on_ends_with_the_same_adapters(
    tiny: Any, adapted: Path, tmp_path: Path, kill_at: Any, call: Any, curves: Any
) -> None:
    """Checkpoints hold adapters and heads alone."""
    run = tmp_path / "run"
    words = tiny.command("run", run, *LORA)
    for place in ("sft:log:9", "rl:log:7"):
        kill_at(place, words)
    kept = load_file(run / "rl/checkpoints/step-000004/tensors.safetensors")
    assert {name.partition(":")[0] for name in kept} == {"policy", "critic", "optimizer"}
    base = load_file(tiny.model / "model.safetensors")
    largest = max(value.numel() for value in base.values())
    assert max(value.numel() for value in kept.values()) < largest / 4
    ended = call(words)
    assert ended.code == 0 and "rl: resuming after step 4" in ended.err
    assert digests(run) == digests(adapted) and curves(run) == curves(adapted)


def test_merged_policies_are_plain_models_that_say_the_same(
    adapted: Path, tmp_path: Path, call: Any
) -> None:
    adapter, out = adapted / "rl/model", tmp_path / "merged"
    assert call(["merge", str(adapter), str(out)]).code == 0
    assert not (out / "adapter_config.json").exists() and (out / "tokenizer.json").is_file()
    plain = AutoModelForCausalLM.from_pretrained(out).eval()
    ours = load_policy(adapter, load_tokenizer(adapter), ModelConfig())
    with torch.no_grad():
        torch.testing.assert_close(plain(IDS).logits, ours(IDS).logits, rtol=0, atol=1e-5)
    ended = call(["merge", str(adapter), str(out)])
    assert ended.code == 2 and "nothing is overwritten" in ended.err


def test_merged_reward_models_keep_head_and_scale(adapted: Path, tmp_path: Path, call: Any) -> None:
    adapter, out = adapted / "reward/model", tmp_path / "merged"
    assert call(["merge", str(adapter), str(out)]).code == 0
    plain = AutoModelForSequenceClassification.from_pretrained(out, num_labels=1)
    head = load_file(adapter / "adapter_model.safetensors")["base_model.model.score.weight"]
    assert torch.equal(plain.score.weight, head)
    scale = "reward_scale.json"
    assert (out / scale).read_text() == (adapter / scale).read_text()


def test_an_adapter_may_be_merged_into_a_base_that_has_moved(
    tiny: Any, adapted: Path, tmp_path: Path, call: Any
) -> None:
    moved = tmp_path / "adapter"
    moved.mkdir()
    for file in (adapted / "sft/model").iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    settings = json.loads((moved / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "somebody/model"
    (moved / "adapter_config.json").write_text(json.dumps(settings))
    ended = call(["merge", str(moved), str(tmp_path / "a")])
    assert ended.code == 2 and "'somebody/model', does not exist" in ended.err
    assert not (tmp_path / "a").exists()
    assert call(["merge", str(moved), str(tmp_path / "b"), "--base", str(tiny.model)]).code == 0
    assert call(["merge", str(adapted / "sft/model"), str(tmp_path / "c")]).code == 0
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in "bc")
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_dpo_with_adapters_starts_from_the_sft_adapter(
    tiny: Any, adapted: Path, tmp_path: Path, call: Any
) -> None:
    settings = ("--dpo.model", str(adapted / "sft/model"), "--dpo.pairs")
    settings += (str(tiny.folder / "pairs.jsonl"), "--dpo.max_steps", "3", "--dpo.max_tokens")
    words = tiny.command("dpo", tmp_path / "run", *LORA, *settings, "128", "--dpo.batch_size", "8")
    ended = call(words)
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / "run/dpo/model/adapter_config.json").read_text())
    assert found["base_model_name_or_path"] == str(tiny.model.resolve())
    first = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    assert first["margin"] == pytest.approx(0.0, abs=0.05)


def test_four_bits_without_a_gpu_end_in_one_line(tiny: Any, tmp_path: Path, call: Any) -> None:
    words = tiny.command("sft", tmp_path / "run", *LORA, "--lora.load_in_4bit", "true")
    ended = call([*words, "--model.device", "cpu"])
    assert ended.code == 2 and "lora.load_in_4bit" in ended.err and "Traceback" not in ended.err
