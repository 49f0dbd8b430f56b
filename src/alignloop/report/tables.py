"""The page's tables: formatted numbers, rows, and the choice of answers to show."""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from alignloop.config import Recipe
from alignloop.measures import Measure
from alignloop.records import Prompt, Sample
from alignloop.stats.intervals import Estimate

Json = dict[str, Any]


def as_dict(value: Any) -> Json:
    """`value` if it is a JSON object, otherwise {}: parts of a report may be absent or null."""
    return cast(Json, value) if isinstance(value, dict) else {}


def estimate_of(node: Any) -> Estimate | None:
    """Read {"value", "low", "high", "n"}, or such a node under "overall"; None if absent."""
    fields = as_dict(node)
    if "overall" in fields:
        return estimate_of(fields["overall"])
    if fields.get("value") is None:
        return None
    low, high = fields.get("low"), fields.get("high")
    return Estimate(
        value=float(fields["value"]),
        low=-math.inf if low is None else float(low),
        high=math.inf if high is None else float(high),
        n=int(fields.get("n") or 0),
    )


def measures_of(results: Json) -> tuple[Measure, ...]:
    """The measures of the evaluation, the judge's first."""
    return tuple(Measure.read(node) for node in results.get("measures", ()))


def write_number(value: float, style: str) -> str:
    """A number as "percent" (0.253 -> 25.3 %), "score" (0.25) or "plain" (three figures)."""
    if style == "percent":
        return f"{100 * value:.1f} %"
    if style == "score":
        return f"{value:.2f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_interval(estimate: Estimate, style: str) -> str:
    """The interval in the same style; percentages without decimals, the unit once.

    "" if there is none; an open end is ∞.
    """
    if math.isinf(estimate.low) and math.isinf(estimate.high):
        return ""
    if math.isinf(estimate.low) or math.isinf(estimate.high):
        low, high = (
            "∞" if math.isinf(end) else write_number(end, style)
            for end in (estimate.low, estimate.high)
        )
        return f"{'−' if math.isinf(estimate.low) else ''}{low}–{high}"
    if style == "percent":
        return f"{100 * estimate.low:.0f}–{100 * estimate.high:.0f} %"
    return f"{write_number(estimate.low, style)}–{write_number(estimate.high, style)}"


def write_duration(seconds: float) -> str:
    """Seconds in words: "42 s", "6 min 03 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def write_time(text: Any) -> str:
    """An ISO time as "2025-01-31 14:05 UTC"; anything else unchanged."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text or "")
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".strip()


@dataclass(frozen=True, kw_only=True)
class Change:
    """One measure before (SFT) and after (RLHF); `trend` is "better", "worse" or "".

    `base` is the model that SFT started from, if it was evaluated too.
    """

    measure: Measure
    sft: Estimate | None
    policy: Estimate | None
    base: Estimate | None = None

    @property
    def trend(self) -> str:
        """The direction of change if the intervals do not overlap, otherwise ""."""
        if self.sft is None or self.policy is None or not self.measure.better:
            return ""
        if self.policy.low > self.sft.high:
            return "better" if self.measure.better > 0 else "worse"
        if self.policy.high < self.sft.low:
            return "worse" if self.measure.better > 0 else "better"
        return ""

    @property
    def known(self) -> bool:
        """True if at least one side was measured."""
        return self.sft is not None or self.policy is not None

    @property
    def on_unit_scale(self) -> bool:
        """True if both can be drawn on a line from 0 to 1."""
        ends = [end for item in (self.sft, self.policy) if item for end in (item.low, item.high)]
        return self.measure.style != "plain" and bool(ends) and min(ends) >= 0 and max(ends) <= 1


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    """One category or language: its changes in the table's columns, and its win rate."""

    name: str
    changes: tuple[Change, ...]
    win_rate: Estimate | None


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """The before/after tables of one set of held-out prompts."""

    name: str
    overall: tuple[Change, ...]
    columns: tuple[Measure, ...]
    rows: tuple[SliceRow, ...]
    win_rate: Estimate | None
    length_controlled: Estimate | None
    sign_test_p: float | None

    @property
    def has_base(self) -> bool:
        """Whether there is a column for the model that SFT started from."""
        return any(change.base is not None for change in self.overall)

    def change(self, key: str) -> Change | None:
        """The overall change of one measure, if measured."""
        return next((change for change in self.overall if change.measure.key == key), None)


def changes_of(node: Any, measures: Iterable[Measure]) -> tuple[Change, ...]:
    """The changes in {"sft": {measure: ...}, "policy": {...}}, in the order of `measures`."""
    sides = {who: as_dict(as_dict(node).get(who)) for who in ("base", "sft", "policy")}
    return tuple(
        Change(measure=m, **{who: estimate_of(found.get(m.key)) for who, found in sides.items()})
        for m in measures
    )


