"""alignloop's side of the comparison: one command does one kind of work and prints one JSON line.

python benchmarks/ours.py ppo --size tiny --steps 6
"""

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import work
from work import BATCH, EOS, PAD, SIZES, Size, as_text, flops_forward

Result = dict[str, Any]


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=list(WORK))
    parser.add_argument("--size", choices=list(SIZES), default="tiny")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eos-prob", type=float, default=0.0, help="varied lengths: P(EOS)")
    options = parser.parse_args()
    began = time.perf_counter()
    import torch

    torch.set_num_threads(options.threads)
    import alignloop.rl.train  # noqa: F401  (what a run would import)

    imported = time.perf_counter() - began
    peak = [work.gemm_gflops()]
    with tempfile.TemporaryDirectory() as folder:
        result = WORK[options.work](SIZES[options.size], options, Path(folder))
    peak.append(work.gemm_gflops())
    speed = statistics.median(peak)
    seconds = result["seconds"]
    if "phase_gflop" in result:
        result["phase_bound_s"] = {
            name: round(gflop / speed, 3) for name, gflop in result["phase_gflop"].items()
        }
    result |= {
        "work": options.work,
        "side": "ours",
        "size": options.size,
        "threads": options.threads,
        "import_s": round(imported, 2),
        "gemm_gflops": round(speed, 1),
        "mfu": round(result["gflop"] / seconds / speed, 3),
        "bound_s": round(result["gflop"] / speed / result["steps"], 3),
        "peak_mb": round(work.peak_mb()),
    }
    print(json.dumps(result))


def sft(size: Size, options: Any, folder: Path) -> Result:
    """The stage itself, on rows of prompt and chosen answer."""
    from alignloop.config import SftConfig
    from alignloop.sft.train import train_sft

    rows = work.make_rows(size.vocab, BATCH["sft"] * options.steps)
    demonstrations = [_demonstration(row) for row in rows]
    config = SftConfig(batch_size=BATCH["sft"], num_epochs=1, learning_rate=1e-5, save_every=0)
    config = config.model_copy(update={"held_out_share": 0.0, "micro_batch_tokens": 1024})
    return _stage(
        size,
        folder,
        lambda model, run: train_sft(config, model("policy"), demonstrations, run),
        "sft",
        lengths=[len(r["prompt"]) + len(r["chosen"]) + 1 for r in rows],
        head=sum(len(r["chosen"]) + 1 for r in rows),
        passes=3,
    )


def reward(size: Size, options: Any, folder: Path) -> Result:
    """The ranking loss on pairs of a policy with a fresh head."""
    import torch

    from alignloop.config import ModelConfig, RewardConfig
    from alignloop.models import load_tokenizer, new_reward_model
    from alignloop.parallel import SINGLE
    from alignloop.reward.train import ranking
    from alignloop.training.loop import accumulate
    from alignloop.training.optimiser import descend, make_optimizer

    torch.manual_seed(0)
    config = RewardConfig(batch_size=BATCH["reward"], micro_batch_tokens=1024)
    path = str(work.save_models(size, folder)["policy"])
    tokenizer = load_tokenizer(path)
    model = new_reward_model(path, tokenizer, ModelConfig(path=path), 0)
    optimizer = make_optimizer(model, config)
    rows = work.make_rows(size.vocab, BATCH["reward"] * options.steps)
    store = _store(rows, tokenizer)
    objective = ranking(config, model, store, PAD, 0)

    def step(number: int) -> None:
        first = number * BATCH["reward"]
        accumulate(objective.step(range(first, first + BATCH["reward"])), SINGLE)
        descend(optimizer, learning_rate=1e-5, max_grad_norm=1.0)

    lengths = [len(r["prompt"]) + len(r[k]) + 1 for r in rows for k in ("chosen", "rejected")]
    return _timed(step, options.steps, sum(lengths), 3 * flops_forward(size, lengths, 0))


