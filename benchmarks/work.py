"""The fixed work that both sides do: models by size, synthetic data, and how many FLOPs it needs.

Nothing here depends on a training library; the data depend on `random` alone.
"""

import random
import resource
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAD, EOS, BOS, UNK = 0, 1, 2, 3
NUM_SPECIAL = 4


@dataclass(frozen=True, kw_only=True)
class Size:
    """A Qwen2 with tied embeddings; `kv_heads` 0 = as many key-value heads as heads."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    inter: int
    kv_heads: int = 0


SIZES = {
    "tiny": Size(vocab=2048, hidden=128, layers=4, heads=4, inter=352),  # 1.07M parameters
    "small": Size(vocab=8192, hidden=320, layers=6, heads=5, inter=864),  # 10.07M
}
GPU_SIZES = {  # the shapes of Qwen2-0.5B and Qwen2-1.5B
    "0.5B": Size(vocab=151936, hidden=896, layers=24, heads=14, inter=4864, kv_heads=2),
    "1.5B": Size(vocab=151936, hidden=1536, layers=28, heads=12, inter=8960, kv_heads=2),
}
BATCH = {"sft": 16, "reward": 16, "dpo": 16, "ppo": 32, "grpo": 32}
NEW_TOKENS, PPO_EPOCHS, GROUP, LEARNING_RATE, KL_COEF, DPO_BETA = 64, 4, 8, 1e-5, 0.05, 0.1


def make_rows(vocab: int, count: int, seed: int = 0) -> list[dict[str, list[int]]]:
    """Rows {prompt, chosen, rejected} of ids: prompts of 16 to 64, answers of 16 to 96 tokens.

    Chosen holds 60 % tokens of the first half of the vocabulary, rejected 40 %: learnable, noisy.
    """
    rng = random.Random(seed)
    low, middle = NUM_SPECIAL, NUM_SPECIAL + (vocab - NUM_SPECIAL) // 2

    def answer(share: float) -> list[int]:
        return [
            rng.randrange(low, middle) if rng.random() < share else rng.randrange(middle, vocab)
            for _ in range(rng.randint(16, 96))
        ]

    rows: list[dict[str, list[int]]] = []
    for _ in range(count):
        prompt = [rng.randrange(low, vocab) for _ in range(rng.randint(16, 64))]
        rows.append({"prompt": prompt, "chosen": answer(0.6), "rejected": answer(0.4)})
    return rows


def as_text(ids: list[int]) -> str:
    """Token ids as the words that the tokenizer reads."""
    return " ".join(f"t{i}" for i in ids)


def make_tokenizer(size: Size) -> Any:
    """One token per word "t17", and a chat template that adds nothing."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {"<pad>": PAD, "<eos>": EOS, "<bos>": BOS, "<unk>": UNK}
    vocab |= {f"t{i}": i for i in range(NUM_SPECIAL, size.vocab)}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"
    return tokenizer


def model_config(size: Size, **changes: Any) -> Any:
    """The Qwen2 configuration of a size."""
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=size.vocab,
        hidden_size=size.hidden,
        intermediate_size=size.inter,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads or size.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        **changes,
    )


def flops_forward(size: Size, lengths: list[int], head_tokens: int) -> float:
    """Useful FLOPs of one forward pass: no padding, causal attention, the head where it is read."""
    h = size.hidden
    keys = h * (size.kv_heads or size.heads) // size.heads
    per_token = size.layers * (2 * 2 * h * (h + keys) + 2 * 3 * h * size.inter)
    attention = sum(size.layers * 4 * h * n * (n + 1) / 2 for n in lengths)
    return sum(lengths) * per_token + attention + head_tokens * 2 * h * size.vocab


def gemm_gflops(n: int = 1024) -> float:
    """The machine's peak now, in 1e9 FLOP/s: the median of six products of n x n matrices."""
    import torch

    a, b, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    torch.mm(a, b, out=out)
    speeds: list[float] = []
    for _ in range(6):
        began = time.perf_counter()
        for _ in range(4):
            torch.mm(a, b, out=out)
        speeds.append(2 * n**3 * 4 / (time.perf_counter() - began) / 1e9)
    return statistics.median(speeds)


def peak_mb(gpu: bool = False) -> float:
    """The most memory that this process has held, in MB; of the GPU's where asked."""
    if gpu:
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def save_models(size: Size, folder: Path, seed: int = 0) -> dict[str, Path]:
    """A language model and a reward model with random weights, saved with their tokenizer."""
    import torch
    from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

    torch.manual_seed(seed)
    made = {
        "policy": Qwen2ForCausalLM(model_config(size)),
        "reward": Qwen2ForSequenceClassification(model_config(size, num_labels=1)),
    }
    tokenizer = make_tokenizer(size)
    for name, model in made.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return {name: folder / name for name in made}
