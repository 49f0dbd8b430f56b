"""Supervised fine-tuning: the loss on response tokens alone, and a model that others can load."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignloop.config import ModelConfig, SftConfig
from alignloop.data.tokenise import Encoded, LengthLimit, encode_example
from alignloop.errors import UserError
from alignloop.models import load_policy
from alignloop.parallel import SINGLE
from alignloop.records import Demonstration, Message, Prompt
from alignloop.run import read_metrics
from alignloop.sft import train_sft
from alignloop.sft.train import _encode, _step, all_batches, perplexity
from alignloop.training.loop import accumulate

ANSWERS = ("very good", "bad", "the sun is red", "很好", "no")


@pytest.fixture(scope="module")
def demonstrations(prompts: list[Prompt]) -> list[Demonstration]:
    return [
        Demonstration(prompt=p, response=ANSWERS[i % len(ANSWERS)]) for i, p in enumerate(prompts)
    ]


@pytest.fixture
def examples(demonstrations: list[Demonstration], tokenizer: Any) -> list[Encoded]:
    return [encode_example(tokenizer, d.prompt, d.response, 64) for d in demonstrations]


@pytest.fixture
def policy(lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig) -> Any:
    return load_policy(lm_dirs["llama"], tokenizer, model_config)


def loss_of(policy: Any, examples: list[Encoded], **changes: Any) -> float:
    """The mean loss of one step, whose gradients are there afterwards."""
    return accumulate(_step(policy, examples, 0, SftConfig(**changes)), SINGLE)["loss"]


def naive_total(policy: Any, examples: list[Encoded]) -> tuple[float, int]:
    """Sum of -log p over response tokens one sequence at a time, and their number."""
    total, count = 0.0, 0
    for example in examples:
        with torch.no_grad():
            logits = policy(torch.tensor([example.input_ids])).logits[0].double()
        for t, counts in enumerate(example.response_mask):
            if counts:
                total -= float(torch.log_softmax(logits[t - 1], -1)[example.input_ids[t]])
                count += 1
    return total, count


def test_the_loss_is_that_of_response_tokens(policy: Any, examples: list[Encoded]) -> None:
    """EOS included (docs/algorithms.md#ppo-1), prompt and padding left out."""
    total, count = naive_total(policy, examples)
    assert count == 2 * (3 + 2 + 5 + 3 + 2)  # words and EOS of each answer, by hand
    loss = loss_of(policy, examples)
    assert loss == pytest.approx(total / count, abs=1e-5)


def test_perplexity_is_exp_of_that_mean(policy: Any, examples: list[Encoded]) -> None:
    total, count = naive_total(policy, examples)
    for tokens in (30, 4096):
        found = perplexity(policy, examples, 0, SftConfig(micro_batch_tokens=tokens))
        assert found == pytest.approx(math.exp(total / count), rel=1e-5)


def test_micro_batches_do_not_change_the_gradient(policy: Any, examples: list[Encoded]) -> None:
    """docs/algorithms.md#ppo-23."""
    found = []
    for tokens in (4096, 30, 1):
        policy.zero_grad()
        loss = loss_of(policy, examples, micro_batch_tokens=tokens)
        found.append((loss, torch.cat([p.grad.flatten() for p in policy.parameters()])))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-5)
        torch.testing.assert_close(gradient, found[0][1], rtol=0, atol=1e-5)


def test_prompt_tokens_teach_nothing(policy: Any, examples: list[Encoded]) -> None:
    """The output row of a word that stands only in a prompt is pushed down everywhere."""
    example = examples[0]  # "why is the sun red" with "very good"
    loss_of(policy, [example])
    with torch.no_grad():
        hidden = policy.base_model(torch.tensor([example.input_ids])).last_hidden_state[0]
        p = torch.softmax(policy.lm_head(hidden), -1)
    predicting = [t - 1 for t, counts in enumerate(example.response_mask) if counts]
    expected = sum(p[t, 13] * hidden[t] for t in predicting) / 3  # 13 is "why"
    torch.testing.assert_close(policy.lm_head.weight.grad[13], expected, rtol=0, atol=1e-5)


def test_the_number_of_steps_by_hand(examples: list[Encoded]) -> None:
    """Ten examples in batches of four are three steps per epoch."""
    for epochs, steps in ((1.0, 3), (3.0, 9), (0.5, 2), (1.5, 4)):
        config = SftConfig(batch_size=4, num_epochs=epochs)
        assert len(all_batches(examples, config, 0)) == steps
    config = SftConfig(batch_size=4, num_epochs=2.0)
    batches = all_batches(examples, config, 0)
    assert sorted(i for batch in batches[:3] for i in batch) == list(range(10))
    assert batches == all_batches(examples, config, 0) != all_batches(examples, config, 1)
    assert len(all_batches(examples, SftConfig(batch_size=4, max_steps=1), 0)) == 1


@pytest.mark.parametrize(("own", "share", "learnt"), [(2, 0.4, 10), (0, 0.4, 8), (0, 0.0, 10)])
def test_held_out_demonstrations_of_one_s_own_leave_the_others_whole(
    own: int,
    share: float,
    learnt: int,
    lm_dirs: dict[str, Path],
    demonstrations: list[Demonstration],
    stage_run: Callable[..., Any],
) -> None:
    """Without any, a share of the prompts is not trained on: 2 of 10 by this seed's hashes."""
    run = stage_run("sft", run=f"{own}-{share}")
    config = SftConfig(held_out_share=share, max_steps=1, learning_rate=1e-3)
    train_sft(
        config,
        ModelConfig(path=str(lm_dirs["llama"])),
        demonstrations,
        run,
        held_out=demonstrations[:own],
        split_seed=1,
    )
    facts = run.stage.facts()
    assert facts["num_demonstrations"] == learnt
    assert (facts["held_out_perplexity"] is None) is (own == 0 and share == 0)


