"""PAD of its own, asked of nobody: chosen or added, saved, and then transformers' batches agree."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from foreign_support import (
    CHATML,
    END,
    END_OF_TEXT,
    ENDS_IN_EOS,
    TALKS,
    byte_tokenizer,
    policy_at,
)
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

from alignloop.config import LoraConfig, ModelConfig
from alignloop.data.tokenise import check_tokenizer
from alignloop.models import (
    RewardScale,
    load_policy,
    load_tokenizer,
    new_reward_model,
    save_model,
    token_logprobs,
)
from alignloop.models.initialise import (
    LoadedModel,
    init_policy,
    init_reward_model,
    load_frozen_reward_model,
    load_reference,
)
from alignloop.models.merging import merge_adapter


@pytest.mark.parametrize(
    ("eos", "pad", "template", "more", "expected"),
    [
        (END, END, CHATML, (), "<|pad|>"),  # SmolLM2-Instruct
        (END_OF_TEXT, END_OF_TEXT, CHATML, (), "<|pad|>"),  # a base model
        (END_OF_TEXT, END, CHATML, (), "<|pad|>"),  # PAD ends the turns, and is not EOS
        (END_OF_TEXT, "<|im_start|>", CHATML, (), "<|pad|>"),
        (END, None, CHATML, (), "<|pad|>"),  # none at all
        (END, END_OF_TEXT, CHATML, (), END_OF_TEXT),  # as it should be: left alone
        (END, END, CHATML, ("[PAD]", "<unused1>"), "[PAD]"),
        (END, END, CHATML, ("<|finetune_right_pad_id|>",), "<|finetune_right_pad_id|>"),
        (END, END, CHATML, ("<｜▁pad▁｜>",), "<｜▁pad▁｜>"),
        (END, END, CHATML, ("<|vision_pad|>", "<|fim_pad|>"), "<|pad|>"),  # mean something else
        (
            END,
            END,
            CHATML,
            ("<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
            "<|reserved_special_token_1|>",
        ),
        (END, END, CHATML, ("<unused7>", "<tool>"), "<unused7>"),
        (END, END, CHATML, ("<|placeholder3|>",), "<|placeholder3|>"),
        # a template of one's own that writes what was in reserve
        (END, END, CHATML + "<unused7>", ("<unused7>",), "<|pad|>"),
    ],
)
def test_which_token_pads(
    eos: str, pad: str | None, template: str, more: Any, expected: str, tmp_path: Path
) -> None:
    made = byte_tokenizer(eos=eos, pad=pad, template=template, more=more)
    policy_at(tmp_path, made)
    found = load_tokenizer(tmp_path)
    assert found.pad_token == expected
    added = expected not in made.get_vocab()
    assert len(found) == len(made) + added and found.eos_token == eos
    check_tokenizer(found, "here")
    again = load_tokenizer(tmp_path, as_it_is=True)
    assert again.pad_token == pad and len(again) == len(made)


@torch.no_grad()
def scored(folder: Path, model: Any) -> tuple[list[float], list[float]]:
    """Three texts of different length in one padded batch, and one by one, by transformers."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": q}, {"role": "assistant", "content": a}], tokenize=False
        )
        for q, a in TALKS
    ]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    alone = [tokenizer(t, return_tensors="pt", add_special_tokens=False) for t in texts]
    together = model(**batch).logits[:, 0].tolist()
    return together, [float(model(**one).logits[0, 0]) for one in alone]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("more", [(), ("<|reserved_special_token_0|>",)])
@pytest.mark.parametrize("template", [CHATML, ENDS_IN_EOS])
def test_the_saved_reward_model_scores_a_batch_as_single_texts(
    template: str, more: Any, family: str, model_config: ModelConfig, tmp_path: Path
) -> None:
    """By plain transformers: with PAD = EOS in config.json the head would be read too early."""
    base = policy_at(
        tmp_path / "base", byte_tokenizer(pad=END, template=template, more=more), family
    )
    tokenizer = load_tokenizer(base)
    (tmp_path / "rm").mkdir()
    model = new_reward_model(base, tokenizer, model_config, seed=1)
    save_model(tmp_path / "rm", model, tokenizer, scale=RewardScale())
    config = AutoConfig.from_pretrained(tmp_path / "rm")
    saved = AutoTokenizer.from_pretrained(tmp_path / "rm")
    assert config.pad_token_id == saved.pad_token_id == tokenizer.pad_token_id
    assert saved.pad_token_id != saved.eos_token_id
    kind = AutoModelForSequenceClassification
    plain = kind.from_pretrained(tmp_path / "rm").eval()
    assert plain.get_input_embeddings().weight.shape[0] > saved.pad_token_id
    together, alone = scored(tmp_path / "rm", plain)
    assert together == pytest.approx(alone, abs=1e-5)
    # the same weights with the PAD that the base had: what this is about does happen
    saved.pad_token = plain.config.pad_token_id = None
    saved.pad_token, plain.config.pad_token_id = saved.eos_token, saved.eos_token_id
    if template == ENDS_IN_EOS:
        saved.save_pretrained(tmp_path / "wrong")
        assert scored(tmp_path / "wrong", plain)[0] != pytest.approx(alone, abs=1e-3)


