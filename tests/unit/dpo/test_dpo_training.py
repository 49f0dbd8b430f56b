"""DPO: it starts at ln 2, numbers by hand, and pairs that can be told apart are learnt."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignloop.config import DpoConfig, ModelConfig
from alignloop.config.objectives import IpoObjective
from alignloop.config.section import variants_in
from alignloop.data.pairs import PairStore, TextCodes
from alignloop.data.tokenise import Encoded, LengthLimit, encode_example
from alignloop.dpo import train_dpo
from alignloop.dpo.objectives import PairLogprobs, make_loss
from alignloop.dpo.train import Reader, Reference, pair_losses
from alignloop.errors import UserError
from alignloop.models import load_policy
from alignloop.parallel import SINGLE
from alignloop.records import Message, PreferencePair, Prompt
from alignloop.run import read_metrics
from alignloop.training.loop import accumulate
from alignloop.training.pairs import means, pair_step, scores_of

TOPICS = ("tea", "rain", "sun", "moon", "红茶", "天气", "雨", "red", "blue", "warm", "cold", "very")
LOG3 = math.log(3.0)


@pytest.fixture
def pairs(make_prompt: Callable[..., Prompt]) -> list[PreferencePair]:
    """An answer that says "good" is better than one that says "bad", and both than no answer."""
    found = []
    for topic in TOPICS:
        prompt = make_prompt(f"how is {topic}")
        good, bad, no = f"{topic} is very good", f"{topic} is bad", "no"
        for chosen, rejected in ((good, bad), (good, no), (bad, no)):
            found.append(PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected))
    return found


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A policy, all pairs, and one step on them."""

    store: PairStore
    reader: Reader
    config: DpoConfig

    def reference(self) -> Reference:
        return Reference.of(self.store, range(len(self.store.pairs)), self.reader)

    def step(self, reference: Reference) -> dict[str, float]:
        losses, tokens = (
            pair_losses(self.config, self.store, reference),
            (self.config.micro_batch_tokens),
        )
        rows = range(len(self.store.pairs))
        return accumulate(pair_step(self.store, rows, self.reader.logprobs, losses, tokens), SINGLE)


@pytest.fixture
def make_learner(
    lm_dirs: dict[str, Path],
    tokenizer: Any,
    model_config: ModelConfig,
    pairs: list[PreferencePair],
) -> Callable[..., Learner]:
    def make(**changes: Any) -> Learner:
        policy, config = (
            load_policy(lm_dirs["llama"], tokenizer, model_config),
            DpoConfig.model_validate(changes),
        )
        limit = LengthLimit.of("dpo.max_tokens", 64, None, "refuse")
        return Learner(
            store=PairStore.of(pairs, TextCodes(tokenizer=tokenizer, limit=limit)),
            reader=Reader(policy=policy, pad_id=0, micro_batch_tokens=config.micro_batch_tokens),
            config=config,
        )

    return make


def test_it_starts_at_log_two(make_learner: Callable[..., Learner]) -> None:
    """The policy is its own reference: every margin is 0."""
    learner = make_learner(objective={"beta": 0.7})
    metrics = learner.step(learner.reference())
    assert metrics["loss"] == pytest.approx(math.log(2), abs=1e-5)
    for name in ("margin", "chosen_reward", "rejected_reward"):
        assert metrics[name] == pytest.approx(0.0, abs=1e-5)


def test_the_reference_is_that_of_whole_responses(
    make_learner: Callable[..., Learner], pairs: list[PreferencePair], tokenizer: Any
) -> None:
    """The sum over response tokens, EOS included, one text at a time and in float64."""
    learner = make_learner(micro_batch_tokens=40)
    reference = learner.reference()
    for side in ("chosen", "rejected"):
        for pair, found in zip(pairs, getattr(reference, side).tolist(), strict=True):
            text = encode_example(tokenizer, pair.prompt, getattr(pair, side), 64)
            with torch.no_grad():
                logits = learner.reader.policy(torch.tensor([text.input_ids])).logits[0].double()
            logprobs = torch.log_softmax(logits, -1)
            expected = sum(
                float(logprobs[t - 1, token])
                for t, token in enumerate(text.input_ids)
                if text.response_mask[t]
            )
            assert found == pytest.approx(expected, abs=1e-4)