def _store(rows: list[dict[str, Any]], tokenizer: Any) -> Any:
    """All pairs, encoded once."""
    from alignloop.data.pairs import PairStore, TextCodes
    from alignloop.data.tokenise import LengthLimit

    limit = LengthLimit.of("reward.max_tokens", 1024, None, "refuse")
    pairs = [_pair(row, number) for number, row in enumerate(rows)]
    return PairStore.of(pairs, TextCodes(tokenizer=tokenizer, limit=limit))


def dpo(size: Size, options: Any, folder: Path) -> Result:
    """DPO; the reference's pass over all pairs is spread over the steps."""
    from alignloop.config import DpoConfig, DpoObjective, ModelConfig
    from alignloop.dpo.train import Reader, Reference, pair_losses
    from alignloop.models import load_policy, load_tokenizer
    from alignloop.parallel import SINGLE
    from alignloop.training.loop import accumulate
    from alignloop.training.optimiser import descend, make_optimizer
    from alignloop.training.pairs import pair_step

    config = DpoConfig(
        batch_size=BATCH["dpo"],
        micro_batch_tokens=1024,
        objective=DpoObjective(beta=work.DPO_BETA),
    )
    path = str(work.save_models(size, folder)["policy"])
    tokenizer = load_tokenizer(path)
    policy = load_policy(path, tokenizer, ModelConfig(path=path))
    reader = Reader(policy=policy, pad_id=PAD, micro_batch_tokens=config.micro_batch_tokens)
    optimizer = make_optimizer(policy, config)
    rows = work.make_rows(size.vocab, BATCH["dpo"] * options.steps)
    store = _store(rows, tokenizer)
    began = time.perf_counter()
    losses = pair_losses(config, store, Reference.of(store, range(len(rows)), reader))
    extra = (time.perf_counter() - began) / options.steps

    def step(number: int) -> None:
        first = number * BATCH["dpo"]
        batch = range(first, first + BATCH["dpo"])
        accumulate(pair_step(store, batch, reader.logprobs, losses, 1024), SINGLE)
        descend(optimizer, learning_rate=work.LEARNING_RATE, max_grad_norm=1.0)

    answers = [(len(r["prompt"]), len(r[k]) + 1) for r in rows for k in ("chosen", "rejected")]
    lengths = [prompt + answer for prompt, answer in answers]
    flops = 4 * flops_forward(size, lengths, sum(answer for _, answer in answers))
    result = _timed(step, options.steps, sum(lengths), flops)
    result["seconds"] += extra * options.steps
    result["step_s"] = round(result["step_s"] + extra, 4)
    return result


