"""The parts of a run: prompts, scores, stopping, and what is refused before the first step."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from alignloop.config import AdaptiveKlConfig, GrpoConfig, ModelConfig, PpoConfig, RlConfig
from alignloop.config.section import variants_in
from alignloop.errors import UserError
from alignloop.judging.judges import TokenJudge
from alignloop.models import RewardScale, load_reward_model, sequence_scores, token_values
from alignloop.records import Message, Prompt
from alignloop.rl.algorithms import make_algorithm
from alignloop.rl.build import PromptStream, PromptTokens, build
from alignloop.rl.experience import WithOldLogprobs, WithReference, WithValues
from alignloop.rl.rewards import EndRewarder, Rewards
from alignloop.rl.stopping import Evaluation, Watch
from alignloop.rollout import Rollout
from alignloop.rollout.batch import RolloutBatch


def stream(count: int = 7, batch_size: int = 3, seed: int = 1) -> PromptStream:
    prompts = [PromptTokens(f"p{i}", [i]) for i in range(count)]
    return PromptStream(prompts=prompts, batch_size=batch_size, seed=seed)


def ids_of(found: list[PromptTokens]) -> list[str]:
    return [prompt.prompt_id for prompt in found]


def test_every_prompt_once_per_epoch() -> None:
    """Seven prompts in steps of three: 21 places are three epochs, also across step borders."""
    places = [i for step in range(1, 8) for i in ids_of(stream().at(step))]
    everything = sorted(f"p{i}" for i in range(7))
    epochs = [places[start : start + 7] for start in (0, 7, 14)]
    assert [sorted(epoch) for epoch in epochs] == [everything] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_prompt_may_stand_in_a_row_for_each_of_its_responses() -> None:
    groups = PromptStream(prompts=stream().prompts, batch_size=3, seed=1, repeats=2)
    asked = ids_of(stream().at(2))
    assert ids_of(groups.at(2)) == [asked[i // 2] for i in range(6)]


def test_a_step_s_prompts_do_not_depend_on_history() -> None:
    one, other = stream(), stream()
    for step in (1, 2, 3):
        one.at(step)
    assert one.at(9) == other.at(9)
    assert one.at(9) == one.at(9)


def test_another_seed_gives_another_order() -> None:
    assert [stream(seed=1).at(s) for s in (1, 2)] != [stream(seed=2).at(s) for s in (1, 2)]


def test_a_batch_larger_than_the_prompts_takes_several_epochs() -> None:
    found = ids_of(stream(count=2, batch_size=5).at(1))
    assert sorted(found[:2]) == sorted(found[2:4]) == ["p0", "p1"]


def watch(**fields: Any) -> Watch:
    return Watch(**{"patience": 2, "kl_budget": 10.0, "price": 0.0, **fields})


def seen_at(step: int, held_out: float, **fields: Any) -> Evaluation:
    usual = {"climbed": held_out, "kl": 0.0, "outside": 0.05, "eos_rate": 1.0}
    return Evaluation(step=step, held_out=held_out, **{**usual, **fields})


def test_the_kl_budget_stops() -> None:
    assert watch().stepped(4, 10.0, True).reason == ""
    assert "10.50 of 10 nats at step 4" in watch().stepped(4, 10.5, True).reason
    assert watch(kl_budget=None).stepped(4, 1e9, True).reason == ""
    assert watch(kl_budget=None).stepped(4, None, True).reason == ""


def test_a_value_that_is_not_finite_stops_before_all_else() -> None:
    assert watch().stepped(3, float("nan"), False).reason == "a value was not finite at step 3"
    assert "not finite" in watch().stepped(3, 99.0, False).reason


def test_patience_counts_evaluations_since_the_best() -> None:
    seen = watch().evaluated(seen_at(0, 1.0)).evaluated(seen_at(10, 3.0))
    seen = seen.evaluated(seen_at(20, 2.0))
    assert seen.best == seen_at(10, 3.0)
    assert (seen.best_value, seen.evaluations_since_best, seen.reason) == (3.0, 1, "")
    again = seen.evaluated(seen_at(30, 3.5))
    assert again.best == seen_at(30, 3.5)
    assert (again.evaluations_since_best, again.reason) == (0, "")
    ended = seen.evaluated(seen_at(30, 3.0))  # as good as the best is no rise
    assert ended.best == seen_at(10, 3.0)
    assert "the held-out score has not risen for 2 evaluations (best 3.000 at step 10)" in (
        ended.reason
    )


def test_distance_has_its_price() -> None:
    """0.02 per nat: 1.348 - 0.02 * 24.46 = 0.8588 is less than 1.324 - 0.02 * 9.13 = 1.1414."""
    near, far = seen_at(12, 1.324, kl=9.13), seen_at(20, 1.348, kl=24.46)
    paid = watch(price=0.02).evaluated(near).evaluated(far)
    assert paid.best == near and paid.best_value == pytest.approx(1.1414)
    assert watch().evaluated(near).evaluated(far).best == far
    unmeasured = watch(price=0.02).evaluated(seen_at(1, 1.0, kl=None))
    assert unmeasured.best_value == 1.0


def test_the_reason_names_only_the_cause_that_the_figures_show() -> None:
    begun = watch(patience=1).evaluated(seen_at(0, 1.0, climbed=1.0))
    hacked = begun.evaluated(seen_at(4, 0.5, climbed=2.0)).reason
    assert hacked.endswith("while the climbed score has: over-optimisation")
    cut = begun.evaluated(seen_at(4, -1.0, climbed=2.0, eos_rate=0.0)).reason
    assert cut.endswith("100% of the answers are cut off") and "over-optim" not in cut
    worse = begun.evaluated(seen_at(4, 0.5, climbed=0.5)).reason
    assert worse.endswith("(best 1.000 at step 0)")
    priced = watch(patience=1, price=0.1).evaluated(seen_at(0, 1.0))
    assert priced.evaluated(seen_at(4, 0.9)).reason.startswith(
        "the held-out score minus the price of KL has not risen"
    )


def test_a_policy_that_is_too_far_to_be_judged_is_never_kept() -> None:
    """C1: the only checkpoints that score more are 92 % unlike the SFT model's answers."""
    begun = watch(patience=1).evaluated(seen_at(0, 0.008))
    near = begun.evaluated(seen_at(4, 1.3, outside=0.37))
    far = begun.evaluated(seen_at(4, 1.3, climbed=1.5, outside=0.92))
    assert near.best == seen_at(4, 1.3, outside=0.37)
    assert far.best == seen_at(0, 0.008)
    assert "92% of the answers are now unlike the SFT model's" in far.reason
    function = watch(bounded=False).evaluated(seen_at(0, 0.1))
    assert function.evaluated(seen_at(4, 0.9, outside=0.92)).best_value == 0.9
    unmeasured = watch().evaluated(seen_at(0, 0.1)).evaluated(seen_at(4, 0.9, outside=None))
    assert unmeasured.best_value == 0.9


