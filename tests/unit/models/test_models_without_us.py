"""The lines in README and docs that use the saved models without alignloop, run as they stand."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_support import (
    CHATML,
    END,
    END_OF_TEXT,
    ENDS_IN_EOS,
    as_prompt,
    byte_tokenizer,
    policy_at,
)

from alignloop.config import EvaluateConfig, ModelConfig
from alignloop.data.tokenise import decode
from alignloop.evaluate.compare import answer_all
from alignloop.judging.reward_models import RewardModel
from alignloop.models import RewardScale, load_policy, load_tokenizer, new_reward_model, save_model

REPOSITORY = Path(__file__).parents[3]
PAGES = ("README.md", "README.zh-CN.md", "docs/models.md")


def block_of(page: str) -> str:
    """The one block of Python that loads the saved models with transformers."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (found,) = [block for block in blocks if "AutoModelForSequenceClassification" in block]
    return found


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize(
    ("eos", "pad", "template"),
    [(END, END, CHATML), (END_OF_TEXT, None, ENDS_IN_EOS), (END, END_OF_TEXT, CHATML)],
)
@pytest.mark.parametrize("page", PAGES)
def test_the_lines_in_the_docs_say_what_we_say(
    page: str,
    eos: str,
    pad: str | None,
    template: str,
    family: str,
    model_config: ModelConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The answer that `evaluate` draws at temperature 0, and the score of the reward model."""
    base = policy_at(tmp_path / "base", byte_tokenizer(eos=eos, pad=pad, template=template), family)
    tokenizer = load_tokenizer(base)
    policy, reward = (tmp_path / "runs/my-recipe" / name / "model" for name in ("rl", "reward"))
    for folder in (policy, reward):
        folder.mkdir(parents=True)
    save_model(policy, load_policy(base, tokenizer, model_config), tokenizer)
    scorer = new_reward_model(base, tokenizer, model_config, seed=2)
    save_model(reward, scorer, tokenizer, scale=RewardScale(bias=0.25, scale=2.0))
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    with torch.no_grad():
        exec(compile(block_of(page), page, "exec"), found)
    question = as_prompt(found["turns"][0]["content"])
    sampling = {"temperature": 0, "max_new_tokens": 100}
    config = EvaluateConfig.model_validate({"sampling": sampling})
    (rollout,) = answer_all(policy, model_config, config, [question], seed=1)
    assert found["answer"] == decode(tokenizer, rollout.response_ids)
    ours = RewardModel.load(reward, model_config, micro_batch_tokens=99)
    assert ours.scores([question], [found["answer"]]) == pytest.approx([found["score"]], abs=1e-4)
    assert str(found["score"]) in capsys.readouterr().out
