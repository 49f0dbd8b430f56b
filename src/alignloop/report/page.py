"""One self-contained HTML page from a run's folder."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError
from markupsafe import Markup
from pydantic import ValidationError

from alignloop.config import Recipe
from alignloop.config.load import kept_recipe
from alignloop.config.stages import OF_REWARD_STAGE, names_function
from alignloop.errors import UserError
from alignloop.report.frontier import Frontier, draw_frontier, frontier_of
from alignloop.report.plots import draw_curves, draw_reliability
from alignloop.report.tables import (
    EvaluationSet,
    Json,
    Pair,
    answer_pairs,
    as_dict,
    card_rows,
    card_slices,
    estimate_of,
    evaluation_sets,
    measures_of,
    setting_tables,
    training_samples,
    write_duration,
    write_interval,
    write_number,
    write_time,
)
from alignloop.run import atomic_write, chain, read_jsonl, read_metrics, read_samples
from alignloop.run.files import explain_shape, read_object
from alignloop.run.folder import is_run, seconds_by_stage

STAGES = {
    "sft": ("Supervised fine-tuning", "监督微调"),
    "reward": ("Reward model", "奖励模型"),
    "rl": ("PPO", "强化学习"),
    "evaluate": ("Evaluation", "评估"),
}
_NUM_PAIRS_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One box of the stage diagram; `seconds` is None if unfinished.

    `left_out` says why the run has no such stage; "" if it has.
    """

    key: str
    english: str
    chinese: str
    seconds: float | None
    finished_at: str
    result: str
    left_out: str

    @property
    def command(self) -> str:
        """The command that runs this stage."""
        return f"alignloop {self.key}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """All data of a page, as read from the run's folder."""

    path: Path
    config: Json
    lineage: Json
    metrics: list[Json]
    facts: dict[str, Json]
    seconds: dict[str, float]
    finished_at: dict[str, str]
    card: Json
    results: Json
    observer: Json  # the observer of RL's validation answers: its name and metric
    broken: list[str]


