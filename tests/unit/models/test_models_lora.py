"""Adapters: of every family what PEFT computes, one trunk for four roles, and plain files."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from rollout_support import answers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignloop.config import LoraConfig, ModelConfig, SamplingConfig
from alignloop.config.stages import OptimizerSection
from alignloop.data.batching import pad_batch
from alignloop.data.tokenise import Encoded
from alignloop.errors import UserError
from alignloop.models import (
    load_policy,
    load_reward_model,
    new_reward_model,
    save_model,
    sequence_scores,
    token_logprobs,
    token_values,
)
from alignloop.models.initialise import (
    LoadedModel,
    init_critic_from_policy,
    init_critic_from_reward_model,
    init_policy,
    init_reward_model,
    load_frozen_reward_model,
    load_reference,
)
from alignloop.models.shared_base import dropping, role_of, trainable
from alignloop.rollout import make_sampler
from alignloop.training.optimiser import make_optimizer

LORA = LoraConfig(rank=3, alpha=5.0)
SEQUENCES = (((3, 12, 7, 1, 3, 9, 4), (22, 0, 5, 1)), ((3, 8, 4), (20, 1)))
# PeftModel asks transformers by an older name; nothing of ours does
PEFTS_OWN = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")
Files = tuple[Path, Path]


def loaded(model: Any, folder: Path, tokenizer: Any, config: ModelConfig) -> LoadedModel:
    return LoadedModel(model=model, tokenizer=tokenizer, folder=folder, config=config, lora=LORA)


def batch() -> dict[str, torch.Tensor]:
    examples = [
        Encoded(input_ids=(*p, *r), response_mask=(False,) * len(p) + (True,) * len(r))
        for p, r in SEQUENCES
    ]
    return pad_batch(examples, 0)


def shake(model: Any, seed: int = 1) -> Any:
    """Give the adapter numbers that matter: a fresh one changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable(model).parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def said(model: Any) -> torch.Tensor:
    return token_logprobs(model, **batch()).logprobs.detach()


def scored(model: Any) -> torch.Tensor:
    padded = batch()
    return sequence_scores(model, padded["input_ids"], padded["attention_mask"]).detach()


def last_values(critic: Any) -> torch.Tensor:
    return token_values(critic, **batch())[1].detach()


@torch.no_grad()
def plain_logprobs(model: Any) -> torch.Tensor:
    """Row by row, by transformers' own forward pass."""
    padded, found = batch(), torch.zeros(2, 11)
    for row, (prompt, response) in enumerate(SEQUENCES):
        ids = torch.tensor([[*prompt, *response]])
        logprobs = torch.log_softmax(model(ids).logits[0], dim=-1)
        for t in range(len(prompt), ids.shape[1]):
            found[row, t] = logprobs[t - 1, ids[0, t]]
    return torch.where(padded["response_mask"], found, 0.0)


@pytest.mark.slow
@PEFTS_OWN
def test_an_adapter_of_every_family_is_what_peft_reads_and_what_merging_gives(
    family_dir: Path, tokenizer: Any, model_config: ModelConfig, tmp_path: Path
) -> None:
    """A policy of ours, PEFT's model, the same adapter trained on, and the merged model."""
    base = load_policy(family_dir, tokenizer, model_config)
    policy = init_policy(family_dir, tokenizer, model_config, LORA, 5)
    assert torch.equal(said(policy), said(base)), "a fresh adapter changes nothing"
    here = said(shake(policy))
    assert float((here - said(base)).abs().max()) > 0.1
    save_model(tmp_path, policy, tokenizer)
    assert {"adapter_config.json", "adapter_model.safetensors"} < {
        path.name for path in tmp_path.iterdir()
    }
    assert not (tmp_path / "model.safetensors").exists()
    plain = AutoModelForCausalLM.from_pretrained(family_dir)
    by_peft = peft.PeftModel.from_pretrained(plain, str(tmp_path)).eval()
    torch.testing.assert_close(here, plain_logprobs(by_peft), rtol=0, atol=1e-5)
    again = init_policy(tmp_path, tokenizer, model_config, LORA, 6)
    assert torch.equal(said(again), here)
    merged = load_policy(tmp_path, tokenizer, model_config)
    assert role_of(merged) is None and {name for name, _ in merged.named_parameters()} == {
        name for name, _ in base.named_parameters()
    }
    torch.testing.assert_close(said(merged), here, rtol=0, atol=1e-5)


