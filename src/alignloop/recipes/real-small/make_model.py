"""Makes a small untrained model directory from a few text or JSON files.

python recipes/real-small/make_model.py --out model FILE [FILE ...]

A byte-level BPE tokenizer is trained on every text in the files, so that any language and any
character can be written; the weights are random and follow from the seed. It is a model to try a
pipeline with, and it knows nothing.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

PAD, END, START = "<|pad|>", "<|im_end|>", "<|im_start|>"


def make_model(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    family: str = "qwen2",
    vocab_size: int = 1000,
    hidden_size: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    context: int = 1024,
    seed: int = 0,
) -> Path:
    """Write config, weights, tokenizer and chat template into `out`; `family` is qwen2 or llama."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.default_generator.manual_seed(seed)
    # Any, because their type hints are incomplete
    auto: dict[str, Any] = {"config": AutoConfig, "model": AutoModelForCausalLM}
    tokenizer = train_tokenizer(files, vocab_size, context)
    config = auto["config"].for_model(
        family,
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    auto["model"].from_config(config).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return Path(out)


def train_tokenizer(files: Sequence[str | Path], vocab_size: int, context: int) -> Any:
    """Byte-level BPE with PAD apart from the token that ends an answer, and the chatml template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from alignloop.data.templates import CHATML

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END, START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=12,  # in bytes: four Chinese characters, so that no sentence is one token
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for file in files for text in texts_of(file)), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHATML
    return fast


def texts_of(file: str | Path) -> Iterator[str]:
    """Every text in a file: the values of a JSON or JSONL file, or the lines of any other."""
    from alignloop.data import read_objects

    if Path(file).name.removesuffix(".gz").endswith((".json", ".jsonl")):
        for _, row in read_objects(file):
            yield from _texts_in(row)
    else:
        yield from Path(file).read_text(encoding="utf-8").splitlines()


def _texts_in(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(inner)


def main() -> None:
    """Parse the command line, make the model, and say how large it is."""
    parser = argparse.ArgumentParser(description="Make a small untrained model from files.")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--family", default="qwen2", choices=("qwen2", "llama"))
    for name, default in (("vocab-size", 1000), ("hidden-size", 64), ("num-layers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    for name, default in (("num-heads", 4), ("context", 1024), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    options = vars(parser.parse_args())
    folder = make_model(options.pop("files"), options.pop("out"), **options)
    print(f"{folder}: {(folder / 'model.safetensors').stat().st_size:,} bytes of weights")


if __name__ == "__main__":
    main()