def test_the_adaptive_coefficient_by_hand() -> None:
    """Line 10: KL 9 of 6 is an error of 0.5, clipped to 0.2; 6 episodes of a horizon of 60."""
    adaptive = make_algorithm(PpoConfig(adaptive_kl=AdaptiveKlConfig(target=6.0, horizon=60)))
    assert adaptive.start == {"kl_coef": 0.1}
    assert adaptive.after(adaptive.start, {"kl": 9.0}, 6)["kl_coef"] == pytest.approx(0.1 * 1.02)
    assert adaptive.after(adaptive.start, {"kl": 5.4}, 6)["kl_coef"] == pytest.approx(0.1 * 0.99)
    for fixed in map(make_algorithm, (PpoConfig(), GrpoConfig(kl_coef=0.1))):
        assert fixed.after(fixed.start, {"kl": 9.0}, 6) == fixed.start


def test_what_an_algorithm_needs_is_what_its_rollouts_have() -> None:
    """`alignloop plan` asks the settings, without torch; the loop goes by the types."""
    changes: list[dict[str, Any]] = [{}, {"num_epochs": 3}, {"kl_coef": 0.5}, {"importance_cap": 2}]
    variants = variants_in(RlConfig.model_fields["algorithm"])
    assert variants.keys() >= {"ppo", "grpo", "rloo"}
    for settings in (kind(**one) for kind in variants.values() for one in changes):
        algorithm, needs = make_algorithm(settings), settings.needs  # type: ignore[arg-type]
        assert algorithm.name == settings.name  # type: ignore[attr-defined]
        assert issubclass(algorithm.reads, WithReference) is needs.reference
        assert issubclass(algorithm.reads, WithOldLogprobs) is needs.old_logprobs
        assert issubclass(algorithm.reads, WithValues) is needs.critic
        assert (algorithm.critic is not None) is needs.critic