@pytest.mark.slow
@PEFTS_OWN
def test_a_reward_adapter_of_every_family_is_what_peft_reads_and_what_merging_gives(
    family_dir: Path, tokenizer: Any, model_config: ModelConfig, tmp_path: Path
) -> None:
    """The head is saved with it; a critic that begins as it is the same, normalised."""
    model = shake(init_reward_model(family_dir, tokenizer, model_config, LORA, 5))
    here = scored(model)
    assert float(here.std()) > 1e-3
    save_model(tmp_path, model, tokenizer)
    plain = AutoModelForSequenceClassification.from_pretrained(family_dir, num_labels=1)
    by_peft = peft.PeftModel.from_pretrained(plain, str(tmp_path)).eval()
    with torch.no_grad():
        alone = [by_peft(torch.tensor([[*p, *r]])).logits[0, 0] for p, r in SEQUENCES]
    torch.testing.assert_close(here, torch.stack(alone), rtol=0, atol=1e-5)
    merged = load_reward_model(tmp_path, tokenizer, model_config)
    torch.testing.assert_close(scored(merged), here, rtol=0, atol=1e-5)
    policy = init_policy(family_dir, tokenizer, model_config, LORA, 5)
    beside = load_frozen_reward_model(tmp_path, tokenizer, model_config, policy=policy)
    assert beside.base_model is policy.base_model and torch.equal(scored(beside), here)
    critic = init_critic_from_reward_model(beside, LORA, 3, scale=2.0, bias=0.5)
    torch.testing.assert_close(last_values(critic), (here - 0.5) / 2, rtol=0, atol=1e-5)
    assert torch.equal(scored(beside), here)


@pytest.fixture
def files(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig, tmp_path: Path
) -> Files:
    """An SFT adapter, and a reward adapter that began as it."""
    sft, reward = tmp_path / "sft", tmp_path / "reward"
    sft.mkdir(), reward.mkdir()
    policy = shake(init_policy(lm_dirs["llama"], tokenizer, model_config, LORA, 1), 2)
    save_model(sft, policy, tokenizer)
    model = init_reward_model(sft, tokenizer, model_config, LORA, 3)
    save_model(reward, shake(model, 4), tokenizer)
    return sft, reward


def test_four_roles_stand_on_one_trunk_and_leave_each_other_alone(
    files: Files, tokenizer: Any, model_config: ModelConfig
) -> None:
    """Policy and critic train; base, reference and reward model stay the same to the bit."""
    sft, reward_dir = files
    policy = init_policy(sft, tokenizer, model_config, LORA, 1)
    reference = load_reference(loaded(policy, sft, tokenizer, model_config))
    reward = load_frozen_reward_model(reward_dir, tokenizer, model_config, policy=policy)
    critic = init_critic_from_reward_model(reward, LORA, 3)
    roles = (policy, reference, reward, critic)
    assert len({id(model.base_model) for model in roles}) == 1
    assert torch.equal(said(policy), said(reference))
    weights = [p for name, p in policy.named_parameters() if ".lora_" not in name]
    before = said(reference), scored(reward), [p.clone() for p in weights]
    values = token_values(critic, **batch())[0].detach()
    settings = OptimizerSection(learning_rate=0.1, batch_size=1)
    for model in (policy, critic):
        optimizer = make_optimizer(model, settings)
        loss = token_logprobs(policy, **batch()).logprobs.sum()
        loss = loss if model is policy else token_values(critic, **batch())[0].square().sum()
        loss.backward()
        optimizer.step()
    assert float((said(policy) - before[0]).abs().max()) > 0.1
    assert float((token_values(critic, **batch())[0].detach() - values).abs().max()) > 0.1
    assert torch.equal(said(reference), before[0]) and torch.equal(scored(reward), before[1])
    for weight, old in zip(weights, before[2], strict=True):
        assert torch.equal(weight, old) and weight.grad is None


def test_a_gradient_arrives_also_after_another_role_has_read(
    files: Files, tokenizer: Any, model_config: ModelConfig
) -> None:
    """The order of forward passes between a policy's forward and its backward does not count."""
    found = []
    for interrupted in (False, True):
        policy = init_policy(files[0], tokenizer, model_config, LORA, 1)
        critic = init_critic_from_policy(loaded(policy, files[0], tokenizer, model_config), 3)
        loss = token_logprobs(policy, **batch()).logprobs.sum()
        if interrupted:
            token_values(critic, **batch())[0].sum().backward()
            said(load_reference(loaded(policy, files[0], tokenizer, model_config)))
        loss.backward()
        found.append([p.grad.clone() for p in trainable(policy).parameters() if p.grad is not None])
    assert len(found[0]) == 28 and all(map(torch.equal, *found))


