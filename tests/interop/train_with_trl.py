"""Run where TRL is: train tiny models by its trainers, and write what plain transformers says.

python train_with_trl.py OUT makes a folder for each model, and OUT/expected.json: scores of
finished conversations (reward models), log-probabilities of answers and greedy ones (policies).
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from foreign_support import (
    CHATML,
    END,
    END_OF_TEXT,
    ENDS_IN_EOS,
    TALKS,
    byte_tokenizer,
    conversation_ids,
    policy_at,
)
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

STEPS, NEW_TOKENS = 6, 12
# where a tokenizer comes from: EOS, PAD as it is saved (None: TRL takes EOS), template
TOKENIZERS = {
    "chatml": (END, None, CHATML),
    "chatml-own-pad": (END, END_OF_TEXT, CHATML),
    "ends-in-eos": (END_OF_TEXT, END_OF_TEXT, ENDS_IN_EOS),
}
ADAPTERS = {"lora": {}, "dora": {"use_dora": True}, "rslora": {"use_rslora": True}}
TRAINERS: dict[str, tuple[Any, Any]] = {
    "reward": (RewardTrainer, RewardConfig),
    "sft": (SFTTrainer, SFTConfig),
    "dpo": (DPOTrainer, DPOConfig),
}


def rows(work: str) -> Dataset:
    """Polite answers are good ones; several times the same, in conversations."""
    made = []
    for number in range(8):
        for asked, answer in TALKS:
            prompt = [{"role": "user", "content": f"{asked} {number}"}]
            good = [{"role": "assistant", "content": f"please, {answer}"}]
            bad = [{"role": "assistant", "content": answer}]
            if work == "sft":
                made.append({"messages": prompt + good})
            else:
                made.append({"prompt": prompt, "chosen": good, "rejected": bad})
    return Dataset.from_list(made)


def train(work: str, base: Path, out: Path, peft_config: LoraConfig | None = None) -> None:
    """A few steps of a trainer of TRL at a rate that changes the model, saved as TRL saves."""
    trainer, settings = TRAINERS[work]
    options = settings(
        output_dir=str(out),
        max_steps=STEPS,
        per_device_train_batch_size=6,
        learning_rate=3e-3,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        seed=1,
    )
    made = trainer(model=str(base), args=options, train_dataset=rows(work), peft_config=peft_config)
    made.train()
    made.save_model(str(out))


def shape(work: str, name: str) -> LoraConfig:
    """LoRA of one kind on two layers; of a reward model the head is trained beside it."""
    task = "SEQ_CLS" if work == "reward" else "CAUSAL_LM"
    more = {"modules_to_save": ["score"]} if work == "reward" else {}
    return LoraConfig(
        r=4, target_modules=["q_proj", "up_proj"], task_type=task, **more, **ADAPTERS[name]
    )


def read(kind: Any, folder: Path, base: Path, **options: Any) -> tuple[Any, Any]:
    """Model and tokenizer as a person would read them, by transformers and PEFT alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    adapter = (folder / "adapter_config.json").exists()
    model = kind.from_pretrained(base if adapter else folder, dtype=torch.float32, **options)
    if adapter:
        model.config.pad_token_id = tokenizer.pad_token_id
        model = PeftModel.from_pretrained(model, str(folder))
    return model.eval(), tokenizer


@torch.no_grad()
def scores(folder: Path, base: Path) -> list[float]:
    model, tokenizer = read(AutoModelForSequenceClassification, folder, base, num_labels=1)
    ids = [conversation_ids(tokenizer, *talk) for talk in TALKS]
    return [float(model(torch.tensor([one])).logits[0, 0]) for one in ids]


@torch.no_grad()
def said(folder: Path, base: Path) -> dict[str, Any]:
    """Log-probability of each given answer with the end of its turn, and the greedy answer."""
    model, tokenizer = read(AutoModelForCausalLM, folder, base)
    found: dict[str, Any] = {"logprobs": [], "greedy": []}
    for asked, answer in TALKS:
        turn = [{"role": "user", "content": asked}]
        prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
        ids = [*prompt, *tokenizer.encode(answer, add_special_tokens=False)]
        ids += [tokenizer.convert_tokens_to_ids(END)]
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
        steps = range(len(prompt), len(ids))
        found["logprobs"].append(float(sum(logprobs[t - 1, ids[t]] for t in steps)))
        made = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        found["greedy"].append(made[0, len(prompt) :].tolist())
    return found


def main(out: Path) -> None:
    expected: dict[str, Any] = {"rewards": {}, "policies": {}}
    for name, (eos, pad, template) in TOKENIZERS.items():
        base = policy_at(out / f"base-{name}", byte_tokenizer(eos=eos, pad=pad, template=template))
        train("reward", base, out / f"reward-{name}")
        expected["rewards"][f"reward-{name}"] = scores(out / f"reward-{name}", base)
    base = out / "base-chatml"
    for name in ADAPTERS:
        train("reward", base, out / f"reward-{name}", shape("reward", name))
        expected["rewards"][f"reward-{name}"] = scores(out / f"reward-{name}", base)
    for pad in ("chatml", "chatml-own-pad"):
        base = out / f"base-{pad}"
        train("sft", base, out / f"sft-{pad}")
        train("dpo", base, out / f"dpo-{pad}")
        for folder in (base, out / f"sft-{pad}", out / f"dpo-{pad}"):
            expected["policies"][folder.name] = said(folder, base)
    for name in ADAPTERS:
        train("dpo", base, out / f"dpo-{name}", shape("dpo", name))
        expected["policies"][f"dpo-{name}"] = said(out / f"dpo-{name}", base)
    (out / "expected.json").write_text(json.dumps(expected))


main(Path(sys.argv[1]))