def grpo(size: Size, options: Any, folder: Path) -> Result:
    """GRPO without a reference: 4 prompts, groups of 8, a reward that counts tokens."""
    from alignloop.config import GrpoConfig

    algorithm = GrpoConfig(group_size=work.GROUP)
    parts, prompts = _rl_parts(size, options, folder, algorithm)

    class Share:
        """The share of tokens of the vocabulary's first half, as for TRL."""

        def scores(self, answers: Any) -> Any:
            low = (answers.input_ids < size.vocab // 2) & answers.attention_mask
            return low.sum(1) / answers.attention_mask.sum(1)

    object.__setattr__(parts.scorer, "rewarder", Share())
    count = BATCH["grpo"] // work.GROUP
    return _reinforce(
        size,
        options,
        parts,
        lambda step: [p for p in prompts[step * count :][:count] for _ in range(work.GROUP)],
        lambda full, _: {"rollout": full, "score": 0.0, "optimise": 3 * full},
    )


def ppo(size: Size, options: Any, folder: Path) -> Result:
    """Rollouts, scoring by all four models, and four epochs of updates."""
    from alignloop.config import PpoConfig

    algorithm = PpoConfig(num_epochs=work.PPO_EPOCHS, kl_coef=work.KL_COEF)
    parts, prompts = _rl_parts(size, options, folder, algorithm)
    return _reinforce(
        size,
        options,
        parts,
        lambda step: prompts[step * BATCH["ppo"] :][: BATCH["ppo"]],
        lambda full, trunk: {
            "rollout": full,
            "score": full + 2 * trunk,
            "optimise": work.PPO_EPOCHS * 3 * (full + trunk),
        },
    )


def _reinforce(
    size: Size,
    options: Any,
    parts: Any,
    prompts_of: Callable[[int], list[tuple[str, list[int]]]],
    flops_of: Callable[[float, float], dict[str, float]],
) -> Result:
    """Rollouts, scoring and updates; `flops_of(forward with head, without)` by phase."""
    from alignloop.rl.experience import Experience
    from alignloop.run import row_seeds

    algorithm = parts.learner.algorithm
    phases = {"rollout": 0.0, "score": 0.0, "optimise": 0.0}
    gflop = dict.fromkeys(phases, 0.0)
    tokens = 0

    def step(number: int) -> None:
        nonlocal tokens
        clock = [time.perf_counter()]
        asked = prompts_of(number)
        rollouts = parts.sampler.generate(asked, row_seeds(len(asked), 0, "rollout", number))
        clock.append(time.perf_counter())
        scored = parts.scorer.score(rollouts)
        experience = Experience(scored=scored, credit=algorithm.credit(scored, algorithm.start))
        clock.append(time.perf_counter())
        parts.learner.update(experience, seed=0, step=number + 1, rate=1.0)
        clock.append(time.perf_counter())
        for name, (begin, end) in zip(phases, itertools.pairwise(clock), strict=True):
            phases[name] += end - begin
        lengths = [len(r.input_ids) for r in rollouts]
        responses = sum(len(r.response_ids) for r in rollouts)
        full, trunk = (flops_forward(size, lengths, n) / 1e9 for n in (responses, 0))
        for name, value in flops_of(full, trunk).items():
            gflop[name] += value
        tokens += sum(lengths)

    result = _timed(step, options.steps, 0, 0)
    return result | {
        "tokens": tokens,
        "gflop": sum(gflop.values()),
        "phase_s": {name: round(value / options.steps, 4) for name, value in phases.items()},
        "phase_gflop": {name: round(value / options.steps, 3) for name, value in gflop.items()},
    }


def rollout(size: Size, options: Any, folder: Path) -> Result:
    """Our sampler and transformers' `generate` on the same prompts, in turn."""
    import torch
    from transformers import GenerationConfig

    from alignloop.config import PpoConfig
    from alignloop.run import row_seeds

    parts, prompts = _rl_parts(size, options, folder, PpoConfig())
    policy = parts.learner.policy
    plain = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=work.NEW_TOKENS,
        pad_token_id=PAD,
        eos_token_id=EOS if options.eos_prob else None,
    )
    theirs: list[float] = []

    def step(number: int) -> None:
        asked = prompts[number * BATCH["ppo"] : (number + 1) * BATCH["ppo"]]
        parts.sampler.generate(asked, row_seeds(len(asked), 0, "rollout", number))

    def generate(number: int) -> None:
        asked = [ids for _, ids in prompts[number * BATCH["ppo"] : (number + 1) * BATCH["ppo"]]]
        width = max(map(len, asked))
        ids = torch.tensor([[PAD] * (width - len(p)) + p for p in asked])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in asked])
        with torch.no_grad():
            policy.generate(ids, attention_mask=mask, generation_config=plain)

    ours: list[float] = []
    step(0)
    generate(0)
    for number in range(options.steps):
        for seconds, turn in ((ours, step), (theirs, generate)):
            began = time.perf_counter()
            turn(number)
            seconds.append(time.perf_counter() - began)
    flops = options.steps * flops_forward(
        size, [len(ids) + work.NEW_TOKENS for _, ids in prompts[: BATCH["ppo"]]], 2048
    )
    return {
        "steps": options.steps,
        "seconds": sum(ours),
        "step_s": round(statistics.median(ours), 4),
        "generate_step_s": round(statistics.median(theirs), 4),
        "ratio": round(statistics.median(t / o for t, o in zip(theirs, ours, strict=True)), 2),
        "gflop": flops / 1e9,
    }


WORK: dict[str, Callable[[Size, Any, Path], Result]] = {
    "sft": sft,
    "reward": reward,
    "dpo": dpo,
    "grpo": grpo,
    "ppo": ppo,
    "rollout": rollout,
}