def write_report(run_path: str | Path) -> Path:
    """Write `<run_path>/report.html` and return its path; reads only files of the folder.

    Unfinished stages are replaced by the command that runs them. The page loads no other resource.
    Raises `UserError` if the folder is not a run or a file is damaged.
    """
    run = read_run(Path(run_path))
    environment = Environment(
        loader=PackageLoader("alignloop.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cast(Any, environment).filters.update(
        duration=write_duration, number=write_number, interval=write_interval, time=write_time
    )
    with explain_shape(run.path):  # valid JSON, but not what our stages write
        try:
            page = environment.get_template("report.html.j2").render(context_of(run))
        except UndefinedError as error:
            raise KeyError(str(error)) from error
    target = run.path / "report.html"
    atomic_write(target, page)
    return target


def read_run(path: Path) -> Run:
    """Read the small files of a run; raises `UserError` if `path` is not a run."""
    if not is_run(path):
        raise UserError(
            "this is not a run folder",
            where=str(path),
            fix="give a folder made by `alignloop run`, such as runs/<name>",
        )
    done = {stage: _read_json(path / stage / "done.json") for stage in STAGES}
    return Run(
        path=path,
        config=_read_toml(path / "config.toml"),
        lineage=_read_json(path / "lineage.json"),
        metrics=read_metrics(path),
        facts={stage: as_dict(content.get("facts")) for stage, content in done.items() if content},
        seconds=seconds_by_stage(path),
        finished_at={stage: str(c.get("finished_at", "")) for stage, c in done.items() if c},
        card=_read_json(path / "reward" / "report_card.json"),
        results=_read_json(path / "evaluate" / "results.json"),
        observer=_read_json(path / "rl" / "observer.json"),
        broken=[str(problem) for problem in chain.broken(path)],
    )


def context_of(run: Run) -> Json:
    """The variables of the template."""
    pairs = _pairs(run)
    kept_step = run.facts.get("rl", {}).get("best_step")
    sets = evaluation_sets(run.results)
    frontier = frontier_of(run.metrics, kept_step, run.observer.get("metric"))
    verdict, observer = headline(run.results), str(run.observer.get("name") or "gold")
    reliability: list[Any] = run.card.get("reliability") or []
    return {
        "name": run.config.get("name") or run.path.resolve().name,
        "stages": _stages(run, sets),
        "algorithm": algorithm_of(run.config),
        "total_seconds": sum(run.seconds.values()),
        "headline": verdict,
        "trusted": not any(finding["weight"] == "untrusted" for finding in verdict.findings),
        "observer": run.observer.get("name"),
        "judge": judge_sentence(run.results),
        "judge_card": card_rows(as_dict(as_dict(run.results.get("judge_facts")).get("card"))),
        "sentences": sentences(run, sets, frontier),
        "drawings": _safe_drawings(run, kept_step),
        "kept_step": kept_step,
        "frontier": frontier,
        "frontier_svg": Markup(draw_frontier(frontier, observer)) if frontier else "",
        "card": card_rows(run.card),
        "ece": run.card.get("ece"),
        "card_slices": card_slices(run.card),
        "verdict": as_dict(run.card.get("verdict")),
        "reliability_svg": Markup(draw_reliability(reliability)) if reliability else "",
        "sets": sets,
        "set_names": as_dict(run.results.get("set_names")),
        "pairs": pairs,
        "training_samples": training_samples(read_samples(run.path, "rl")),
        "settings": setting_tables(run.config),
        "phases": phase_seconds(run.metrics),
        "lineage": run.lineage,
        "broken": run.broken,
    }


def algorithm_of(config: Json) -> str:
    """The name of a run's RL algorithm: "PPO"."""
    return str(as_dict(as_dict(config.get("rl")).get("algorithm")).get("name", "ppo")).upper()


def _safe_drawings(run: Run, kept_step: float | None) -> list[Json]:
    """The curves with their SVG marked as safe markup; all other text is escaped."""
    drawings = draw_curves(run.metrics, kept_step, run.observer)
    return [{**vars(drawing), "svg": Markup(drawing.svg)} for drawing in drawings]


def _stages(run: Run, sets: Sequence[EvaluationSet]) -> list[Stage]:
    results = {"sft": _sft_result(run), "reward": _reward_result(run), "rl": _rl_result(run)}
    if sets and sets[0].win_rate:
        win, judge = sets[0].win_rate, as_dict(run.results.get("judge_facts")).get("name")
        results["evaluate"] = (
            f"{write_number(win.value, 'percent')} wins over SFT"
            f" [{write_interval(win, 'percent')}], by the {judge}"
        )
    recipe = kept_recipe(run.path / "config.toml")
    stages: list[Stage] = []
    for key, (english, chinese) in STAGES.items():
        english = algorithm_of(run.config) if key == "rl" else english
        facts = run.facts.get(key)
        seconds = None if facts is None else run.seconds[key]
        stages.append(
            Stage(
                key=key,
                english=english,
                chinese=chinese,
                seconds=seconds,
                finished_at=run.finished_at.get(key, ""),
                result=results.get(key, ""),
                left_out="" if recipe is None else _left_out(key, recipe),
            )
        )
    return stages


def _left_out(key: str, recipe: Recipe) -> str:
    rewards = recipe.rl.reward_sources
    if key == "sft" and recipe.sft.demonstrations is None:
        return f"none: the run starts from {recipe.model.path}"
    of_stage = recipe.evaluate.judge in OF_REWARD_STAGE
    if key == "reward" and all(map(names_function, rewards)) and not of_stage:
        return f"none: rewarded by {', '.join(rewards)}"
    return ""


def _sft_result(run: Run) -> str:
    found = [
        m["held_out_perplexity"]
        for m in run.metrics
        if m.get("stage") == "sft" and m.get("held_out_perplexity") is not None
    ]
    before = run.facts.get("sft", {}).get("perplexity_before")
    start = f"{before:.2f} → " if before is not None and len(found) > 1 else ""
    return f"perplexity {start}{found[-1]:.2f}" if found else ""


def _reward_result(run: Run) -> str:
    accuracy = as_dict(run.card.get("accuracy")).get("value")
    return "" if accuracy is None else f"{write_number(accuracy, 'percent')} of pairs right"


def _rl_result(run: Run) -> str:
    facts = run.facts.get("rl", {})
    if facts.get("kl") is None:
        return ""
    return f"{facts.get('steps', '?')} steps, KL {write_number(facts['kl'], 'plain')}"


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The verdict as the evaluation wrote it, with its findings."""

    mood: str
    english: str
    chinese: str
    findings: tuple[Json, ...] = ()


def headline(results: Json) -> Headline:
    """The verdict of evaluate/results.json; the report makes none of its own."""
    verdict = as_dict(results.get("verdict"))
    if verdict:
        return Headline(
            mood=str(verdict["mood"]),
            english=str(verdict["english"]),
            chinese=str(verdict["chinese"]),
            findings=tuple(as_dict(finding) for finding in verdict["findings"]),
        )
    if results:
        return Headline(
            mood="unknown",
            english="An earlier version made this comparison, without a verdict: run"
            " `alignloop evaluate` in a new folder to get one.",
            chinese="此比较由旧版本完成，未经权衡：请在新目录中运行 alignloop evaluate。",
        )
    return Headline(
        mood="unknown",
        english="The models have not been compared yet.",
        chinese="两个模型尚未比较。",
    )


def judge_sentence(results: Json) -> str:
    """The judge, its training and its accuracy in one sentence; "" if there was none."""
    facts = as_dict(results.get("judge_facts"))
    if not facts:
        return ""
    text = f"Judge: {facts['name']}"
    card = as_dict(facts.get("card"))
    if card:
        labels, accuracy = as_dict(card.get("labels")), estimate_of(card.get("accuracy"))
        if labels:
            text += f", trained on {labels['learnt']} of {labels['all']} pairs"
            if labels["shared_with_climbed"]:
                text += f" ({labels['shared_with_climbed']} also trained the model RL optimised)"
        if accuracy:
            text += (
                f", right on {write_number(accuracy.value, 'percent')}"
                f" [{write_interval(accuracy, 'percent')}] of {card['num_pairs']} unseen pairs"
            )
    if cost := as_dict(results.get("judge_cost")):
        text += f", at a cost of {cost['value']:g} {cost['unit']}"
    return text + "."


def sentences(run: Run, sets: Sequence[EvaluationSet], frontier: Frontier | None) -> list[str]:
    """The verdict's paragraph: a sentence for each measurement."""
    lines = [sentence for found in sets for sentence in _evaluation_sentences(found, run.results)]
    accuracy = as_dict(run.card.get("accuracy")).get("value")
    if accuracy is not None:
        ceiling = run.card.get("ceiling")
        limit = "" if ceiling is None else f"; annotator agreement allows {100 * ceiling:.1f} %"
        lines.append(
            f"The reward model is right on {100 * accuracy:.1f} % of held-out pairs{limit}."
        )
    facts = run.facts.get("rl", {})
    if facts.get("best_step") is not None:
        distance = _kl_at(run.metrics, facts["best_step"])
        kl = "" if distance is None else f", {distance:.3g} nats from the SFT model"
        reason = f" ({facts['stopped_because']})" if facts.get("stopped_because") else ""
        name = algorithm_of(run.config)
        ran = f"ran {facts['steps']} steps{reason}" if "steps" in facts else "finished"
        steps = f"{name} {ran}"
        lines.append(f"{steps}; the checkpoint of step {facts['best_step']} was kept{kl}.")
    peak = frontier.predicted_peak_kl if frontier else None
    if frontier and peak is not None and peak <= 4 * max(frontier.distances) ** 2:
        lines.append(
            f"The fitted curve by the {run.observer['name']} peaks at a KL of {peak:.3g} nats."
        )
    return lines


def _kl_at(metrics: Sequence[Json], step: Any) -> float | None:
    """The KL on validation prompts at a step; the KL in the facts is the last step's."""
    found = [
        line["validation_kl"]
        for line in metrics
        if line.get("stage") == "rl" and line.get("step") == step
        if line.get("validation_kl") is not None
    ]
    return float(found[-1]) if found else None


def _evaluation_sentences(first: EvaluationSet, results: Json) -> list[str]:
    """Results on one set of prompts, and how many of the prompts are in training files."""
    lines: list[str] = []
    names = as_dict(results.get("set_names")).get(first.name) or (first.name, "")
    judge = as_dict(results.get("judge_facts")).get("name")
    overlap = as_dict(results.get("overlap"))
    # a world's sets are disjoint by construction, so overlap was not computed
    checked = as_dict(
        as_dict(overlap.get("sets")).get(first.name) if overlap.get("looked_at") else None
    )
    if first.win_rate is not None:
        win = first.win_rate
        fair = first.length_controlled
        controlled = "" if fair is None else f", {100 * fair.value:.1f} % at equal length"
        lines.append(
            f"On {win.n} prompts ({names[0].lower()}{_held_out(checked)}) the RLHF answer wins"
            f" {100 * win.value:.1f} % of the comparisons by the {judge}"
            f" (95 % interval {write_interval(win, 'percent')}){controlled}."
        )
    measures = measures_of(results)
    for measure in (m for m in measures if m.safety or m is measures[0]):
        change = first.change(measure.key)
        if change is not None and change.sft is not None and change.policy is not None:
            sides = (change.sft.value, change.policy.value)
            before, after = (write_number(value, measure.style) for value in sides)
            lines.append(f"{measure.english}: from {before} to {after}.")
    return lines


def _held_out(checked: Json) -> str:
    """How many prompts are in training files: counted, not assumed."""
    if not checked:
        return ""
    return f"; {checked['seen']} of {checked['n']} are in training files"


def phase_seconds(metrics: Sequence[Json]) -> list[tuple[str, float, float]]:
    """Time per phase of a step: (phase, mean seconds per step, share of the three)."""
    lines = [line for line in metrics if line.get("stage") == "rl"]
    means: dict[str, float] = {}
    for phase in ("rollout", "scoring", "update"):
        found = [line[f"{phase}_seconds"] for line in lines if f"{phase}_seconds" in line]
        found = [float(value) for value in found if value is not None]
        if found:
            means[phase] = sum(found) / len(found)
    total = sum(means.values())
    return [(phase, mean, mean / total) for phase, mean in means.items()] if total else []


def _pairs(run: Run) -> list[Pair]:
    path = run.path / "evaluate" / "answers.jsonl"
    count = as_dict(run.config.get("evaluate")).get("num_samples_shown", _NUM_PAIRS_SHOWN)
    try:
        return answer_pairs(read_jsonl(path), int(count), measures_of(run.results))
    except (ValidationError, KeyError) as error:
        raise UserError(
            f"a line is not an evaluated prompt ({error})",
            where=str(path),
            fix="run `alignloop evaluate` again",
        ) from error


def _read_json(path: Path) -> Json:
    if not path.exists():
        return {}
    return read_object(path)


def _read_toml(path: Path) -> Json:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"this file is not TOML ({error})", where=str(path), fix="restore config.toml"
        ) from error
