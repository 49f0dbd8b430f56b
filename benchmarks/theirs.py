"""TRL's side of the comparison, on the same models and tokens; prints one JSON line.

    python benchmarks/theirs.py sft --size tiny --steps 6

Runs in an environment with TRL. PPO left TRL after 1.12.0: --trl-path names a folder that holds
that version (pip install --no-deps --target FOLDER trl==1.12.0), put first on the path.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import work
from work import BATCH, EOS, GPU_SIZES, PAD, SIZES, Size, as_text, flops_forward

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

Counts = dict[str, float]


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=list(WORK))
    parser.add_argument("--size", choices=[*SIZES, *GPU_SIZES], default="tiny")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eos-prob", type=float, default=0.0, help="varied lengths: P(EOS)")
    parser.add_argument("--trl-path")
    parser.add_argument("--gpu", action="store_true", help="on the GPU, in bf16")
    parser.add_argument("--batch", type=int, help="responses per step")
    parser.add_argument("--new-tokens", type=int, default=work.NEW_TOKENS)
    options = parser.parse_args()
    if options.trl_path:
        sys.path.insert(0, options.trl_path)
    BATCH[options.work] = options.batch or BATCH[options.work]
    work.NEW_TOKENS = options.new_tokens
    began = time.perf_counter()
    import torch
    import transformers
    import trl

    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    trainer, counts, phases = WORK[options.work]((SIZES | GPU_SIZES)[options.size], options)
    imported = time.perf_counter() - began
    marks = _mark_steps(trainer)
    peak = [work.gemm_gflops()]
    trainer.train()
    peak.append(work.gemm_gflops())
    speed = statistics.median(peak)
    steps = [after - before for before, after in itertools.pairwise(marks)]
    print(
        json.dumps(
            {
                "work": options.work,
                "side": "trl",
                "version": trl.__version__,
                "size": options.size,
                "threads": options.threads,
                "import_s": round(imported, 2),
                "steps": len(steps),
                "seconds": sum(steps),
                "step_s": round(statistics.median(steps), 4),
                "tokens": counts["tokens"],
                "gflop": counts["flop"] / 1e9,
                "padding": round(1 - counts["tokens"] / counts["padded"], 3),
                "gemm_gflops": round(speed, 1),
                "mfu": round(counts["flop"] / 1e9 / sum(steps) / speed, 3),
                "peak_mb": round(work.peak_mb(options.gpu)),
                "phase_s": {name: round(s / len(steps), 4) for name, s in phases.items()},
            }
        )
    )


Made = tuple[Any, Counts, Counts]


def sft(size: Size, options: Any) -> Made:
    """Cross-entropy on the completion's tokens."""
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"prompt": as_text(row["prompt"]), "completion": " " + as_text(row["chosen"])}
        for row in work.make_rows(size.vocab, BATCH["sft"] * options.steps)
    ]
    trainer = SFTTrainer(
        model=_language_model(size),
        args=SFTConfig(**_common("sft", options), max_steps=options.steps),
        train_dataset=_dataset(rows),
        processing_class=work.make_tokenizer(size),
    )
    return trainer, _count(trainer, size, 3, lambda x: int((x["labels"] != -100).sum())), {}


def reward(size: Size, options: Any) -> Made:
    """The ranking loss on pairs."""
    from trl import RewardConfig, RewardTrainer

    trainer = RewardTrainer(
        model=_scalar_model(size),
        args=RewardConfig(**_common("reward", options), max_steps=options.steps),
        train_dataset=_pairs(size, BATCH["reward"] * options.steps),
        processing_class=work.make_tokenizer(size),
    )
    return trainer, _count(trainer, size, 3, lambda _: 0), {}


def dpo(size: Size, options: Any) -> Made:
    """DPO with a reference model of its own."""
    from trl import DPOConfig, DPOTrainer

    policy, reference = _language_model(size), _language_model(size)
    reference.load_state_dict(policy.state_dict())
    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=DPOConfig(**_common("dpo", options), max_steps=options.steps, beta=work.DPO_BETA),
        train_dataset=_pairs(size, BATCH["dpo"] * options.steps),
        processing_class=work.make_tokenizer(size),
    )
    return trainer, _count(trainer, size, 4, lambda x: int(x["completion_mask"].sum())), {}


