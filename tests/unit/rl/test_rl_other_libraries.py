"""What RL climbs of another library's reward model is what transformers says of the same texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from foreign_support import (
    CHATML,
    END,
    END_OF_TEXT,
    TALKS,
    as_prompt,
    by_transformers,
    byte_tokenizer,
    policy_at,
    reward_at,
)
from transformers import AutoModelForSequenceClassification

from alignloop.config import LoraConfig, ModelConfig, RlConfig
from alignloop.data.tokenise import encode_prompt
from alignloop.judging.reward_models import RewardModel
from alignloop.models import load_tokenizer
from alignloop.models.shared_base import role_of
from alignloop.rl.build import build
from alignloop.rollout import Rollout
from alignloop.rollout.batch import RolloutBatch

PROMPTS = [as_prompt(asked) for asked, _ in TALKS]


def drawn(folder: Path) -> RolloutBatch:
    """The answers as a policy draws them: each with the token that ends its turn."""
    tokenizer, rollouts = load_tokenizer(folder), []
    for prompt, (_, answer) in zip(PROMPTS, TALKS, strict=True):
        asked = encode_prompt(tokenizer, prompt, 999)
        said = [*tokenizer.encode(answer), tokenizer.convert_tokens_to_ids(END)]
        rollouts.append(
            Rollout(
                prompt_id=prompt.prompt_id,
                input_ids=(*asked, *said),
                response_start=len(asked),
                rollout_logprobs=(0.0,) * len(said),
                finish_reason="eos",
            )
        )
    return RolloutBatch.of(rollouts, tokenizer.pad_token_id, 1000)


@pytest.fixture
def parts(
    rl_config: Callable[..., RlConfig], rl_inputs: Callable[..., Any], model_config: ModelConfig
) -> Callable[..., Any]:
    """`parts(policy, reward, lora)`: what a run with these directories is made of."""

    def make(policy: Path, reward: Path, lora: LoraConfig | None = None) -> Any:
        more = {} if lora is None else {"lora": lora}
        inputs = rl_inputs(
            policy_dir=policy,
            reward_dir=reward,
            held_out_dir=reward,
            prompts=PROMPTS,
            validation_prompts=PROMPTS,
            **more,
        )
        config = rl_config(max_prompt_tokens=100)
        return build(config, model_config, inputs, seed=3, observer=None)

    return make


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("eos", "pad"), [(END, END_OF_TEXT), (END, END), (END_OF_TEXT, END_OF_TEXT)]
)
def test_it_reads_the_line_break_behind_the_turn(
    eos: str, pad: str, family: str, parts: Callable[..., Any], tmp_path: Path
) -> None:
    """The policy's tokenizer, no reward_scale.json: read as TRL trained it, by judge and reward."""
    tokenizer = byte_tokenizer(eos=eos, pad=pad)
    policy = policy_at(tmp_path / "policy", tokenizer, family)
    reward = reward_at(tmp_path / "reward", tokenizer, family)
    run, expected = parts(policy, reward), by_transformers(reward)
    answers = drawn(policy)
    found = run.scorer.rewarder.scores(answers)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert run.validation.held_out.scores(answers).tolist() == pytest.approx(expected, abs=1e-5)
    ((_, judge),) = run.scorer.rewarder.rewarder.parts
    assert isinstance(judge, RewardModel)


def test_a_critic_begins_as_a_reward_model_of_the_same_words(
    parts: Callable[..., Any], tmp_path: Path
) -> None:
    tokenizer = byte_tokenizer(eos=END, pad=END_OF_TEXT)
    policy = policy_at(tmp_path / "policy", tokenizer)
    reward = reward_at(tmp_path / "reward", tokenizer)
    head = AutoModelForSequenceClassification.from_pretrained(reward).score.weight
    assert torch.equal(parts(policy, reward).learner.critic.score.weight, head)
    # a PAD that was added has no row in the reward model: the critic begins as the policy then
    same = byte_tokenizer(eos=END, pad=END)
    policy, reward = (
        make(tmp_path / f"own-{make.__name__}", same) for make in (policy_at, reward_at)
    )
    critic = parts(policy, reward).learner.critic
    assert critic.get_input_embeddings().weight.shape[0] == len(same) + 1
    assert critic.score.weight.abs().max() > 0


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")
@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("pad", [END, END_OF_TEXT])
def test_an_adapter_of_peft_shares_the_policys_trunk(
    pad: str, use_dora: bool, parts: Callable[..., Any], tmp_path: Path
) -> None:
    """As TRL leaves it: adapter, head and tokenizer, the base elsewhere and without this PAD."""
    tokenizer = byte_tokenizer(eos=END, pad=pad)
    base = policy_at(tmp_path / "base", tokenizer, pad_token_id=None)
    kind = AutoModelForSequenceClassification
    plain = kind.from_pretrained(base, num_labels=1)
    shape = peft.LoraConfig(
        r=2, target_modules=["q_proj", "up_proj"], task_type="SEQ_CLS", use_dora=use_dora
    )
    model: Any = peft.get_peft_model(plain, shape)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_A" in name or ".lora_B" in name or "score" in name:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(tmp_path / "reward")
    tokenizer.save_pretrained(tmp_path / "reward")
    model.base_model.model.config.pad_token_id = tokenizer.pad_token_id
    model.eval()
    expected = [
        float(model(torch.tensor([ids])).logits[0, 0].detach()) for ids in ids_of(tokenizer)
    ]
    run = parts(base, tmp_path / "reward", LoraConfig(rank=3))
    scorer = run.scorer.rewarder.rewarder.parts[0][1]
    assert scorer.model.base_model is run.learner.policy.base_model
    assert role_of(scorer.model) is not None
    found = run.scorer.rewarder.scores(drawn(base)).tolist()
    assert found == pytest.approx(expected, abs=1e-5)


def ids_of(tokenizer: Any) -> list[list[int]]:
    from foreign_support import conversation_ids

    assert tokenizer.chat_template == CHATML
    return [conversation_ids(tokenizer, *talk) for talk in TALKS]