def evaluation_sets(results: Json) -> list[EvaluationSet]:
    """One entry per set of evaluate/results.json, without empty columns."""
    return [_evaluation_set(results, name) for name in as_dict(results.get("sets"))]


def _evaluation_set(results: Json, name: str) -> EvaluationSet:
    node, measures = as_dict(as_dict(results["sets"])[name]), measures_of(results)
    wins = as_dict(as_dict(results.get("win_rate")).get(name))
    rows = [
        SliceRow(
            name=key,
            changes=changes_of(value, (m for m in measures if m.by_slice)),
            win_rate=estimate_of(as_dict(wins.get(part)).get(key)),
        )
        for part in ("by_category", "by_language")
        for key, value in as_dict(node.get(part)).items()
    ]
    filled = {c.measure.key for row in rows for c in row.changes if c.known}
    columns = tuple(measure for measure in measures if measure.key in filled)
    rows = [
        SliceRow(
            name=row.name,
            changes=tuple(c for c in row.changes if c.measure.key in filled),
            win_rate=row.win_rate,
        )
        for row in rows
    ]
    p_value = results.get("sign_test_p")
    if isinstance(p_value, dict):
        p_value = as_dict(p_value).get(name)
    return EvaluationSet(
        name=name,
        overall=tuple(c for c in changes_of(node.get("overall"), measures) if c.known),
        columns=columns,
        rows=tuple(rows),
        win_rate=estimate_of(wins),
        length_controlled=estimate_of(as_dict(results.get("length_controlled_win_rate")).get(name)),
        sign_test_p=None if p_value is None else float(p_value),
    )


@dataclass(frozen=True, kw_only=True)
class CardRow:
    """One line of the reward model's card: its number and how to read it."""

    english: str
    chinese: str
    value: str
    note: str


# key, English, Chinese, style, how to read it
_CARD = (
    ("accuracy", "Accuracy on held-out pairs", "留出对准确率", "percent", "chance is 50 %"),
    (
        "ceiling",
        "Ceiling set by annotators",
        "标注上限",
        "percent",
        "the best that agreement allows",
    ),
    (
        "raw_agreement",
        "Agreement of two annotators",
        "标注一致率",
        "percent",
        "before any correction",
    ),
    (
        "longer_wins",
        "“The longer wins” baseline",
        "长者胜基线",
        "percent",
        "below 50 % the shorter wins; the model must clearly beat the better rule",
    ),
    (
        "bag_of_words",
        "A bag of words",
        "词袋基线",
        "percent",
        "TF-IDF and logistic regression on the same labels, without a model",
    ),
    (
        "accuracy_where_shorter_is_better",
        "Accuracy where the shorter is better",
        "短者更优时准确率",
        "percent",
        "low: it rewards length",
    ),
    (
        "length_correlation",
        "Correlation with length",
        "与长度相关",
        "score",
        "Spearman, nearer 0 is better",
    ),
    ("ece", "Calibration error (ECE)", "校准误差", "percent", "10 bins of equal mass"),
    ("brier", "Brier score", "Brier 分数", "plain", "0.25 is chance"),
    ("log_loss", "Log loss", "对数损失", "plain", "nats; 0.693 is chance"),
    ("temperature", "Fitted temperature", "温度", "score", "divides score differences"),
    (
        "best_of_n",
        "Best-of-n accuracy",
        "n 选一准确率",
        "percent",
        "the best of n answers ranked first",
    ),
    ("num_pairs", "Pairs tested", "测试对数", "plain", ""),
)


def card_rows(card: Json) -> list[CardRow]:
    """The rows of the reward model's card, from reward/report_card.json."""
    rows: list[CardRow] = []
    for key, english, chinese, style, note in _CARD:
        node = card.get(key)
        if node is None:
            continue
        if key == "temperature" and card.get("temperature_note"):
            note = str(card["temperature_note"])
        estimate = estimate_of(node)
        if estimate is not None:
            value = f"{write_number(estimate.value, style)} ({write_interval(estimate, style)})"
        elif isinstance(node, dict):
            continue  # not a single number
        elif key == "num_pairs":
            value = f"{int(node):,}"
        else:
            value = write_number(float(node), style)
        rows.append(CardRow(english=english, chinese=chinese, value=value, note=note))
    return rows + _criteria_rows(card)


def _criteria_rows(card: Json) -> list[CardRow]:
    """A row for each criterion that the model has a head for."""
    rows: list[CardRow] = []
    for name, one in as_dict(card.get("criteria")).items():
        estimate = estimate_of(one["correlation"])
        if estimate is None:
            value = "–"
        else:
            number, ends = write_number(estimate.value, "score"), write_interval(estimate, "score")
            value = f"{number} ({ends})"
        note = f"Pearson, {one['num']} held-out scores; weight {one['weight']:g} in the reward"
        english, chinese = f"Correlation with scores: {name}", f"与人工打分相关：{name}"
        rows.append(CardRow(english=english, chinese=chinese, value=value, note=note))
    return rows