def by_hand(
    logprobs: tuple[float, ...] = (-1.0, -4.0, -2.0, -2.0),
    ref_rejected: tuple[float, ...] = (-4.0 + 2 * LOG3 - 1, -4.0),
    **fields: Any,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Texts of -1, -4, -2, -2 nats; the reference says -2, -4 + 2 log 3 - 1, -2 and -4."""
    prompt = Prompt(prompt_id="p", messages=(Message(role="user", content="p"),))
    pairs = tuple(
        PreferencePair(
            prompt=prompt, chosen="a", rejected="b", **{name: of[i] for name, of in fields.items()}
        )
        for i in range(2)
    )
    texts = (Encoded(input_ids=(1,), response_mask=(True,)),) * 4
    store = PairStore(pairs=pairs, texts=texts, chosen=(0, 2), rejected=(1, 3))
    reference = Reference(chosen=torch.tensor([-2.0] * 2), rejected=torch.tensor(ref_rejected))
    losses = pair_losses(DpoConfig.model_validate({"objective": {"beta": 0.5}}), store, reference)
    return means(store, scores_of(store, torch.tensor(logprobs), torch.arange(2)), losses, store)


def test_the_loss_by_hand() -> None:
    """h = (1 + 2 log 3 - 1) / 2 = log 3 and (0 - 2) / 2 = -1, with weights 1 and 3."""
    loss, metrics = by_hand(weight=(1.0, 3.0))
    expected = (-math.log(3 / 4) + 3 * math.log1p(math.e)) / 4
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    assert metrics["accuracy"] == 0.5
    assert metrics["chosen_reward"] == pytest.approx((0.5 + 0.0) / 2)
    assert metrics["rejected_reward"] == pytest.approx((-(2 * LOG3 - 1) / 2 + 1.0) / 2)
    assert metrics["margin"] == pytest.approx((LOG3 - 1) / 2)


def test_margins_of_nothing_count_half() -> None:
    """Before the first step policy and reference are one, and nothing is ranked: 0.5, not 0."""
    _, metrics = by_hand((-2.0, -4.0, -2.0, -2.0), (-4.0, -2.0))
    assert metrics["accuracy"] == 0.5


def pair_logprobs(preference: tuple[float, ...]) -> PairLogprobs:
    """Log ratios 1 and -2 nats, then 0 and 2."""
    one = torch.ones(2)
    return PairLogprobs(
        chosen=torch.tensor([-1.0, -2.0], requires_grad=True),
        rejected=torch.tensor([-6.0, -2.0]),
        ref_chosen=torch.tensor([-2.0, -2.0]),
        ref_rejected=torch.tensor([-4.0, -4.0]),
        chosen_tokens=one,
        rejected_tokens=one,
        preference=torch.tensor(preference),
    )


def test_ipo_by_hand() -> None:
    """h = 3 and -2, wanted is 1 / (2 * 0.25) = 2: losses 1 and 16, gradients 2 and -8 nats."""
    loss_of = make_loss(IpoObjective(beta=0.25))
    pairs = pair_logprobs((1.0, 1.0))
    loss = loss_of(pairs)
    assert loss.tolist() == [1.0, 16.0]
    loss.sum().backward()
    assert pairs.chosen.grad is not None and pairs.chosen.grad.tolist() == [2.0, -8.0]
    # a tie is (1 + 25) / 2 and (16 + 0) / 2; three to one is 0.75 * 16 + 0.25 * 0
    assert loss_of(pair_logprobs((0.5, 0.5))).tolist() == [13.0, 8.0]
    assert loss_of(pair_logprobs((1.0, 0.75))).tolist() == [1.0, 12.0]


def test_every_objective_of_the_settings_has_a_file() -> None:
    variants = variants_in(DpoConfig.model_fields["objective"])
    assert variants.keys() >= {"dpo", "ipo"}
    for settings in variants.values():
        loss = make_loss(settings())  # type: ignore[arg-type]
        assert bool(loss(pair_logprobs((1.0, 0.5))).isfinite().all())


def test_the_reference_reads_only_what_a_step_will_learn(
    lm_dirs: dict[str, Path],
    pairs: list[PreferencePair],
    stage_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[list[PreferencePair]] = []
    whole = Reader.all_logprobs

    def noted(self: Reader, some: PairStore, say: Any = None) -> torch.Tensor:
        read.append(list(some.pairs))
        return whole(self, some, say)

    monkeypatch.setattr(Reader, "all_logprobs", noted)
    losses = []
    for name, steps in (("all", None), ("two", 2)):
        config = DpoConfig(max_steps=steps, batch_size=6, held_out_share=0, learning_rate=1e-3)
        run = stage_run("dpo", run=name)
        model = ModelConfig(path=str(lm_dirs["llama"]))
        train_dpo(config, model, lm_dirs["llama"], pairs, run)
        losses.append([line["loss"] for line in read_metrics(run.folder.path, "dpo")])
    everything, some = read
    assert sorted(map(repr, everything)) == sorted(map(repr, pairs))
    assert len(some) == 12 and set(map(repr, some)) < set(map(repr, pairs))
    assert losses[1][0] == pytest.approx(losses[0][0], abs=1e-6)  # the same pairs first


def test_a_tie_is_a_soft_label_and_counts_for_no_accuracy() -> None:
    loss, metrics = by_hand(preference=(1.0, 0.5))
    tie = (math.log1p(math.e) + math.log1p(1 / math.e)) / 2
    assert float(loss) == pytest.approx((-math.log(3 / 4) + tie) / 2, abs=1e-6)
    assert metrics["accuracy"] == 1.0
    assert by_hand(preference=(0.5, 0.5))[1]["accuracy"] == 0.5


def test_micro_batches_do_not_change_the_gradient(make_learner: Callable[..., Learner]) -> None:
    """PPO-23, here for rankings that are divided, so that a text is read in several of them."""
    found = []
    for tokens in (10_000, 60, 1):
        learner = make_learner(micro_batch_tokens=tokens)
        reference, policy = learner.reference(), learner.reader.policy
        with torch.no_grad():  # away from the reference, so that pairs weigh differently
            policy.lm_head.weight.mul_(1.1)
        metrics = learner.step(reference)
        gradient = torch.cat([p.grad.flatten() for p in policy.parameters()])
        found.append((metrics, gradient))
    assert float(found[0][1].norm()) > 1e-3
    for metrics, gradient in found[1:]:
        assert metrics == pytest.approx(found[0][0], abs=1e-5)
        torch.testing.assert_close(gradient, found[0][1], rtol=0, atol=1e-5)


def test_rows_keep_their_reference(make_learner: Callable[..., Learner]) -> None:
    """Rows that no step will learn are not asked; the others have what all of them would have."""
    learner = make_learner()
    some, whole = Reference.of(learner.store, [5, 2], learner.reader), learner.reference()
    for side in ("chosen", "rejected"):
        found, expected = getattr(some, side), getattr(whole, side)
        torch.testing.assert_close(found[[5, 2]], expected[[5, 2]], rtol=0, atol=1e-5)
        assert int(found.isnan().sum()) == len(found) - 2


@pytest.fixture
def trained(
    pairs: list[PreferencePair],
    lm_dirs: dict[str, Path],
    model_config: ModelConfig,
    stage_run: Callable[..., Any],
) -> Callable[..., tuple[Path, list[dict[str, Any]]]]:
    """`trained("a", max_steps=3)`: (model folder, metrics)."""

    def make(name: str, run: Any = None, **changes: Any) -> tuple[Path, list[dict[str, Any]]]:
        settings = {"learning_rate": 1e-2, "batch_size": 12, "num_epochs": 4.0, "save_every": 0}
        settings |= {"held_out_share": 0.25, "eval_every": 4, "micro_batch_tokens": 100}
        config = DpoConfig.model_validate({**settings, **changes})
        run = run or stage_run("dpo", run=name)
        model = train_dpo(config, model_config, lm_dirs["llama"], pairs, run)
        return model, read_metrics(run.folder.path, "dpo")

    return make


def test_pairs_that_can_be_told_apart_are_learnt(
    trained: Callable[..., tuple[Path, list[dict[str, Any]]]],
) -> None:
    model, lines = trained("a")
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert lines[-1]["accuracy"] == 1.0 and lines[-1]["loss"] < 0.4
    assert lines[-1]["chosen_reward"] > lines[-1]["rejected_reward"] + 0.8
    assert all(line["gradient_norm"] > 0 for line in lines)
    measured = [line for line in lines if "held_out_accuracy" in line]
    assert [line["step"] for line in measured] == [4, 8, 12]
    assert measured[-1]["held_out_accuracy"] > 0.9 and measured[-1]["held_out_loss"] < 0.5
    assert AutoModelForCausalLM.from_pretrained(model).config.model_type == "llama"
    assert AutoTokenizer.from_pretrained(model).chat_template


class _Killed(Exception):
    pass


def test_a_run_that_goes_on_is_the_same_to_the_bit(
    trained: Callable[..., tuple[Path, list[dict[str, Any]]]],
    stage_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reference is the model it began with, and not the one of the checkpoint."""
    straight, expected = trained("straight", max_steps=4, save_every=2)
    stopped = stage_run("dpo", run="stopped")
    log = stopped.log

    def log_then_die(step: int, *rest: Any, **options: Any) -> None:
        log(step, *rest, **options)
        if step == 3:
            raise _Killed

    monkeypatch.setattr(stopped, "log", log_then_die)
    with pytest.raises(_Killed):
        trained("stopped", stopped, max_steps=4, save_every=2)
    stopped.folder.close()
    resumed, found = trained("stopped", max_steps=4, save_every=2)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (straight, resumed)]
    assert weights[0] == weights[1]
    clock = {"time", "seconds_per_step", "tokens_per_second"}
    assert [{k: v for k, v in line.items() if k not in clock} for line in found] == [
        {k: v for k, v in line.items() if k not in clock} for line in expected
    ]


