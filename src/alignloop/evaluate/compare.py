"""The SFT model against the policy on held-out prompts: same prompts, same random numbers."""

import filecmp
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from alignloop.config import EvaluateConfig, ModelConfig
from alignloop.data.templates import install_template
from alignloop.data.tokenise import CONTEXT, LengthLimit, decode, encode_fitting, encode_prompt
from alignloop.data.truncation import prompt_cutter
from alignloop.errors import UserError
from alignloop.evaluate.distance import distances
from alignloop.evaluate.overlap import overlaps
from alignloop.evaluate.tables import JudgedAnswer, measured_sets, win_rates
from alignloop.evaluate.verdict import verdict
from alignloop.judging.protocol import Answer, Judge, JudgeFacts, in_both_orders, preference
from alignloop.measures import OF_ANSWERS
from alignloop.models import context_of, load_tokenizer
from alignloop.models.initialise import load_policy_to_sample
from alignloop.records import Preference, Prompt, Verdict
from alignloop.rollout import Rollout, make_sampler
from alignloop.run import atomic_write, derive_seed, row_seeds
from alignloop.run.files import json_line
from alignloop.run.stage_run import StageRun

MAX_PROMPT_TOKENS = 10**9


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the pipeline knows of an evaluation: its judge, the run's RL, the prompts trained on.

    `taught` has the prompts of the run's files by setting; `near_duplicate` is the Jaccard
    similarity from which prompts count as duplicates; `set_names` are in English and Chinese.
    """

    judge: JudgeFacts
    rl: Mapping[str, Any]
    taught: Mapping[str, Sequence[Prompt]]
    near_duplicate: float
    set_names: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])


def compare_policies(
    config: EvaluateConfig,
    model_config: ModelConfig,
    models: Mapping[str, Path],
    sets: Mapping[str, Sequence[Prompt]],
    make_judge: Callable[[], Judge],
    known: Known,
    run: StageRun,
) -> dict[str, Any]:
    """Answer every set with `models` "sft" and "policy", judge, and write answers and results.

    The judge is made after the policies are freed, so memory need not hold both. A third model,
    "base", is the one before SFT; its figures and answers are reported too.
    """
    chosen = {
        name: choose_prompts(
            prompts_that_fit(prompts, models["sft"], model_config, config),
            config.max_prompts,
            run.seed,
        )
        for name, prompts in sets.items()
    }
    rollouts: dict[str, dict[str, list[Rollout]]] = {who: {} for who in models}
    for who, folder in models.items():
        for name, prompts in chosen.items():
            run.say(f"evaluate: {who} answers {len(prompts)} prompts of {name}")
            rollouts[who][name] = answer_all(folder, model_config, config, prompts, run.seed)
    run.say(f"evaluate: judging with the {known.judge.name}")
    tokenizers = {who: load_tokenizer(folder, model_config) for who, folder in models.items()}
    given = {
        who: {name: _as_answers(drawn, tokenizers[who]) for name, drawn in by_set.items()}
        for who, by_set in rollouts.items()
    }
    judged = Judged.by(make_judge(), known.judge, chosen, given)
    answers = {
        who: {
            name: [
                _judged(*row)
                for row in zip(drawn, given[who][name], judged.verdicts[who][name], strict=True)
            ]
            for name, drawn in by_set.items()
        }
        for who, by_set in rollouts.items()
    }
    rows = [
        {
            "set": name,
            "prompt": prompt.model_dump(mode="json"),
            **{who: asdict(answers[who][name][i]) for who in models},
        }
        for name, prompts in chosen.items()
        for i, prompt in enumerate(prompts)
    ]
    atomic_write(run.path / "answers.jsonl", "".join(map(json_line, rows)))
    seed = derive_seed(run.seed, "evaluate") % 2**32
    results = _results(chosen, answers, judged, known.judge, seed)
    results |= _context(config, models, chosen, answers, known)
    run.say("evaluate: measuring how far the answers are from the SFT model's")
    results["distance"] = distances(models, rollouts, model_config)
    results["verdict"] = verdict(results)
    run.say(f"evaluate: {results['verdict']['english']}")
    atomic_write(
        run.path / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    )
    run.say(people_instead(run.folder.path))
    run.finish(
        {"judge": known.judge.name, "num_prompts": {name: len(p) for name, p in chosen.items()}}
    )
    return results


def _context(
    config: EvaluateConfig,
    models: Mapping[str, Path],
    chosen: Mapping[str, Sequence[Prompt]],
    answers: Mapping[str, Mapping[str, Sequence[JudgedAnswer]]],
    known: Known,
) -> dict[str, Any]:
    """Facts for the verdict in addition to the figures."""
    both = {
        name: list(zip(*(answers[who][name] for who in ("sft", "policy")), strict=True))
        for name in chosen
    }
    return {
        "judge_facts": asdict(replace(known.judge, measures=())),
        "rl": dict(known.rl),
        "set_names": dict(known.set_names),
        "overlap": overlaps(chosen, known.taught, known.near_duplicate),
        "same_model": same_weights(models["sft"], models["policy"]),
        "max_new_tokens": config.sampling.max_new_tokens,
        "cut_off": {name: count_cut_off(pairs) for name, pairs in both.items()},
    }


def count_cut_off(pairs: Sequence[Sequence[JudgedAnswer]]) -> dict[str, int]:
    """In how many pairs at least one answer, or both, were cut off."""
    cut = [[answer.finish_reason == "length" for answer in pair] for pair in pairs]
    return {"n": len(cut), "any": sum(map(any, cut)), "both": sum(map(all, cut))}


def same_weights(one: Path, other: Path) -> bool:
    """Whether two model directories have the same weights, byte for byte."""
    files = [sorted(folder.glob("*.safetensors")) for folder in (one, other)]
    names = [[file.name for file in found] for found in files]
    alike = bool(files[0]) and names[0] == names[1]
    return alike and all(filecmp.cmp(a, b, shallow=False) for a, b in zip(*files, strict=True))


def people_instead(run_path: Path) -> str:
    """Three commands to have people judge the same answers blindly."""
    label = f"alignloop label {{}} --project {run_path / 'label'}"
    return "\n    ".join(
        (
            "evaluate: to have people judge these answers without seeing which model gave them:",
            label.format("project add evaluation"),
            label.format(f"import {run_path / 'evaluate' / 'answers.jsonl'} --batch answers"),
            label.format("serve"),
        )
    )


def prompts_that_fit(
    prompts: Sequence[Prompt], folder: Path, model_config: ModelConfig, config: EvaluateConfig
) -> list[Prompt]:
    """The prompts that leave room for an answer in the model's context; UserError for others."""
    context = context_of(folder)
    if context is None:
        return list(prompts)
    tokenizer = load_tokenizer(folder, model_config)
    room = context - config.sampling.max_new_tokens
    if room < 1:
        raise UserError(
            f"answers of {config.sampling.max_new_tokens} tokens leave no room for a prompt in the"
            f" model's context of {context}",
            where="evaluate.sampling.max_new_tokens",
            fix="lower it",
        )
    limit = LengthLimit(
        tokens=room, set_by=CONTEXT, too_long=config.too_long, switch="evaluate.too_long"
    )
    cut = prompt_cutter(tokenizer, limit)
    return encode_fitting(prompts, lambda p: encode_prompt(tokenizer, p, room), limit, cut)[0]


