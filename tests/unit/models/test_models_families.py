"""Every dense family: the same numbers as transformers' own, all three stages, and saved models.

The configs have what makes a family different at work: windows shorter than the texts, capped
logits, learned positions, biases, projections around the trunk, dropout.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from rollout_support import answers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GraniteConfig,
    PreTrainedTokenizerFast,
)

from alignloop.config import ModelConfig, RewardConfig, RlConfig, SamplingConfig, SftConfig
from alignloop.data.batching import pad_batch
from alignloop.data.tokenise import Encoded
from alignloop.errors import UserError
from alignloop.models import (
    load_policy,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    save_model,
    sequence_scores,
    token_logprobs,
    token_values,
)
from alignloop.records import Demonstration, PreferencePair, Prompt
from alignloop.reward.labels import Labels
from alignloop.reward.train import train_reward
from alignloop.rl import train_rl
from alignloop.rl.build import RlInputs
from alignloop.rollout import make_sampler
from alignloop.run import read_metrics
from alignloop.sft import train_sft

SIDES: tuple[Literal["right", "left"], ...] = ("right", "left")
SEQUENCES = (
    ((3, 12, 7, 1, 3, 9, 4), (22, 0, 5, 1)),
    ((3, 8, 4), (20, 1)),
    ((3, 30, 31, 4), (6, 6, 25, 9, 10)),
)


def batch(side: Literal["right", "left"]) -> dict[str, torch.Tensor]:
    examples = [
        Encoded(input_ids=(*p, *r), response_mask=(False,) * len(p) + (True,) * len(r))
        for p, r in SEQUENCES
    ]
    return pad_batch(examples, 0, side)


@torch.no_grad()
def naive_logprobs(model: Any) -> torch.Tensor:
    """One sequence after the other by transformers' own forward pass, without padding."""
    found: list[float] = []
    for prompt, response in SEQUENCES:
        ids = (*prompt, *response)
        logits = model(torch.tensor([ids])).logits[0].double()
        logprobs = torch.log_softmax(logits, dim=-1)
        found += [float(logprobs[t - 1, ids[t]]) for t in range(len(prompt), len(ids))]
    return torch.tensor(found)


