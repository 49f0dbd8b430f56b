"""Which judgements an export reads: by annotator, period, batch, and the annotators' quality."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from alignloop.errors import UserError
from alignloop.label.labels.project_labels import ProjectLabels
from alignloop.label.quality.annotators import Quality, annotator_quality, is_unknown


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Empty fields select everything.

    `annotators` are the only ones that count, `without` do not count. Judgements count from `since`
    until before `until`. `min_gold` and `min_dawid_skene` are the least accuracy in 0..1 that an
    annotator needs, as the quality page shows it; who has none is left out.
    """

    annotators: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    batch: str = ""
    min_gold: float | None = None
    min_dawid_skene: float | None = None


def select(labels: ProjectLabels, selection: Selection) -> tuple[ProjectLabels, dict[str, str]]:
    """The selected labels, and why each annotator that was left out was.

    A lead's decision stands whoever judged the item; period and batch select it like a judgement.
    The votes on a decided item never come back, even if the decision is outside the period. Raises
    UserError for a batch or an annotator that there is not.
    """
    _check_names(labels, selection)
    out = left_out_annotators(labels, selection)
    items = labels.items
    if selection.batch:
        items = {key: item for key, item in items.items() if item.batch == selection.batch}
    kept = ProjectLabels(
        items=items,
        judgements=tuple(
            one
            for one in labels.judgements
            if one.item_id in items
            and one.item_id not in labels.decisions
            and one.annotator not in out
            and _within(one.created_at, selection)
        ),
    )
    decided = [
        one
        for one in labels.settled.judgements
        if one.decision and one.item_id in items and _within(one.created_at, selection)
    ]
    return kept.plus(decided), out


def left_out_annotators(labels: ProjectLabels, selection: Selection) -> dict[str, str]:
    """The annotators whose judgements do not count, each with the reason."""
    people = {one.annotator for one in labels.judgements}
    out = dict.fromkeys(people, "not among those chosen") if selection.annotators else {}
    out = {name: why for name, why in out.items() if name not in selection.annotators}
    out |= dict.fromkeys(selection.without, "excluded by name")
    if selection.min_gold is None and selection.min_dawid_skene is None:
        return dict(sorted(out.items()))
    for one in annotator_quality(labels):
        if why := _too_low(one, selection):
            out.setdefault(one.annotator, why)
    return dict(sorted(out.items()))


def _too_low(one: Quality, selection: Selection) -> str:
    shares = (
        ("gold accuracy", one.gold, selection.min_gold),
        ("Dawid-Skene quality", one.dawid_skene, selection.min_dawid_skene),
    )
    for name, share, least in shares:
        if least is None:
            continue
        if share is None or is_unknown(share):
            return f"{name} unknown"
        if share.value < least:
            return f"{name} {share.value:.3f} is below {least:g}"
    return ""


def _within(moment: datetime, selection: Selection) -> bool:
    begun = selection.since is None or moment >= selection.since
    return begun and (selection.until is None or moment < selection.until)


def _check_names(labels: ProjectLabels, selection: Selection) -> None:
    batches = {item.batch for item in labels.items.values()}
    if selection.batch:
        _check_known([selection.batch], batches, "batch", "--batch")
    people = {one.annotator for one in labels.judgements}
    named = {"--annotator": selection.annotators, "--without": selection.without}
    for option, names in named.items():
        _check_known(names, people, "annotator with judgements called", option)


def _check_known(names: Collection[str], known: Collection[str], what: str, option: str) -> None:
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        fix = f"name one of: {', '.join(sorted(known))}" if known else "nobody has judged yet"
        raise UserError(f"there is no {what} {unknown!r}", where=option, fix=fix)


def as_query(selection: Selection) -> Mapping[str, object]:
    """The fields that select something, ready for JSON."""
    shown = {key: value for key, value in vars(selection).items() if value not in ((), None, "")}
    return {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in shown.items()
    }
