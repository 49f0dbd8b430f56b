"""Models and tokenizers as other libraries leave them: ChatML, PAD = EOS, heads of other names.

Nothing of alignloop is imported at the top: tests/interop runs this where only TRL is installed.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    set_seed,
)

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ENDS_IN_EOS = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
TALKS = (
    ("why is the tea cold", "because it rained"),
    ("you", "no"),
    ("天气好吗", "很好, and <warm>"),
)


def byte_tokenizer(
    *, eos: str = END, pad: str | None = None, template: str | None = CHATML, more: Any = ()
) -> Any:
    """One token per byte, then the special ones; `more` are special tokens beside ChatML's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END_OF_TEXT, START, END, *more])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos, pad_token=pad, chat_template=template
    )


def config_of(family: str, tokenizer: Any, **changes: Any) -> Any:
    """A tiny config; its PAD is the tokenizer's."""
    common = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "initializer_range": 0.25,
        **changes,
    }
    if family == "gpt2":
        return GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=512, **common)
    kind = {"qwen2": Qwen2Config, "llama": LlamaConfig}[family]
    return kind(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        **common,
    )


def save(folder: Path, model: Any, tokenizer: Any) -> Path:
    """A directory as `save_pretrained` of both leaves it."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def policy_at(folder: Path, tokenizer: Any, family: str = "llama", **changes: Any) -> Path:
    """A causal language model with sharp random weights."""
    with torch.random.fork_rng():
        set_seed(3)
        model = AutoModelForCausalLM.from_config(config_of(family, tokenizer, **changes))
    return save(folder, model, tokenizer)


def reward_at(folder: Path, tokenizer: Any, family: str = "llama", **changes: Any) -> Path:
    """A reward model as TRL's trainer leaves it: sequence classification with one label."""
    config = config_of(family, tokenizer, num_labels=1, **changes)
    with torch.random.fork_rng():
        set_seed(4)
        model = AutoModelForSequenceClassification.from_config(config)
    return save(folder, model, tokenizer)


def change_config(folder: Path, **changes: Any) -> None:
    """Settings of config.json; None removes one."""
    path = folder / "config.json"
    settings = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))


def change_tensors(folder: Path, **changes: Any) -> None:
    """Tensors of model.safetensors by name; a text is a new name, None removes one."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name, value in changes.items():
        if value is None or isinstance(value, str):
            there = tensors.pop(name)
            value, name = there, value
        if name is not None:
            tensors[name] = value
    save_file(tensors, path, metadata={"format": "pt"})


def as_prompt(text: str) -> Any:
    from alignloop.records import Message, Prompt

    return Prompt(prompt_id=f"p:{text}", messages=(Message(role="user", content=text),))


def conversation_ids(tokenizer: Any, asked: str, answer: str) -> list[int]:
    """The finished conversation by transformers alone."""
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return tokenizer.apply_chat_template(messages, return_dict=False)


@torch.no_grad()
def by_transformers(folder: Path, talks: Any = TALKS, **options: Any) -> list[float]:
    """What plain transformers says of finished conversations, one at a time, in float32."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    kind = AutoModelForSequenceClassification
    model = kind.from_pretrained(folder, num_labels=1, dtype=torch.float32, **options).eval()
    ids = [conversation_ids(tokenizer, *talk) for talk in talks]
    return [float(model(torch.tensor([one])).logits[0, 0]) for one in ids]