def rewarder(
    model: Any, tokenizer: Any, prompt: Prompt, missing_eos: Any, penalty: float
) -> EndRewarder:
    scale = RewardScale(bias=0.5, scale=2.0)
    judge = TokenJudge(model=model, scale=scale, name="m", pad_id=0, micro_batch_tokens=5)
    inner = Rewards(parts=[(1.0, judge)], tokenizer=tokenizer, prompts={"p": prompt})
    return EndRewarder(rewarder=inner, missing_eos=missing_eos, penalty=penalty)


def test_scores_are_normalised_and_cut_off_answers_punished(
    reward_dirs: dict[str, Path],
    tokenizer: Any,
    model_config: ModelConfig,
    prompts: list[Prompt],
) -> None:
    """Lines 2 and 8: replaced by -1, lowered by 1, or left; the first answer is whole."""
    model = load_reward_model(reward_dirs["llama"], tokenizer, model_config)
    ids = torch.tensor([[3, 9, 4, 5, 1], [3, 9, 4, 6, 0]])
    attention = torch.tensor([[True] * 5, [True] * 4 + [False]])
    rollouts = [rollout([3, 9, 4], [5, 1], "eos"), rollout([3, 9, 4], [6], "length")]
    answers = RolloutBatch.of(rollouts, 0, micro_batch_tokens=5)
    assert len(answers.micro_batches) == 2 and answers.input_ids.tolist() == ids.tolist()
    with torch.no_grad():
        first, second = ((sequence_scores(model, ids, attention) - 0.5) / 2.0).tolist()
    for mode, punished in (("replace", -1.0), ("subtract", second - 1.0), ("off", second)):
        scores = rewarder(model, tokenizer, prompts[0], mode, -1.0).scores(answers)
        assert scores.tolist() == pytest.approx([first, punished], abs=1e-5), mode


def rollout(prompt: list[int], response: list[int], finish: Any) -> Rollout:
    return Rollout(
        prompt_id="p",
        input_ids=(*prompt, *response),
        response_start=len(prompt),
        rollout_logprobs=tuple(-0.1 * (i + 1) for i in range(len(response))),
        finish_reason=finish,
    )


def known(parts: Any) -> str:
    """The id of a prompt that may be asked."""
    return next(iter(parts.scorer.rewarder.rewarder.prompts))