def test_the_saved_policy_says_which_token_pads(model_config: ModelConfig, tmp_path: Path) -> None:
    base = policy_at(tmp_path / "base", byte_tokenizer(pad=END))
    tokenizer = load_tokenizer(base)
    policy = load_policy(base, tokenizer, model_config)
    (tmp_path / "out").mkdir()
    save_model(tmp_path / "out", policy, tokenizer)
    pad = AutoTokenizer.from_pretrained(tmp_path / "out").pad_token_id
    assert pad == AutoConfig.from_pretrained(tmp_path / "out").pad_token_id == len(tokenizer) - 1
    assert pad == GenerationConfig.from_pretrained(tmp_path / "out").pad_token_id


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")
def test_roles_on_one_trunk_and_the_merged_model_share_the_pad(
    model_config: ModelConfig, tmp_path: Path
) -> None:
    """Policy, reference and reward model as adapters of a base whose PAD is EOS."""
    base = policy_at(tmp_path / "base", byte_tokenizer(pad=END))
    tokenizer, lora = load_tokenizer(base), LoraConfig(rank=2)
    model = init_reward_model(base, tokenizer, model_config, lora, 1)
    for folder in ("rm", "merged"):
        (tmp_path / folder).mkdir()
    save_model(tmp_path / "rm", model, tokenizer, scale=RewardScale())
    policy = init_policy(base, tokenizer, model_config, lora, 1)
    start = LoadedModel(model=policy, tokenizer=tokenizer, folder=base, config=model_config)
    reference = load_reference(start)
    beside = load_frozen_reward_model(tmp_path / "rm", tokenizer, model_config, policy=policy)
    pads = {m.config.pad_token_id for m in (policy, reference, beside, model)}
    assert pads == {tokenizer.pad_token_id} == {len(tokenizer) - 1}
    ids = torch.tensor([[257, 30, 31, 32, 258]])
    mask = torch.ones(1, 5, dtype=torch.bool)
    said = torch.tensor([[False, True, True, True, True]])
    one, other = (token_logprobs(m, ids, mask, said).logprobs for m in (policy, reference))
    assert torch.equal(one, other)
    merge_adapter(tmp_path / "rm", tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    together, alone = scored(tmp_path / "merged", merged)
    assert together == pytest.approx(alone, abs=1e-5)
    # by PEFT alone: the base gets its row and its PAD, as docs/models.md says
    plain: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    plain.resize_token_embeddings(len(tokenizer))
    plain.config.pad_token_id = tokenizer.pad_token_id
    by_peft = peft.PeftModel.from_pretrained(plain, str(tmp_path / "rm")).eval()
    assert scored(tmp_path / "rm", by_peft)[0] == pytest.approx(alone, abs=1e-4)
    assert scored(tmp_path / "rm", by_peft)[1] == pytest.approx(alone, abs=1e-4)


def test_an_added_token_pads_and_is_never_drawn_by_chance(
    model_config: ModelConfig, tmp_path: Path
) -> None:
    """Its logit is the mean of all others, so that the odds among these stay what they were."""
    base = policy_at(tmp_path / "base", byte_tokenizer(pad=END))
    tokenizer = load_tokenizer(base)
    ids = torch.tensor([[10, 20, 30]])
    with torch.no_grad():
        before = AutoModelForCausalLM.from_pretrained(base)(ids).logits
        after = load_policy(base, tokenizer, model_config)(ids).logits
    torch.testing.assert_close(after[..., :-1], before, rtol=0, atol=1e-5)
    torch.testing.assert_close(after[..., -1], before.mean(-1), rtol=0, atol=1e-5)