def card_slices(card: Json) -> dict[str, list[tuple[str, Estimate]]]:
    """Accuracy by slice: {"category": [("explain", estimate), ...], ...}, sorted by name."""
    slices: dict[str, list[tuple[str, Estimate]]] = {}
    for name, values in as_dict(card.get("by_slice")).items():
        found = [(key, estimate_of(node)) for key, node in sorted(as_dict(values).items())]
        estimates = [(key, estimate) for key, estimate in found if estimate is not None]
        if estimates:
            slices[name] = estimates
    return slices


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting; `changed` if it differs from the default."""

    name: str
    value: str
    changed: bool


def setting_tables(config: Json) -> dict[str, list[Setting]]:
    """All settings by section ("run" for the top level); marks those that differ from defaults."""
    defaults = _defaults(config)
    tables: defaultdict[str, list[Setting]] = defaultdict(list)
    for path, value in _flatten(config):
        section, _, name = path.rpartition(".")
        changed = path not in defaults or _setting_text(defaults[path]) != _setting_text(value)
        tables[section or "run"].append(
            Setting(name=name, value=_setting_text(value), changed=changed)
        )
    return dict(tables)


def _defaults(config: Json) -> Json:
    """The default settings, with the defaults of the run's algorithm."""
    plain = dict(_flatten(Recipe.model_validate({}).model_dump(mode="json")))
    name = as_dict(as_dict(config.get("rl")).get("algorithm")).get("name", "ppo")
    chosen = Recipe.model_validate({"rl": {"algorithm": {"name": name}}})
    own = dict(_flatten({"rl": {"algorithm": chosen.rl.algorithm.model_dump(mode="json")}}))
    return {**plain, **own, "rl.algorithm.name": plain["rl.algorithm.name"]}


def _flatten(node: Json, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flatten(as_dict(value), f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _setting_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


@dataclass(frozen=True, kw_only=True)
class ShownAnswer:
    """One displayed answer, with the judge's score and reasons if there are any."""

    text: str
    score: float | None
    badges: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A held-out prompt with both models' answers, and that of the model before SFT if any."""

    prompt: Prompt
    set_name: str
    sft: ShownAnswer
    policy: ShownAnswer
    base: ShownAnswer | None = None


def answer_of(node: Any, measures: Sequence[Measure] = ()) -> ShownAnswer:
    """An answer of evaluate/answers.jsonl, with a badge for each bad mark."""
    fields = as_dict(node)
    score, rating, marks = fields.get("score"), fields.get("rating"), as_dict(fields.get("marks"))
    badges = [f"{rating}/5"] if rating is not None else []
    badges += [m.sign for m in measures if m.sign and m.key in marks and m.is_bad(marks[m.key])]
    if fields.get("finish_reason") == "length":
        badges.append("cut off · 截断")
    return ShownAnswer(
        text=str(fields.get("response") or ""),
        score=None if score is None else float(score),
        badges=tuple(badges),
        reasons=tuple(str(reason) for reason in fields.get("reasons") or ()),
    )


def choose_balanced(
    rows: Sequence[Any], count: int, key: Callable[[Any], tuple[str, str]], seed: int = 0
) -> list[Any]:
    """`count` rows chosen without looking at the answers, in turn from each (category, language).

    The seed is fixed to rule out cherry-picking.
    """
    draw = random.Random(seed)
    groups: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    for group in groups.values():
        draw.shuffle(group)
    order = sorted(groups)
    draw.shuffle(order)
    chosen: list[Any] = []
    while len(chosen) < min(count, len(rows)):
        for name in order:
            if groups[name] and len(chosen) < count:
                chosen.append(groups[name].pop())
    # shown by category and language, whatever order they were drawn in
    return sorted(chosen, key=key)


def answer_pairs(
    rows: Sequence[Mapping[str, Any]], count: int, measures: Sequence[Measure] = ()
) -> list[Pair]:
    """The side-by-side answers to show; raises pydantic's ValidationError for an invalid prompt."""
    pairs = [
        Pair(
            prompt=Prompt.model_validate(row["prompt"]),
            set_name=str(row.get("set", "")),
            sft=answer_of(row.get("sft"), measures),
            policy=answer_of(row.get("policy"), measures),
            base=answer_of(row["base"], measures) if row.get("base") else None,
        )
        for row in rows
    ]
    return choose_balanced(pairs, count, lambda p: (p.prompt.category, p.prompt.language))


def training_samples(samples: Sequence[Sample], count: int = 6) -> list[list[Sample]]:
    """The policy's answers to `count` prompts, in order of training steps."""
    by_prompt: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.stage == "rl":
            by_prompt[sample.prompt.prompt_id].append(sample)
    chosen = choose_balanced(
        list(by_prompt.values()), count, lambda g: (g[0].prompt.category, g[0].prompt.language)
    )
    return [sorted(group, key=lambda sample: sample.step) for group in chosen]
