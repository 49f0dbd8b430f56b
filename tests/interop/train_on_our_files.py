"""Run where TRL is, without alignloop: its trainers on files that `data convert --to trl` wrote.

python train_on_our_files.py MODEL FOLDER reads FOLDER/{reward,dpo,sft}.jsonl and prints one JSON
object: what the trainers took from each, and their losses.
"""

import json
import sys
from pathlib import Path
from typing import Any

from datasets import load_dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tiny_model(folder: Path) -> PreTrainedTokenizerFast:
    """A Llama of one layer and a tokenizer of bytes, saved; returns the tokenizer."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<pad>", "</s>", "<user>", "<assistant>", *letters]
    inner = Tokenizer(models.BPE({token: n for n, token in enumerate(tokens)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", pad_token="<pad>", chat_template=TEMPLATE
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", "<assistant>"]})
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return tokenizer


def rows_of(folder: Path, work: str) -> Any:
    return load_dataset(
        "json",
        data_files=str(folder / f"{work}.jsonl"),
        split="train",
        cache_dir=str(folder / "cache"),
    )


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "out"),
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "max_length": 256,
    }


def learnt_by_sft(trainer: SFTTrainer, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """What the labels of each row spell."""
    rows = trainer.train_dataset
    batch = trainer.data_collator([rows[n] for n in range(len(rows))])
    return [
        tokenizer.decode([token for token in labels if token >= 0])
        for labels in batch["labels"].tolist()
    ]


def main(model: Path, folder: Path) -> dict[str, Any]:
    """Two steps of each trainer."""
    tokenizer = tiny_model(model)
    known: dict[str, Any] = {"processing_class": tokenizer}
    head = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
    reward = RewardTrainer(
        model=head,
        args=RewardConfig(**settings(folder)),
        train_dataset=rows_of(folder, "reward"),
        **known,
    )
    batch = reward.data_collator(
        [reward.train_dataset[n] for n in range(len(reward.train_dataset))]
    )
    told: dict[str, Any] = {"margins": batch["margin"].tolist()}
    told["reward"] = reward.train().training_loss
    dpo = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=DPOConfig(**settings(folder)),
        train_dataset=rows_of(folder, "dpo"),
        **known,
    )
    told["dpo_rows"] = len(dpo.train_dataset)
    told["dpo"] = dpo.train().training_loss
    sft = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=SFTConfig(**settings(folder)),
        train_dataset=rows_of(folder, "sft"),
        **known,
    )
    told["learnt"] = learnt_by_sft(sft, tokenizer)
    told["sft"] = sft.train().training_loss
    return told


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
