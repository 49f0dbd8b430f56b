"""Checks of scores, flags, marks and rationale against what the project asks; pure functions."""

from collections.abc import Mapping, Sequence

from alignloop.label.store.criteria import Asked, Criterion, SpanIn
from alignloop.label.store.refusals import Contradiction, Invalid
from alignloop.label.store.tasks import JudgementIn

Place = str | int  # an answer's id, or the number of a turn of the prompt
TIE_WITHIN = 0.25  # of a scale: a larger distance on every criterion contradicts a tie


def check_asked(sent: JudgementIn, shown: Sequence[str], asked: Asked) -> None:
    """Raise Invalid for scores, flags or a rationale that the project does not ask for, or lacks.

    A skip needs neither scores nor a rationale.
    """
    _check_scores(sent, shown, asked.criteria)
    _check_flags(sent, shown, asked)
    _check_rationale(sent, asked)


def check_spans(spans: Sequence[SpanIn], texts: Mapping[Place, str], asked: Asked) -> None:
    """Raise Invalid unless every mark quotes its text exactly, at its offsets in code points."""
    kinds = {kind.key for kind in asked.span_kinds}
    for span in spans:
        if span.kind not in kinds:
            raise Invalid(
                f"this project has no kind of mark {span.kind}", fix="load the item again"
            )
        if (span.answer is None) == (span.turn is None):
            raise Invalid(
                "a mark is in an answer or in a turn of the prompt", fix="name one of them"
            )
        place = span.turn if span.answer is None else span.answer
        text = texts.get(place) if place is not None else None
        if text is None:
            raise Invalid("a mark is in a text that was not shown", fix="load the item again")
        if not span.start < span.end <= len(text):
            problem = f"a mark from {span.start} to {span.end} is not within {len(text)} characters"
            raise Invalid(problem, fix="count Unicode code points, from 0")
        if text[span.start : span.end] != span.text:
            problem = (
                f"the text from {span.start} to {span.end} is not the one that the mark quotes"
            )
            raise Invalid(problem, fix="count Unicode code points of the text as it was sent")


def check_contradiction(sent: JudgementIn, shown: Sequence[str], asked: Asked) -> None:
    """Raise Contradiction if the preferred answer has the lower score on every criterion.

    A tie is contradicted if one answer is ahead on every criterion by more than a quarter of its
    scale. If several pairs contradict the judgement, the pair furthest apart is named.
    """
    margin = TIE_WITHIN if sent.verdict == "tie" else 0.0
    found = [
        (sum(gaps), preferred, other)
        for preferred, other in preferences(sent, list(sent.scores))
        if (gaps := _gaps(sent, preferred, other, asked.criteria)) and min(gaps) > margin
    ]
    if not found:
        return
    _, preferred, other = max(found)
    first, second = (chr(ord("A") + shown.index(one)) for one in (preferred, other))
    verdict = f"{first} and {second} are called a tie" if margin else f"{first} wins"
    raise Contradiction(
        f"{second} has the higher score on every criterion, yet {verdict}",
        chosen=preferred,
        better=other,
        over="criteria",
    )


def preferences(judgement: JudgementIn, rated: Sequence[str]) -> list[tuple[str, str]]:
    """Every (preferred, other) pair of the judgement; for a tie in both directions."""
    if judgement.verdict == "tie":
        return [(a, b) for a in rated for b in rated if a != b]
    if judgement.verdict != "choice":
        return []
    chosen = judgement.choice
    found = [] if chosen is None else [(chosen, other) for other in rated if other != chosen]
    for rank, group in enumerate(judgement.ranking):
        below = [one for later in judgement.ranking[rank + 1 :] for one in later]
        found += [(better, worse) for better in group for worse in below]
    return found


def _gaps(
    sent: JudgementIn, preferred: str, other: str, criteria: Sequence[Criterion]
) -> list[float]:
    """By how much of its scale `other` is ahead, on each criterion that both have."""
    low, high = sent.scores.get(preferred, {}), sent.scores.get(other, {})
    return [
        (high[one.key] - low[one.key]) / (one.levels - 1)
        for one in criteria
        if one.key in low and one.key in high
    ]


def _check_scores(sent: JudgementIn, shown: Sequence[str], criteria: Sequence[Criterion]) -> None:
    known = {one.key: one for one in criteria}
    for answer, scores in sent.scores.items():
        _check_shown(answer, shown)
        for key, score in scores.items():
            if key not in known:
                raise Invalid(f"this project has no criterion {key}", fix="load the item again")
            if score > known[key].levels:
                problem = f"{score} is above the scale of {key}"
                raise Invalid(problem, fix=f"give 1 to {known[key].levels}")
    if sent.verdict == "skip":
        return
    for answer in shown:
        for one in criteria:
            if one.required and one.key not in sent.scores.get(answer, {}):
                letter = chr(ord("A") + shown.index(answer))
                problem = f"the score of {one.key} is missing for answer {letter}"
                raise Invalid(problem, fix=f"give 1 to {one.levels}")


def _check_flags(sent: JudgementIn, shown: Sequence[str], asked: Asked) -> None:
    known = {flag.key for flag in asked.flags}
    for answer, flags in sent.flags.items():
        _check_shown(answer, shown)
        if unknown := sorted(set(flags) - known):
            raise Invalid(f"this project has no flag {unknown[0]}", fix="load the item again")


def _check_shown(answer: str, shown: Sequence[str]) -> None:
    if answer not in shown:
        raise Invalid("the judgement names an answer that was not shown", fix="load the item again")


def _check_rationale(sent: JudgementIn, asked: Asked) -> None:
    words = sent.comment.strip()
    if asked.rationale == "none" and words:
        raise Invalid("this project takes no rationale", fix="omit the comment")
    needed = asked.rationale_min if asked.rationale == "required" and sent.verdict != "skip" else 0
    if len(words) < needed:
        problem = f"the rationale has {len(words)} characters, and needs {needed}"
        raise Invalid(problem, fix="say in the comment why you judged so")