@pytest.mark.slow
@pytest.mark.parametrize("side", SIDES)
def test_logprobs_are_transformers_own_on_either_side_of_padding(
    side: Literal["right", "left"], family_dir: Path, tokenizer: Any, model_config: ModelConfig
) -> None:
    policy = load_policy(family_dir, tokenizer, model_config)
    plain = AutoModelForCausalLM.from_pretrained(family_dir).eval()
    padded = batch(side)
    found = token_logprobs(policy, **padded).logprobs[padded["response_mask"]]
    torch.testing.assert_close(found, naive_logprobs(plain), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_head_alone_says_what_the_whole_model_says(
    family_dir: Path,
    tokenizer: Any,
    model_config: ModelConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With gradients: a family that is not listed goes through the whole model."""
    found = []
    for listed in (True, False):
        policy = load_policy(family_dir, tokenizer, model_config)
        if not listed:
            for name in ("PLAIN_HEADS", "CAPPED_HEADS"):
                monkeypatch.setattr(f"alignloop.models.logprobs.{name}", set())
        statistics = token_logprobs(policy, **batch("left"))
        statistics.logprobs.sum().backward()
        gradients = {n: p.grad for n, p in policy.named_parameters() if p.grad is not None}
        found.append((statistics, gradients))
    (ours, our_gradients), (whole, gradients) = found
    torch.testing.assert_close(ours.logprobs, whole.logprobs, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.entropy, whole.entropy, rtol=0, atol=1e-5)
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.slow
def test_scores_are_transformers_own_and_do_not_depend_on_padding(
    family_dir: Path, tokenizer: Any, model_config: ModelConfig, tmp_path: Path
) -> None:
    """Line 4; the saved reward model loads in plain transformers and scores the same."""
    save_model(tmp_path, new_reward_model(family_dir, tokenizer, model_config, seed=5), tokenizer)
    model = load_reward_model(tmp_path, tokenizer, model_config)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1).eval()
    with torch.no_grad():
        alone = torch.stack([plain(torch.tensor([[*p, *r]])).logits[0, 0] for p, r in SEQUENCES])
    assert float(alone.std()) > 1e-3, "the scores must be told apart"
    for side in SIDES:
        padded = batch(side)
        ids, attention = padded["input_ids"], padded["attention_mask"]
        scores = sequence_scores(model, ids, attention).detach()
        torch.testing.assert_close(scores, alone, rtol=0, atol=1e-5)
        values, final = token_values(model, **padded)
        torch.testing.assert_close(final.detach(), scores, rtol=0, atol=1e-5)
        one_by_one = [float(v.detach()) for v in values[padded["response_mask"]]]
        if side == "right":
            expected = one_by_one
        else:
            assert one_by_one == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_checkpointing_changes_no_number_and_keeps_less(
    family_dir: Path, tokenizer: Any, model_config: ModelConfig
) -> None:
    """Gradients of policy and reward model; the sampler's cache is none of its business."""
    found, kept = [], []
    for wanted in (False, True):
        config = model_config.model_copy(update={"gradient_checkpointing": wanted})
        policy = load_policy(family_dir, tokenizer, config)
        reward = new_reward_model(family_dir, tokenizer, config, seed=5)
        padded = batch("left")
        sizes: list[int] = []

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = token_logprobs(policy, **padded).logprobs.sum()
            scores = sequence_scores(reward, padded["input_ids"], padded["attention_mask"])
        kept.append(sum(sizes))
        (loss + scores.sum()).backward()
        named = [*policy.named_parameters(), *reward.named_parameters(prefix="reward")]
        found.append({name: p.grad for name, p in named if p.grad is not None})
        assert not any(module.training for module in (*policy.modules(), *reward.modules()))
        prompts = [("a", SEQUENCES[0][0])]
        settings = SamplingConfig(max_new_tokens=6)
        sampler = make_sampler(policy, tokenizer, settings)
        drawn = answers(sampler, prompts, 1)
        seen = token_logprobs(policy, **pad_batch(drawn, 0)).logprobs.detach()
        expected = torch.tensor(drawn[0].rollout_logprobs)
        torch.testing.assert_close(seen[0, 7:], expected, rtol=0, atol=1e-5)
    plain, again = found
    assert plain.keys() == again.keys() and len(plain) > 20
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-4, msg=name)
    assert kept[1] < 0.7 * kept[0]


@pytest.mark.slow
def test_dropout_is_off_even_in_training_mode(
    family_dir: Path, tokenizer: Any, model_config: ModelConfig
) -> None:
    """Line 19, for policy and reward model: nobody may turn it on again by `train()`."""
    policy = load_policy(family_dir, tokenizer, model_config)
    reward = new_reward_model(family_dir, tokenizer, model_config, seed=5)
    padded = batch("right")
    ids, attention = padded["input_ids"], padded["attention_mask"]
    quiet = token_logprobs(policy, **padded).logprobs, sequence_scores(reward, ids, attention)
    loud = (
        token_logprobs(policy.train(), **padded).logprobs,
        sequence_scores(reward.train(), ids, attention),
    )
    for one, other in zip(quiet, loud, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_sampler_draws_from_what_the_trainer_sees(
    family_dir: Path, tokenizer: Any, model_config: ModelConfig
) -> None:
    """Line 22, over several window lengths; and greedy decoding is `generate`."""
    policy = load_policy(family_dir, tokenizer, model_config)
    prompts = [(str(i), p) for i, (p, _) in enumerate(SEQUENCES)] * 2
    settings = SamplingConfig(max_new_tokens=16, batch_size=4)
    rollouts = answers(make_sampler(policy, tokenizer, settings), prompts, 1)
    padded = pad_batch(rollouts, 0)
    seen = token_logprobs(policy, **padded).logprobs[padded["response_mask"]].detach()
    drawn = torch.tensor([value for r in rollouts for value in r.rollout_logprobs])
    torch.testing.assert_close(seen, drawn, rtol=0, atol=1e-5)
    cold = SamplingConfig(max_new_tokens=8, temperature=1e-4)
    ours = answers(make_sampler(policy, tokenizer, cold), prompts[:1], 0)[0]
    plain = AutoModelForCausalLM.from_pretrained(family_dir).eval()
    ids = torch.tensor([prompts[0][1]])
    greedy = plain.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False
    )
    assert list(ours.input_ids) == greedy[0].tolist()


@pytest.mark.slow
def test_a_pad_token_is_added_with_a_row_that_hardly_anybody_draws(
    family_dir: Path,
    tokenizer: Any,
    model_config: ModelConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Line 1. No token of the old vocabulary changes its odds, and the saved model keeps PAD."""
    vocabulary = tokenizer.backend_tokenizer.to_str().replace("<pad>", "<nothing>")
    bare = PreTrainedTokenizerFast(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(vocabulary),
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template=tokenizer.chat_template,
    )
    folder = tmp_path / "bare"
    plain = AutoModelForCausalLM.from_pretrained(family_dir).eval()
    plain.save_pretrained(folder)
    bare.save_pretrained(folder)
    with caplog.at_level(logging.WARNING):
        found = load_tokenizer(folder, model_config)
    assert "padding with <|pad|>" in caplog.text
    size = len(bare)
    assert (found.pad_token, found.pad_token_id) == ("<|pad|>", size) != (None, found.eos_token_id)
    policy = load_policy(folder, found, model_config)
    assert policy.config.vocab_size == size + 1 == policy.get_output_embeddings().out_features
    tied = policy.get_input_embeddings().weight is policy.get_output_embeddings().weight
    assert tied is (plain.get_input_embeddings().weight is plain.get_output_embeddings().weight)
    ids = torch.tensor([SEQUENCES[0][0]])
    with torch.no_grad():
        old, new = plain(ids).logits, policy(ids).logits
    torch.testing.assert_close(new[..., :size], old, rtol=0, atol=1e-5)
    assert float(torch.softmax(new, dim=-1)[..., size].max()) < 1.05 / (size + 1)
    save_model(tmp_path, policy, found)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.pad_token_id == size == load_tokenizer(tmp_path).pad_token_id
    reward = new_reward_model(folder, found, model_config, seed=5)
    assert reward.config.pad_token_id == size
    assert reward.get_input_embeddings().weight.shape[0] == size + 1


def stages(
    family_dir: Path,
    model_config: ModelConfig,
    stage_run: Callable[..., Any],
    prompts: list[Prompt],
) -> tuple[Path, Path, Path]:
    """Two steps of each stage, one upon the other: (sft, reward, policy) directories."""
    demonstrations = [Demonstration(prompt=p, response="the sun is red") for p in prompts]
    pairs = [PreferencePair(prompt=p, chosen="very good", rejected="no bad rain") for p in prompts]
    base = model_config.model_copy(update={"path": str(family_dir)})
    rates: dict[str, Any] = {"learning_rate": 1e-2, "save_every": 0}
    sft = train_sft(
        SftConfig(batch_size=4, max_steps=2, held_out_share=0, **rates),
        base,
        demonstrations,
        stage_run("sft"),
    )
    parts = Labels(train=pairs[:6], calibration=pairs[6:8], test=pairs[8:], of=len(pairs))
    reward = train_reward(
        RewardConfig(batch_size=3, max_steps=2, **rates),
        base,
        sft,
        parts,
        stage_run("reward", run="r"),
    )
    config = RlConfig(
        batch_size=3,
        num_steps=2,
        sampling=SamplingConfig(max_new_tokens=6),
        max_prompt_tokens=16,
        validation_size=2,
        eval_every=2,
        algorithm={"num_epochs": 2},  # pyright: ignore[reportArgumentType]
        **rates,
    )
    inputs = RlInputs(
        policy_dir=sft,
        reward_dir=reward,
        held_out_dir=None,
        prompts=prompts,
        validation_prompts=prompts[:2],
    )
    return sft, reward, train_rl(config, base, inputs, stage_run("rl", run="p"))


@pytest.mark.slow
def test_sft_reward_model_and_ppo(
    family_dir: Path,
    model_config: ModelConfig,
    stage_run: Callable[..., Any],
    prompts: list[Prompt],
    tmp_path: Path,
) -> None:
    _, reward, policy = stages(family_dir, model_config, stage_run, prompts)
    lines = read_metrics(tmp_path / "p", "rl")
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert lines[1]["first_ratio"] == 1.0 and lines[1]["kl"] == 0.0 != lines[2]["kl"]
    assert all(line["sampler_mismatch"] < 1e-5 for line in lines[1:])
    losses = [line["loss"] for line in read_metrics(tmp_path / "run", "sft")]
    assert losses[1] < losses[0]
    trained = load_policy(policy, load_tokenizer(policy), model_config)
    ids = torch.tensor([SEQUENCES[0][0]])
    plain = AutoModelForCausalLM.from_pretrained(policy).eval()
    torch.testing.assert_close(trained(ids).logits, plain(ids).logits, rtol=0, atol=1e-5)
    assert sum(p.numel() for p in plain.parameters()) == sum(
        p.numel() for p in trained.parameters()
    )
    scorer = AutoModelForSequenceClassification.from_pretrained(reward, num_labels=1)
    assert scorer.score.out_features == 1


@pytest.mark.slow
def test_a_family_without_a_scalar_head_is_refused(
    tokenizer: Any, model_config: ModelConfig, tmp_path: Path
) -> None:
    config = GraniteConfig(vocab_size=len(tokenizer), hidden_size=16, num_attention_heads=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_policy(tmp_path, tokenizer, model_config) is not None
    with pytest.raises(UserError, match="no sequence classification model of the family 'granite'"):
        new_reward_model(tmp_path, tokenizer, model_config, seed=0)