def test_scoring_puts_every_number_at_its_token(
    model_config: ModelConfig, rl_inputs: Callable[..., Any], rl_config: Callable[..., RlConfig]
) -> None:
    """Two ragged answers, one token budget for both or one each: the same numbers."""
    rollouts = [rollout([3, 9, 4], [5, 1], "eos"), rollout([3, 4], [8, 9, 10, 11, 5], "length")]
    found = []
    for tokens in (1, 1000):
        config = rl_config(micro_batch_tokens=tokens)
        parts = build(config, model_config, rl_inputs(), seed=3, observer=None)
        found.append(parts.scorer.score([replace(r, prompt_id=known(parts)) for r in rollouts]))
    for name, value in vars(found[0]).items():
        torch.testing.assert_close(value, vars(found[1])[name], rtol=0, atol=1e-5, msg=name)
    scored = found[1]
    assert scored.response_mask.tolist() == [
        [False, False, False, True, True, False, False],
        [False, False, True, True, True, True, True],
    ]
    row = [0.0, 0.0, 0.0, -0.1, -0.2, 0.0, 0.0]
    assert scored.rollout_logprobs[0].tolist() == pytest.approx(row)
    assert scored.finished.tolist() == [True, False]
    assert float(scored.scores[1]) == -1.0  # line 2
    # The reference is the policy itself at the start, so there is no KL yet.
    torch.testing.assert_close(scored.old_logprobs, scored.ref_logprobs, rtol=0, atol=0)
    for tensor in (scored.old_logprobs, scored.values, scored.entropy):
        assert bool((tensor[~scored.response_mask] == 0).all())
        assert bool((tensor[scored.response_mask] != 0).all())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_critic_begins_with_the_score(
    family: str,
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
) -> None:
    """Line 7: after the last token the critic says the (normalised) score, missing EOS aside."""
    config = rl_config(missing_eos="off")
    parts = build(config, model_config, rl_inputs(family), seed=3, observer=None)
    rollouts = parts.sampler.generate(parts.stream.at(1), parts.stream.seeds(1))
    scored = parts.scorer.score(rollouts)
    torch.testing.assert_close(scored.final_values, scored.scores, rtol=0, atol=1e-5)