def choose_prompts(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """Up to `count` prompts, as evenly as possible over (category, language)."""
    groups: dict[tuple[str, str], list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault((prompt.category, prompt.language), []).append(prompt)
    # shuffled per group: adding a category does not change the choice in others
    for key, group in groups.items():
        random.Random(f"evaluate/{seed}/{key}").shuffle(group)
    rounds = max(len(group) for group in groups.values())
    in_turn = [group[i] for i in range(rounds) for group in groups.values() if i < len(group)]
    return in_turn[:count]


def answer_all(
    folder: Path,
    model_config: ModelConfig,
    config: EvaluateConfig,
    prompts: Sequence[Prompt],
    seed: int,
) -> list[Rollout]:
    """One answer per prompt; the model is freed before the judge is loaded."""
    tokenizer = load_tokenizer(folder, model_config)
    if model_config.chat_template and tokenizer.chat_template is None:  # a base model
        install_template(tokenizer, model_config.chat_template)
    policy = load_policy_to_sample(folder, tokenizer, model_config)
    sampler = make_sampler(policy, tokenizer, config.sampling)
    encoded = [(p.prompt_id, encode_prompt(tokenizer, p, MAX_PROMPT_TOKENS)) for p in prompts]
    # row i has the same seed for every model: common random numbers narrow the difference
    return sampler.generate(encoded, row_seeds(len(encoded), seed, "evaluate"))


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A judge's verdicts by model and set, and its preferences between both answers."""

    verdicts: Mapping[str, Mapping[str, Sequence[Verdict]]]
    preferences: Mapping[str, Sequence[Preference]]  # for the policy's answer, by set

    @classmethod
    def by(
        cls,
        judge: Judge,
        facts: JudgeFacts,
        chosen: Mapping[str, Sequence[Prompt]],
        answers: Mapping[str, Mapping[str, Sequence[Answer]]],
    ) -> "Judged":
        """Judge whole sets at once; comparisons by a pointwise judge cost nothing extra."""
        verdicts = {
            who: {name: _rated(judge, chosen[name], given) for name, given in by_set.items()}
            for who, by_set in answers.items()
        }
        preferences: dict[str, Sequence[Preference]] = {}
        for name, prompts in chosen.items():
            if facts.pairwise:
                sides = (answers[who][name] for who in ("policy", "sft"))
                preferences[name] = in_both_orders(judge, prompts, *sides)
            else:
                both = (verdicts[who][name] for who in ("policy", "sft"))
                preferences[name] = [preference(*pair) for pair in zip(*both, strict=True)]
        return cls(verdicts=verdicts, preferences=preferences)

    @property
    def cost(self) -> float:
        """The total, in the judge's unit."""
        verdicts = (v for by_set in self.verdicts.values() for row in by_set.values() for v in row)
        compared = (p for row in self.preferences.values() for p in row)
        return sum(verdict.cost for verdict in verdicts) + sum(one.cost for one in compared)


def _rated(judge: Judge, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Verdict]:
    """The verdicts; raises UserError if one has no score in 0..1."""
    verdicts = judge.rate(prompts, answers)
    for prompt, one in zip(prompts, verdicts, strict=True):
        if one.score is None:
            raise UserError(
                f"the {judge.facts.name} gave {one.reward:g}, but a judge's scores must lie in"
                " 0..1",
                where=f'prompt_id "{prompt.prompt_id}"',
                fix="set evaluate.judge to a reward model instead",
            )
    return verdicts


def _as_answers(rollouts: Sequence[Rollout], tokenizer: Any) -> list[Answer]:
    return [
        Answer(
            text=decode(tokenizer, rollout.response_ids), finished=rollout.finish_reason == "eos"
        )
        for rollout in rollouts
    ]


def _judged(rollout: Rollout, answer: Answer, verdict: Verdict) -> JudgedAnswer:
    return JudgedAnswer(
        response=answer.text,
        num_tokens=len(rollout.response_ids),
        finish_reason=rollout.finish_reason,
        score=verdict.score,
        rating=verdict.rating,
        marks=verdict.marks,
        reasons=verdict.reasons,
    )


def _results(
    chosen: Mapping[str, Sequence[Prompt]],
    answers: Mapping[str, Mapping[str, Sequence[JudgedAnswer]]],
    judged: Judged,
    facts: JudgeFacts,
    seed: int,
) -> dict[str, Any]:
    measures = (*facts.measures, *OF_ANSWERS)
    sets: dict[str, Any] = {}
    rates: dict[str, dict[str, Any]] = {}
    for name, prompts in chosen.items():
        both = {who: answers[who][name] for who in answers}
        sets[name] = measured_sets(prompts, both, measures, seed)
        preferred = [one.first for one in judged.preferences[name]]
        rates[name] = win_rates(prompts, both["sft"], both["policy"], preferred)
    return {
        "judge": facts.name,
        "judge_cost": {"value": judged.cost, "unit": facts.cost_unit} if facts.cost_unit else None,
        "measures": [measure.plain() for measure in measures],
        "sets": sets,
        "win_rate": {name: rate["win_rate"] for name, rate in rates.items()},
        "length_controlled_win_rate": {n: r["length_controlled"] for n, r in rates.items()},
        "sign_test_p": {name: rate["sign_test_p"] for name, rate in rates.items()},
    }