def grpo(size: Size, options: Any) -> Made:
    """GRPO without a reference (TRL's default), groups of 8."""
    from trl import GRPOConfig, GRPOTrainer

    def score(completion_ids: list[list[int]], **_: Any) -> list[float]:
        half = size.vocab // 2
        return [sum(t < half for t in ids) / max(1, len(ids)) for ids in completion_ids]

    fixed = {"generation_kwargs": {"min_new_tokens": work.NEW_TOKENS}}
    rows = work.make_rows(size.vocab, BATCH["grpo"] * options.steps)
    trainer = GRPOTrainer(
        model=_language_model(size, options.eos_prob),
        reward_funcs=score,
        args=GRPOConfig(
            **_common("grpo", options),
            max_steps=options.steps,
            num_generations=work.GROUP,
            max_completion_length=work.NEW_TOKENS,
            temperature=1.0,
            **({} if options.eos_prob else fixed),
        ),
        train_dataset=_dataset([{"prompt": as_text(row["prompt"])} for row in rows]),
        processing_class=work.make_tokenizer(size),
    )
    counts: Counts = {"tokens": 0, "padded": 0, "flop": 0}
    phases: Counts = {"rollout": 0.0}
    whole, single = trainer._generate_and_score_completions, trainer._generate_single_turn

    def generate(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = single(*args, **kwargs)
        phases["rollout"] += time.perf_counter() - began
        return result

    def generate_and_score(*args: Any, **kwargs: Any) -> Any:
        result = whole(*args, **kwargs)
        responses = result["completion_mask"].sum(1).tolist()
        prompts = result["prompt_mask"].sum(1).tolist()
        lengths = [p + r for p, r in zip(prompts, responses, strict=True)]
        counts["tokens"] += sum(lengths)
        counts["padded"] += result["prompt_ids"].numel() + result["completion_ids"].numel()
        counts["flop"] += 4 * flops_forward(size, lengths, sum(responses))
        return result

    trainer._generate_single_turn = generate
    trainer._generate_and_score_completions = generate_and_score
    return trainer, counts, phases


def ppo(size: Size, options: Any) -> Made:
    """PPO with policy, reference, reward model and critic."""
    import trl.experimental.ppo.ppo_trainer as module
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    rows = work.make_rows(size.vocab, BATCH["ppo"] * (options.steps + 1))
    policy = _language_model(size, options.eos_prob)
    reference = _language_model(size, options.eos_prob)
    reference.load_state_dict(policy.state_dict())
    scores, critic = _scalar_model(size), _scalar_model(size)
    critic.load_state_dict(scores.state_dict())
    tokenizer = work.make_tokenizer(size)
    tokenizer.padding_side = "left"
    common = _common("ppo", options)
    common.pop("lr_scheduler_type")
    trainer = PPOTrainer(
        args=PPOConfig(
            **common,
            total_episodes=BATCH["ppo"] * options.steps,
            num_mini_batches=1,
            num_ppo_epochs=work.PPO_EPOCHS,
            response_length=work.NEW_TOKENS,
            temperature=1.0,
            gradient_accumulation_steps=1,
            local_rollout_forward_batch_size=64,
            kl_coef=work.KL_COEF,
            num_sample_generations=0,
            stop_token="eos" if options.eos_prob else None,
        ),
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=scores,
        value_model=critic,
        train_dataset=_dataset([{"input_ids": row["prompt"]} for row in rows]),
    )
    return trainer, *_watch_ppo(trainer, module, size, bool(options.eos_prob))


WORK: dict[str, Callable[[Size, Any], Made]] = {
    "sft": sft,
    "reward": reward,
    "dpo": dpo,
    "grpo": grpo,
    "ppo": ppo,
}


def _watch_ppo(trainer: Any, module: Any, size: Size, varied: bool) -> tuple[Counts, Counts]:
    """Counts tokens and useful FLOPs of PPO, and the seconds of its phases."""
    import torch

    counts: Counts = {"tokens": 0, "padded": 0, "flop": 0}
    phases: Counts = {"rollout": 0.0, "score": 0.0, "optimise": 0.0}
    clock: dict[str, float | None] = {"generated": None, "training": None}
    generation, forward = module.batch_generation, module.forward

    def timed_generation(model: Any, queries: Any, *args: Any) -> Any:
        began = time.perf_counter()
        result = generation(model, queries, *args)
        clock["generated"], clock["training"] = time.perf_counter(), None
        phases["rollout"] += time.perf_counter() - began
        sequences, context = result[0], queries.shape[1]
        ended = sequences[:, context:] == EOS
        responses = [
            int(row.nonzero()[0]) + 1 if varied and bool(row.any()) else len(row) for row in ended
        ]
        prompts = (queries != PAD).sum(1).tolist()
        lengths = [p + r for p, r in zip(prompts, responses, strict=True)]
        full, trunk = (flops_forward(size, lengths, n) for n in (sum(responses), 0))
        counts["tokens"] += sum(lengths)
        counts["padded"] += sequences.numel()
        counts["flop"] += full + full + 2 * trunk + work.PPO_EPOCHS * 3 * (full + trunk)
        return result

    def timed_forward(*args: Any) -> Any:
        if torch.is_grad_enabled() and clock["training"] is None:
            clock["training"] = time.perf_counter()
            phases["score"] += clock["training"] - (clock["generated"] or 0.0)
        return forward(*args)

    def step_ended() -> None:
        phases["optimise"] += time.perf_counter() - (clock["training"] or 0.0)

    module.batch_generation, module.forward = timed_generation, timed_forward
    trainer.add_callback(_callback(on_step_end=step_ended))
    return counts, phases


def _common(name: str, options: Any) -> dict[str, Any]:
    return {
        "output_dir": tempfile.mkdtemp(),
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": not options.gpu,
        "bf16": options.gpu,
        "gradient_checkpointing": False,  # off is faster for TRL at these sizes
        "logging_steps": 10,
        "disable_tqdm": True,
        "seed": 0,
        "learning_rate": work.LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": BATCH[name],
    }


def _language_model(size: Size, eos_prob: float = 0.0) -> Any:
    import math

    import torch
    from transformers import Qwen2ForCausalLM

    torch.manual_seed(0)
    model = Qwen2ForCausalLM(work.model_config(size))
    if eos_prob:
        bias = torch.zeros(size.vocab)
        bias[EOS] = math.log(eos_prob / (1 - eos_prob) * size.vocab)
        model.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
    return model


def _scalar_model(size: Size) -> Any:
    from transformers import Qwen2ForSequenceClassification

    return Qwen2ForSequenceClassification(work.model_config(size, num_labels=1))


def _dataset(rows: list[dict[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows)


def _pairs(size: Size, count: int) -> Any:
    return _dataset(
        [
            {
                "prompt": as_text(row["prompt"]),
                "chosen": " " + as_text(row["chosen"]),
                "rejected": " " + as_text(row["rejected"]),
            }
            for row in work.make_rows(size.vocab, count)
        ]
    )


def _count(trainer: Any, size: Size, passes: int, head: Callable[[dict[str, Any]], int]) -> Counts:
    """Counts real tokens and useful FLOPs of every training micro-batch."""
    counts: Counts = {"tokens": 0, "padded": 0, "flop": 0}
    plain = trainer.compute_loss

    def compute_loss(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        lengths = inputs["attention_mask"].sum(1).tolist()
        counts["tokens"] += sum(lengths)
        counts["padded"] += inputs["input_ids"].numel()
        counts["flop"] += passes * flops_forward(size, lengths, head(inputs))
        return plain(model, inputs, *args, **kwargs)

    trainer.compute_loss = compute_loss
    return counts


def _mark_steps(trainer: Any) -> list[float]:
    marks: list[float] = []

    def mark() -> None:
        marks.append(time.perf_counter())

    trainer.add_callback(_callback(on_train_begin=mark, on_step_end=mark))
    return marks


def _callback(**hooks: Callable[[], None]) -> Any:
    from transformers import TrainerCallback

    def method(hook: Callable[[], None]) -> Callable[..., None]:
        return lambda *args, **kwargs: hook()

    methods = {name: method(hook) for name, hook in hooks.items()}
    return type("Hooks", (TrainerCallback,), methods)()


if __name__ == "__main__":
    main()