def train(
    folder: Path, demonstrations: list[Demonstration], run: Any, **changes: Any
) -> tuple[Path, list[dict[str, Any]]]:
    settings = {"learning_rate": 1e-2, "batch_size": 4, "num_epochs": 8.0, "eval_every": 6}
    config = SftConfig.model_validate({**settings, "save_every": 0, **changes})
    model = ModelConfig(path=str(folder))
    found = train_sft(config, model, demonstrations, run, held_out=demonstrations[:3])
    return found, read_metrics(run.folder.path, "sft")


def test_demonstrations_are_learnt(
    lm_dirs: dict[str, Path], demonstrations: list[Demonstration], stage_run: Callable[..., Any]
) -> None:
    folder, lines = train(lm_dirs["llama"], demonstrations, stage_run("sft"))
    assert [line["step"] for line in lines] == list(range(25))
    assert lines[-1]["loss"] < lines[1]["loss"] / 2
    seen = {
        line["step"]: line["held_out_perplexity"] for line in lines if "held_out_perplexity" in line
    }
    assert set(seen) == {0, 6, 12, 18, 24}
    assert seen[24] < seen[6] < seen[0]
    assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == "llama"
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_step_0_is_the_model_that_came_in(
    lm_dirs: dict[str, Path],
    demonstrations: list[Demonstration],
    examples: list[Encoded],
    policy: Any,
    stage_run: Callable[..., Any],
) -> None:
    """The held-out perplexity by the definition, of the model as it was."""
    run = stage_run("sft")
    _, lines = train(lm_dirs["llama"], demonstrations, run, max_steps=2)
    total, count = naive_total(policy, examples[:3])
    assert lines[0]["step"] == 0
    assert lines[0]["held_out_perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)
    assert run.stage.facts()["perplexity_before"] == lines[0]["held_out_perplexity"]


def test_the_same_seed_gives_the_same_model(
    lm_dirs: dict[str, Path], demonstrations: list[Demonstration], stage_run: Callable[..., Any]
) -> None:
    weights = []
    for name in ("a", "b"):
        run = stage_run("sft", run=name)
        folder, _ = train(lm_dirs["qwen2"], demonstrations, run, max_steps=3)
        weights.append((folder / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_base_model_without_a_template_gets_the_one_asked_for(
    tmp_path: Path,
    make_lm: Callable[..., Any],
    tokenizer: Any,
    demonstrations: list[Demonstration],
    stage_run: Callable[..., Any],
) -> None:
    import copy

    base = copy.deepcopy(tokenizer)
    base.chat_template = None
    make_lm("llama").save_pretrained(tmp_path / "base")
    base.save_pretrained(tmp_path / "base")
    config = SftConfig(max_steps=1, save_every=0)
    plain = ModelConfig(path=str(tmp_path / "base"))
    with pytest.raises(UserError, match="no chat template"):
        train_sft(config, plain, demonstrations, stage_run("sft", run="a"))
    chatml = plain.model_copy(update={"chat_template": "chatml"})
    folder = train_sft(config, chatml, demonstrations, stage_run("sft", run="b"))
    assert "<|im_start|>" in AutoTokenizer.from_pretrained(folder).chat_template


def test_a_loss_that_is_not_finite_stops(
    lm_dirs: dict[str, Path],
    demonstrations: list[Demonstration],
    stage_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alignloop.training.loop.accumulate", lambda *_: {"loss": math.nan})
    monkeypatch.setattr("alignloop.training.loop.descend", lambda *_, **__: 0.0)
    with pytest.raises(UserError, match="the loss is not finite at step 1"):
        train(lm_dirs["llama"], demonstrations, stage_run("sft"))


def test_every_turn_of_a_conversation_is_learnt(tokenizer: Any) -> None:
    turns = [("user", "tea"), ("assistant", "warm tea"), ("user", "why"), ("assistant", "rain")]
    messages = tuple(Message(role=role, content=text) for role, text in turns[:3])  # type: ignore[arg-type]
    prompt = Prompt(prompt_id="p", messages=messages)
    whole = Demonstration(prompt=prompt, response="rain", every_turn=True)
    limit = LengthLimit.of("sft.max_tokens", 64, None, "refuse")
    every, last = (
        _encode([one], tokenizer, limit)[0]
        for one in (whole, whole.model_copy(update={"every_turn": False}))
    )
    assert every.input_ids == last.input_ids
    assert sum(last.response_mask) == 2  # rain <eos>
    counted = [i for i, counts in zip(every.input_ids, every.response_mask, strict=True) if counts]
    assert tokenizer.convert_ids_to_tokens(counted) == ["warm", "tea", "<eos>", "rain", "<eos>"]


def test_the_loss_of_a_conversation_is_that_of_all_its_answers(
    policy: Any, tokenizer: Any, prompts: list[Prompt]
) -> None:
    first = Message(role="assistant", content="very good")
    asked = [
        p.model_copy(update={"messages": (*p.messages, first, *p.messages)}) for p in prompts[:4]
    ]
    demonstrations = [Demonstration(prompt=p, response="no", every_turn=True) for p in asked]
    limit = LengthLimit.of("sft.max_tokens", 64, None, "refuse")
    examples = _encode(demonstrations, tokenizer, limit)
    total, count = naive_total(policy, examples)
    assert count == 4 * (2 + 1 + 1 + 1)  # "very good" <eos> and "no" <eos>
    loss = loss_of(policy, examples)
    assert loss == pytest.approx(total / count, abs=1e-5)