def test_the_critic_may_begin_from_the_policy(
    model_config: ModelConfig, rl_inputs: Callable[..., Any], rl_config: Callable[..., RlConfig]
) -> None:
    config = rl_config(algorithm={"critic_init": "policy"})
    parts = build(config, model_config, rl_inputs(), seed=3, observer=None)
    policy, critic = parts.learner.policy, parts.learner.critic
    assert torch.equal(policy.model.embed_tokens.weight, critic.model.embed_tokens.weight)
    ids = torch.tensor([[3, 9, 4, 5]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    raw = sequence_scores(parts.scorer.rewarder.rewarder.parts[0][1].model, ids, mask)
    assert abs(float((token_values(critic, ids, mask)[1] - raw).detach())) > 1e-4


def test_policy_and_reference_share_no_weights(
    model_config: ModelConfig, rl_inputs: Callable[..., Any], rl_config: Callable[..., RlConfig]
) -> None:
    parts = build(rl_config(), model_config, rl_inputs(), seed=3, observer=None)
    scorer = parts.scorer
    frozen = [
        *scorer.reference.parameters(),
        *scorer.rewarder.rewarder.parts[0][1].model.parameters(),
    ]
    moving = [*scorer.policy.parameters(), *scorer.critic.parameters()]
    assert not any(p.requires_grad for p in frozen)
    assert all(p.requires_grad for p in moving)
    assert not {p.data_ptr() for p in frozen} & {p.data_ptr() for p in moving}


def test_more_tokens_than_the_context_are_refused(
    model_config: ModelConfig, rl_inputs: Callable[..., Any], rl_config: Callable[..., RlConfig]
) -> None:
    config = rl_config(max_prompt_tokens=60)
    with pytest.raises(UserError, match="may take 68 tokens, but the model's context is 64"):
        build(config, model_config, rl_inputs(), seed=3, observer=None)


def test_pad_equal_to_eos_needs_nothing_from_anybody(
    tmp_path: Path,
    lm_dirs: dict[str, Path],
    tokenizer: Any,
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
) -> None:
    """Line 1: policy, reference and critic get a PAD of its own, here the one that has its name."""
    import copy
    import shutil

    folder = shutil.copytree(lm_dirs["llama"], tmp_path / "m")
    other = copy.deepcopy(tokenizer)
    other.pad_token = other.eos_token
    other.save_pretrained(folder)
    parts = build(rl_config(), model_config, rl_inputs(policy_dir=folder), seed=3, observer=None)
    assert (parts.tokenizer.pad_token, parts.tokenizer.eos_token) == ("<pad>", "<eos>")
    assert parts.scorer.pad_id == parts.learner.policy.config.pad_token_id == 0
    assert parts.scorer.reference.config.pad_token_id == 0


def test_validation_asks_the_same_questions_every_time(
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
    prompts: list[Prompt],
) -> None:
    one_token = {"max_new_tokens": 1, "batch_size": 4}  # so that all answers are cut off
    config = rl_config(validation_size=3, num_printed_samples=2, sampling=one_token)
    seen: list[int] = []

    def observer(samples: Any) -> dict[str, float]:
        seen.append(len(samples))
        return {"gold": 0.5}

    inputs = rl_inputs(validation_prompts=prompts)
    parts = build(config, model_config, inputs, seed=3, observer=observer)
    metrics, samples = parts.validation.evaluate(1)
    assert parts.validation.evaluate(1) == (metrics, samples)
    assert seen == [3, 3] and len(samples) == 2
    assert metrics["validation_gold"] == 0.5
    assert metrics["validation_kl"] == 0.0
    # Without a second reward model the first has to do for both; the penalty chooses nothing.
    cut_off = [sample for sample in samples if sample.finish_reason == "length"]
    assert cut_off and all(sample.score == -1.0 for sample in cut_off)
    assert metrics["validation_score"] < metrics["validation_held_out_score"]


def test_the_held_out_model_judges_the_same_answers(
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
    reward_dirs: dict[str, Path],
) -> None:
    """Another head gives other numbers; the same model gives the same."""
    same = rl_inputs(held_out_dir=reward_dirs["llama"])
    other = rl_inputs(held_out_dir=reward_dirs["qwen2"])
    for inputs, equal in ((same, True), (other, False)):
        parts = build(rl_config(missing_eos="off"), model_config, inputs, seed=3, observer=None)
        metrics, _ = parts.validation.evaluate(0)
        difference = metrics["validation_held_out_score"] - metrics["validation_score"]
        assert (abs(difference) < 1e-6) is equal


def test_system_messages_and_earlier_turns_are_part_of_the_prompt(
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
    tokenizer: Any,
) -> None:
    """And those that are too long are cut: the oldest exchange goes, the system message stays."""

    def asked(name: str, *turns: tuple[str, str]) -> Prompt:
        messages = [Message(role=role, content=text) for role, text in turns]  # type: ignore[arg-type]
        return Prompt(prompt_id=name, messages=tuple(messages))

    exchange = [("user", "why is the tea cold"), ("assistant", "rain")]
    short = asked("short", ("system", "very good"), *exchange, ("user", "how is the sun"))
    long = asked("long", ("system", "very good"), *exchange * 2, ("user", "is the moon red"))
    config = rl_config(batch_size=2, max_prompt_tokens=18, too_long="cut")
    inputs = rl_inputs(prompts=[short, long], validation_prompts=[long])
    parts = build(config, model_config, inputs, seed=3, observer=None)
    told = {name: tokenizer.decode(ids) for name, ids in parts.stream.at(1)}
    system = "<unk> very good"  # the tiny vocabulary has no word for the role
    opening = f"{system} <user> why is the tea cold <assistant> rain <eos>"
    assert told["short"] == f"{opening} <user> how is the sun <assistant>"
    assert told["long"] == f"{opening} <user> is the moon red <assistant>"
    rollouts = parts.sampler.generate(parts.stream.at(1), parts.stream.seeds(1))
    scored = parts.scorer.score(rollouts)
    answers = [len(rollout.response_ids) for rollout in rollouts]
    assert scored.response_mask.sum(1).tolist() == answers