@pytest.mark.slow
def test_ipo_stops_where_the_pairs_are_told_apart(
    trained: Callable[..., tuple[Path, list[dict[str, Any]]]],
) -> None:
    """The loss begins at 1 / (4 beta^2) and the log ratios come near 1 / (2 beta) apart."""
    _, lines = trained("a", objective={"name": "ipo", "beta": 0.2})
    assert lines[0]["loss"] == pytest.approx(6.25, abs=1e-3)
    assert lines[-1]["loss"] < 0.75 * lines[0]["loss"]
    assert 0 < lines[-1]["margin"] / 0.2 < 2 / (2 * 0.2)


def test_too_long_pairs_are_refused_or_left_out(
    trained: Callable[..., tuple[Path, list[dict[str, Any]]]],
) -> None:
    """<user> how is tea <assistant> and "tea is very good" and EOS are ten tokens."""
    with pytest.raises(UserError, match=r"rows are too long.*dpo.max_tokens allows 8"):
        trained("a", max_tokens=8)
    with pytest.raises(UserError, match="too long"):
        trained("b", max_tokens=8, too_long="skip")  # none is left
    _, lines = trained("c", max_tokens=9, too_long="skip", max_steps=1)
    assert len(lines) == 1


def test_a_loss_that_is_not_finite_stops(
    trained: Callable[..., tuple[Path, list[dict[str, Any]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignloop.training.loop.accumulate", lambda *_: {"loss": math.nan})
    monkeypatch.setattr("alignloop.training.loop.descend", lambda *_, **__: 0.0)
    with pytest.raises(UserError, match="the loss is not finite at step 1") as caught:
        trained("a")
    assert "dpo.learning_rate" in caught.value.fix


def test_gradients_that_overflow_end_the_stage(
    trained: Callable[..., tuple[Path, list[dict[str, Any]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take no step at all, and end as if it had learnt."""
    monkeypatch.setattr("alignloop.training.loop.descend", lambda *_, **__: float("inf"))
    with pytest.raises(UserError, match="the gradients were not finite at step 3"):
        trained("a")


def test_a_beta_beyond_all_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="has no meaning here"):
        DpoConfig.model_validate({"objective": {"beta": 1e30}})