def test_the_reference_of_a_plain_model_is_the_trunk_without_adapter(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    folder = lm_dirs["gpt2"]
    policy = shake(init_policy(folder, tokenizer, model_config, LORA, 1))
    reference = load_reference(loaded(policy, folder, tokenizer, model_config))
    assert torch.equal(said(reference), said(load_policy(folder, tokenizer, model_config)))
    assert reference.base_model is policy.base_model


def test_what_a_role_learns_is_its_adapter_and_its_head(
    files: Files, tokenizer: Any, model_config: ModelConfig
) -> None:
    """Two layers of seven matrices, A and B of each; the head, of a critic with a bias."""
    policy = init_policy(files[0], tokenizer, model_config, LORA, 1)
    reward = load_frozen_reward_model(files[1], tokenizer, model_config, policy=policy)
    critic = init_critic_from_reward_model(reward, LORA, 3)
    counts = {
        name: len(list(trainable(m).parameters()))
        for name, m in {"policy": policy, "reward": reward, "critic": critic}.items()
    }
    assert counts == {"policy": 28, "reward": 29, "critic": 30}
    trains = {id(p) for p in policy.parameters() if p.requires_grad}
    assert trains == {
        id(p)
        for m in (policy, critic)
        for n, p in trainable(m).named_parameters()
        if "score" not in n
    }
    assert not any(p.requires_grad for p in trainable(reward).parameters())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_checkpointing_changes_no_gradient_of_an_adapter(
    family: str, lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    found = []
    for wanted in (False, True):
        config = model_config.model_copy(update={"gradient_checkpointing": wanted})
        policy = shake(init_policy(lm_dirs[family], tokenizer, config, LORA, 1))
        token_logprobs(policy, **batch()).logprobs.sum().backward()
        found.append([p.grad for p in trainable(policy).parameters()])
        assert all(gradient is not None for gradient in found[-1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_sampler_draws_in_the_policys_role(
    family: str, lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    """Also right after another role has read: what was drawn is what the trainer says of it."""
    policy = shake(init_policy(lm_dirs[family], tokenizer, model_config, LORA, 1))
    reference = load_reference(loaded(policy, lm_dirs[family], tokenizer, model_config))
    sampler = make_sampler(policy, tokenizer, SamplingConfig(max_new_tokens=12, batch_size=4))
    prompts = [(str(i), p) for i, (p, _) in enumerate(SEQUENCES)] * 3
    said(reference)
    rollouts = answers(sampler, prompts, 1)
    padded = pad_batch(rollouts, 0)
    seen = token_logprobs(policy, **padded).logprobs[padded["response_mask"]].detach()
    drawn = torch.tensor([value for r in rollouts for value in r.rollout_logprobs])
    torch.testing.assert_close(seen, drawn, rtol=0, atol=1e-5)
    other = token_logprobs(reference, **padded).logprobs[padded["response_mask"]].detach()
    assert float((other - drawn).abs().max()) > 0.1


def test_dropout_works_where_it_is_asked_for_and_repeats(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    """By the seed alone: whatever was drawn before, and the same when a run is resumed."""
    lora = LoraConfig(rank=3, dropout=0.5)
    policy = shake(init_policy(lm_dirs["llama"], tokenizer, model_config, lora, 1))
    quiet, found = said(policy), []
    for seed in (1, 2, 1):
        torch.rand(7)
        with dropping(policy, seed):
            found.append(said(policy))
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], quiet) and torch.equal(said(policy), quiet)


def test_low_precision_trunks_carry_adapters_in_float32(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    config = model_config.model_copy(update={"dtype": "bfloat16"})
    policy = init_policy(lm_dirs["llama"], tokenizer, config, LORA, 1)
    assert policy.get_output_embeddings().weight.dtype == torch.bfloat16
    assert {p.dtype for p in trainable(policy).parameters()} == {torch.float32}
    exact = said(shake(init_policy(lm_dirs["llama"], tokenizer, model_config, LORA, 1)))
    torch.testing.assert_close(said(shake(policy)), exact, rtol=0, atol=0.15)


def test_a_fresh_adapter_is_drawn_by_its_seed(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    """A within 1/sqrt(inputs), 0.25 for 16 of them; B is 0."""
    made = [init_policy(lm_dirs["llama"], tokenizer, model_config, LORA, s) for s in (1, 1, 2)]
    first, same, other = (trainable(model).state_dict() for model in made)
    name = "base_model/model/model/layers/0/self_attn/q_proj/lora_A/weight"
    assert torch.equal(first[name], same[name]) and not torch.equal(first[name], other[name])
    assert 0.2 < float(first[name].abs().max()) <= 0.25
    assert not float(first[name.replace("lora_A", "lora_B")].abs().max())


def test_the_files_are_plain_and_complete(files: Files, lm_dirs: dict[str, Path]) -> None:
    """The tokenizer with its template, the base by its whole path, and what the adapter is for."""
    for folder, task, heads in zip(files, ("CAUSAL_LM", "SEQ_CLS"), (None, ["score"]), strict=True):
        settings = json.loads((folder / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(lm_dirs["llama"].resolve())
        assert (settings["task_type"], settings["modules_to_save"]) == (task, heads)
        assert settings["target_modules"] == sorted(settings["target_modules"])
        assert AutoTokenizer.from_pretrained(folder).chat_template


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (LoraConfig(rank=4), "this adapter has rank 3, but lora.rank is 4"),
        (LoraConfig(rank=3, alpha=6.0), "this adapter has alpha 5.0, but lora.alpha is 6.0"),
        (LoraConfig(rank=3, target_modules=("q_proj",)), "this adapter has target_modules"),
    ],
)
def test_an_adapter_is_trained_on_as_it_is_or_not_at_all(
    lora: LoraConfig, message: str, files: Files, tokenizer: Any, model_config: ModelConfig
) -> None:
    with pytest.raises(UserError, match=message):
        init_policy(files[0], tokenizer, model_config, lora, 1)


def test_a_layer_that_is_not_there_is_refused_with_those_that_are(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    lora = LoraConfig(rank=2, target_modules=("q_proj",))
    with pytest.raises(UserError, match="no linear layer 'q_proj'") as refused:
        init_policy(lm_dirs["gpt2"], tokenizer, model_config, lora, 1)
    assert "c_attn, c_fc, c_proj" in str(refused.value)


def test_chosen_layers_alone_get_an_adapter(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    lora = LoraConfig(rank=2, target_modules=("v_proj", "down_proj"))
    policy = init_policy(lm_dirs["llama"], tokenizer, model_config, lora, 1)
    names = {name.split("/")[-3] for name, _ in trainable(policy).named_parameters()}
    assert names == {"v_proj", "down_proj"}


def test_four_bits_are_refused_without_a_gpu(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    lora = LoraConfig(rank=2, load_in_4bit=True)
    config = model_config.model_copy(update={"device": "cpu"})
    with pytest.raises(UserError, match="4 bits need a GPU") as refused:
        init_policy(lm_dirs["llama"], tokenizer, config, lora, 1)
    assert refused.value.where == "lora.load_in_4bit"


def test_four_bits_are_refused_without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from alignloop.models.quantised import four_bit_options

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="bitsandbytes, which is not installed"):
        four_bit_options(torch.device("cuda", 0))


def damage_nothing(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def damage_base(folder: Path) -> None:
    change(folder, base_model_name_or_path="nobody/here")


def damage_kind(folder: Path) -> None:
    change(folder, peft_type="IA3")


def damage_layers(folder: Path) -> None:
    change(folder, target_modules=["q_proj"])


def damage_rank(folder: Path) -> None:
    change(folder, r=2)


def damage_settings(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")


def change(folder: Path, **settings: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_nothing, "has no adapter_model.safetensors"),
        (damage_base, "base model of this adapter, 'nobody/here', does not exist"),
        (damage_kind, "only LORA adapters are supported, not IA3"),
        (damage_layers, "24 tensors have no counterpart"),
        (damage_rank, r"lora_A.weight is \(3, 16\), not \(2, 16\)"),
        (damage_settings, "this file is damaged"),
    ],
)
def test_a_damaged_adapter_is_refused_in_one_line(
    damage: Any, message: str, files: Files, tokenizer: Any, model_config: ModelConfig
) -> None:
    damage(files[0])
    with pytest.raises(UserError, match=message):
        load_policy(files[0], tokenizer, model_config)


def test_a_policys_adapter_is_no_reward_model(
    files: Files, tokenizer: Any, model_config: ModelConfig
) -> None:
    policy = init_policy(files[0], tokenizer, model_config, LORA, 1)
    with pytest.raises(UserError, match="not a reward model"):
        load_frozen_reward_model(files[0], tokenizer, model_config, policy=policy)
    with pytest.raises(UserError, match="not a reward model"):
        load_reward_model(files[0], tokenizer, model_config)


def test_all_weights_may_be_trained_from_an_adapter(
    files: Files, tokenizer: Any, model_config: ModelConfig
) -> None:
    """Without lora.rank the adapter is merged, and everything learns."""
    everything = LoraConfig()
    policy = init_policy(files[0], tokenizer, model_config, everything, 1)
    reward = new_reward_model(files[0], tokenizer, model_config, 5)
    assert role_of(policy) is None and all(p.requires_grad for p in policy.parameters())
    for name, weight in reward.base_model.named_parameters():
        assert torch.equal(weight, policy.base_model.get_parameter(name)), name


def test_a_critic_beside_a_plain_reward_model_is_an_adapter_on_that(
    reward_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    reward = load_reward_model(reward_dirs["llama"], tokenizer, model_config)
    before = scored(reward)
    critic = init_critic_from_reward_model(reward, LORA, 3)
    assert critic.base_model is reward.base_model
    torch.testing.assert_close(last_values(critic), before, rtol=0, atol=1e-6)
    shake(critic)
    assert torch.equal(scored(reward), before)
    assert float((last_values(critic) - before).abs().max()) > 0.01