def _rl_parts(
    size: Size, options: Any, folder: Path, algorithm: Any
) -> tuple[Any, list[tuple[str, list[int]]]]:
    """The parts of a run of an algorithm, and the prompts as token ids."""
    from torch import nn, zeros

    from alignloop.config import ModelConfig, RlConfig, SamplingConfig
    from alignloop.rl.build import RlInputs, build
    from alignloop.rollout import LlamaSampler

    paths = work.save_models(size, folder)
    rows = work.make_rows(size.vocab, BATCH["ppo"] * (options.steps + 1))
    config = RlConfig(
        algorithm=algorithm,
        learning_rate=work.LEARNING_RATE,
        batch_size=BATCH["ppo"],
        micro_batch_tokens=getattr(options, "micro_batch_tokens", 1024),
        missing_eos="off",
        sampling=SamplingConfig(
            max_new_tokens=work.NEW_TOKENS,
            batch_size=BATCH["ppo"],
        ),
    )
    inputs = RlInputs(
        policy_dir=paths["policy"],
        reward_dir=paths["reward"],
        held_out_dir=None,
        prompts=[_prompt(row, number) for number, row in enumerate(rows)],
        validation_prompts=[],
    )
    model = ModelConfig(path=str(paths["policy"]), dtype=getattr(options, "dtype", "float32"))
    parts = build(config, model, inputs, seed=0, observer=None)
    eos = -1  # fixed lengths: no token ends a response
    if options.eos_prob:
        eos = EOS
        for model in filter(None, (parts.learner.policy, parts.scorer.reference)):
            bias = zeros(size.vocab)
            odds = options.eos_prob / (1 - options.eos_prob)
            bias[EOS] = math.log(odds * size.vocab)
            model.lm_head.bias = nn.Parameter(bias, requires_grad=False)
    sampler = LlamaSampler(model=parts.learner.policy, stop_ids=(eos,), config=config.sampling)
    object.__setattr__(parts, "sampler", sampler)
    return parts, [(str(i), row["prompt"]) for i, row in enumerate(rows)]


def _timed(step: Callable[[int], None], steps: int, tokens: int, flops: float) -> Result:
    seconds: list[float] = []
    for number in range(steps):
        began = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - began)
    return {
        "steps": steps,
        "seconds": sum(seconds),
        "step_s": round(statistics.median(seconds), 4),
        "tokens": tokens,
        "gflop": flops / 1e9,
    }


def _stage(
    size: Size,
    folder: Path,
    train: Callable[[Callable[[str], Any], Any], object],
    name: str,
    *,
    lengths: list[int],
    head: int,
    passes: int,
) -> Result:
    """Run a whole stage in a run folder; the seconds are those that its metrics say."""
    from alignloop.config import ModelConfig
    from alignloop.run import RunFolder
    from alignloop.run.stage_run import StageRun

    paths = work.save_models(size, folder)
    run_folder = RunFolder(folder / "run")
    train(lambda model: ModelConfig(path=str(paths[model])), StageRun(run_folder, name, 0))
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    seconds = [json.loads(line)["seconds_per_step"] for line in lines]
    return {
        "steps": len(seconds),
        "seconds": sum(seconds),
        "step_s": round(statistics.median(seconds), 4),
        "tokens": sum(lengths),
        "gflop": passes * flops_forward(size, lengths, head) / 1e9,
    }


def _prompt(row: dict[str, list[int]], number: int = 0) -> Any:
    from alignloop.records import Message, Prompt

    text = as_text(row["prompt"])
    return Prompt(prompt_id=f"{number}:{text}", messages=(Message(role="user", content=text),))


def _demonstration(row: dict[str, list[int]]) -> Any:
    from alignloop.records import Demonstration

    return Demonstration(prompt=_prompt(row), response=as_text(row["chosen"]), source="benchmark")


def _pair(row: dict[str, list[int]], number: int) -> Any:
    from alignloop.records import PreferencePair

    texts = {name: as_text(row[name]) for name in ("chosen", "rejected")}
    return PreferencePair(prompt=_prompt(row, number), source="benchmark", **texts)


if __name__ == "__main__":
    main()
