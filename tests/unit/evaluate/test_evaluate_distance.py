"""How far answers are from the SFT model's own, against log-probabilities computed plainly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from alignloop.config import ModelConfig
from alignloop.evaluate.distance import distances, surprises
from alignloop.rollout import Rollout


def rollout(ids: list[int], start: int) -> Rollout:
    answer = len(ids) - start
    return Rollout(
        prompt_id="p",
        input_ids=tuple(ids),
        response_start=start,
        rollout_logprobs=(0.0,) * answer,
        finish_reason="eos",
    )


ANSWERS = [rollout([5, 6, 7, 8, 1], 2), rollout([5, 9, 10], 1), rollout([4, 5, 6, 11, 12, 1], 3)]


def test_surprise_is_the_mean_negative_log_probability_of_the_answer(
    lm_dirs: dict[str, Path], tokenizer: Any
) -> None:
    model = AutoModelForCausalLM.from_pretrained(lm_dirs["llama"]).eval()
    found = surprises(model, ANSWERS, tokenizer.pad_token_id)
    for number, answer in enumerate(ANSWERS):
        ids = torch.tensor([answer.input_ids])
        with torch.no_grad():
            logprobs = torch.log_softmax(model(ids).logits[0].float(), dim=-1)
        told = [
            float(logprobs[place - 1, ids[0, place]])
            for place in range(answer.response_start, ids.shape[1])
        ]
        assert found[number] == pytest.approx(-sum(told) / len(told), abs=1e-5)


def test_the_share_outside_counts_answers_beyond_the_usual(
    lm_dirs: dict[str, Path], model_config: ModelConfig
) -> None:
    models = {"sft": lm_dirs["llama"], "policy": lm_dirs["qwen2"]}
    same = distances(models, {who: {"prompts": ANSWERS} for who in models}, model_config)
    assert same is not None
    assert same["prompts"]["sft"] == same["prompts"]["policy"]
    assert same["prompts"]["outside"] == pytest.approx(1 / 3)  # the largest of three
    # the policy gives the answer three times that surprises the SFT model most
    model = AutoModelForCausalLM.from_pretrained(lm_dirs["llama"]).eval()
    worst = ANSWERS[int(surprises(model, ANSWERS, 0).argmax())]
    drawn = {"sft": {"prompts": ANSWERS}, "policy": {"prompts": [worst] * 3}}
    far = distances(models, drawn, model_config)
    assert far is not None and far["prompts"]["outside"] == 1.0
