"""Several judged answers, by the order of precedence in docs/data.md.

An explicit choice decides, then a ranking, then a label, then points in their own columns, and
points at the ends of texts only if the whole column has them and nothing else judges. A judged row
that cannot be understood is refused: it never becomes a prompt or a demonstration.
"""

from collections.abc import Callable, Iterator
from itertools import combinations

from alignloop.data.formats.answers import (
    Answers,
    answers_in,
    checked_texts,
    for_all,
    ranks_of_order,
)
from alignloop.data.formats.columns import Columns, Fact, observes
from alignloop.data.formats.parts import (
    MAX_STRENGTH,
    asked_in,
    asks,
    check_distinct,
    digest_of,
    grouped_pairs,
    number,
    prompt,
    text,
)
from alignloop.data.formats.ratings import (
    answers_of_text,
    one_scale,
    rated_at_ends,
    scale_at_ends,
    scale_in_text,
)
from alignloop.data.formats.registry import Refused, Row, pairs, shown
from alignloop.data.formats.verdicts import (
    CHOICE,
    LABEL,
    VOTER,
    Verdict,
    facts_of,
    is_table,
    keys_like,
    verdict_of,
)
from alignloop.data.formats.winner_words import TIE, read_cell
from alignloop.data.narrow import list_at
from alignloop.records import PreferencePair, Prompt

_ORDERS = ("ranking", "order", "排序")
_WHO = ("annotator", "annotator_id", "annotator_index", "annotator_name", "judge", "标注员")
_NAME_ONE = 'write its name, or "tie", or remove the row'


def _answers(row: Row) -> Answers:
    found = answers_in(row)
    assert found is not None, "the format was chosen because there are answers"
    return found


def _with_answers(fits: Callable[[Row, Answers, Columns], object]) -> Callable[..., bool]:
    """Whether a row has a question and answers, and these fit."""

    def look(row: Row, columns: Columns) -> bool:
        found = answers_in(row) if asks(row) else None
        return found is not None and bool(fits(row, found, columns))

    return look


# --- the first pass ----------------------------------------------------------------------------


@observes
def _judged_columns(row: Row) -> Iterator[Fact]:
    """Facts about columns that judge answers; and whether all answers end with points."""
    answers = answers_in(row) if asks(row) else None
    if answers is None:
        if (scale := scale_in_text(row)) is not None:
            yield "points in texts", scale
        return
    keys = keys_like(CHOICE, row, answers) + keys_like(LABEL, row, answers)
    for key in keys:
        yield from facts_of(key, row[key], answers)
        yield ("filled", key), read_cell(row[key], answers).kind != "missing"
    voters = keys_like(VOTER, row, answers)
    for key in voters:
        yield from facts_of("votes", row[key], answers)
    if keys or voters or _judges_itself(row, answers):
        yield "answers", "judged"
    else:
        yield "points at ends", scale_at_ends(answers)


def _judges_itself(row: Row, answers: Answers) -> bool:
    more = answers.rated or answers.ranked or bool(answers.marks) or _is_ordered(row)
    return more or is_table("preference", row.get("preference"), answers)


def _is_ordered(row: Row) -> bool:
    return any(isinstance(row.get(key), str | list) for key in _ORDERS)


def _filled(keys: list[str], columns: Columns) -> list[str]:
    """The keys that are not empty in every row of the table."""
    return [key for key in keys if True in columns.seen(("filled", key))]


# --- two by two --------------------------------------------------------------------------------


def _has_table(row: Row, answers: Answers, columns: Columns) -> bool:
    return is_table("preference", row["preference"], answers)


@pairs("preference-table", fits=_with_answers(_has_table), preference=list)
def _compared(row: Row, source: str) -> list[PreferencePair]:
    """One number per pair of K answers, (1, 2), (1, 3), ..: 1 the first, 2 the second, 0 a tie.

    Source: FineGrainedRLHF (Wu et al. 2023, arXiv:2306.01693), whose passages are left out.
    """
    texts = checked_texts(_answers(row))
    asked = prompt(row, source, asked_in(row))
    couples = list(combinations(range(len(texts)), 2))
    made: list[PreferencePair] = []
    for (i, j), value in zip(couples, list_at(row, "preference"), strict=True):
        if number(value) not in (0, 1, 2):
            raise Refused(f'"preference" contains {shown(value)}', "use 0, 1, 2, or remove the row")
        if texts[i].strip() == texts[j].strip():
            continue
        first, second = (j, i) if number(value) == 2 else (i, j)
        made.append(
            PreferencePair(
                prompt=asked,
                chosen=texts[first],
                rejected=texts[second],
                preference=0.5 if number(value) == 0 else 1.0,
                weight=1 / len(couples),
                source=asked.source,
                comparison_id=digest_of([asked.prompt_id, *texts]),
            )
        )
    if not made:
        raise Refused("all answers are the same", "give two different answers, or remove the row")
    return made


# --- one of them chosen ------------------------------------------------------------------------


def _is_alpaca_eval(row: Row) -> bool:
    return any(key in row for key in ("annotator", "annotator_index", "generator_1", "generator_2"))


@pairs(
    "alpaca-eval",
    fits=_is_alpaca_eval,
    instruction=str,
    output_1=str,
    output_2=str,
    preference=(int, float, str),
)
def _alpaca_eval(row: Row, source: str, columns: Columns) -> list[PreferencePair]:
    """AlpacaEval: 1 to 2, where p = preference - 1 is the probability that the second is better.

    0 (older files) and 1.5 are ties (Li et al. 2023, as alpaca_eval itself reads them).
    """
    answers = _answers(row)
    given = row["preference"]
    verdict = verdict_of("preference", given, answers, columns, base=1, ties_are_0=True)
    return _pairs_of(row, source, answers, verdict)


@pairs("llmbar", input=str, output_1=str, output_2=str, label=(str, int, float))
def _llmbar(row: Row, source: str, columns: Columns) -> list[PreferencePair]:
    """The label names the better one of two outputs."""
    answers = _answers(row)
    return _pairs_of(row, source, answers, _verdict(row, ["label"], answers, columns))


def _is_chosen(row: Row, answers: Answers, columns: Columns) -> bool:
    """Whether a choice or a label decides; if that column is empty, ranks and points do."""
    choices, labels = (keys_like(pattern, row, answers) for pattern in (CHOICE, LABEL))
    if _filled(choices, columns):
        return True
    if answers.ranked or _is_ordered(row):
        return False
    return bool(_filled(labels, columns)) or (bool(choices + labels) and not answers.rated)


@pairs("chosen-answer", fits=_with_answers(_is_chosen))
def _chosen_of(row: Row, source: str, columns: Columns) -> list[PreferencePair]:
    """Like LLMBar (output_1, output_2, label): the chosen one beats each other one."""
    answers = _answers(row)
    choices, labels = (keys_like(pattern, row, answers) for pattern in (CHOICE, LABEL))
    keys = _filled(choices, columns) or _filled(labels, columns) or choices or labels
    return _pairs_of(row, source, answers, _verdict(row, keys, answers, columns))


def _verdict(
    row: Row, keys: list[str], answers: Answers, columns: Columns, base: int | None = None
) -> Verdict:
    """The verdict of all keys; refused if none is understood, or if two disagree."""
    found: dict[str, Verdict] = {}
    refused: list[Refused] = []
    for key in keys:
        try:
            found[key] = verdict_of(key, row[key], answers, columns, base=base)
        except Refused as error:
            refused.append(error)
    if not found:
        raise refused[0]
    if len({verdict.choice for verdict in found.values()}) > 1:
        listed = ", ".join(f'"{key}" names {verdict.choice}' for key, verdict in found.items())
        raise Refused(f"two columns disagree: {listed}", "keep the correct one")
    return next(iter(found.values()))


def _pairs_of(
    row: Row, source: str, answers: Answers, verdict: Verdict, who: str = ""
) -> list[PreferencePair]:
    """The chosen one beats each other one, with total weight 1; the source is the judge."""
    asked = prompt(row, source, asked_in(row))
    texts = dict(zip(answers.texts, checked_texts(answers), strict=True))
    who = who or _who(row) or asked.source
    if verdict.choice == TIE:
        tied = grouped_pairs(asked, list(texts.values()), [0.0] * len(texts), strength=False)
        return [pair.model_copy(update={"source": who}) for pair in tied]
    others = [name for name in texts if name != verdict.choice]
    for other in others:
        check_distinct(texts[verdict.choice], texts[other])
    return [
        PreferencePair(
            prompt=asked,
            chosen=texts[verdict.choice],
            rejected=texts[other],
            preference=verdict.preference,
            margin=_strength(answers, verdict.choice, other),
            weight=1 / len(others),
            source=who,
            comparison_id=digest_of([asked.prompt_id, *texts.values()]),
        )
        for other in others
    ]


def _who(row: Row) -> str:
    judge = next((row[key] for key in _WHO if isinstance(row.get(key), str | int)), "")
    return str(judge).strip()


def _strength(answers: Answers, better: str, worse: str) -> float:
    """The difference of the points if they agree with the choice; else 0."""
    points = answers.scores
    if better not in points or worse not in points:
        return 0.0
    return min(MAX_STRENGTH, max(0.0, points[better] - points[worse]))


def _counts(row: Row, answers: Answers, columns: Columns) -> list[str]:
    return keys_like(CHOICE, row, answers) or keys_like(LABEL, row, answers)


def _counted_from(base: int) -> None:
    """A format to name explicitly if the column does not show what it counts from."""

    @pairs(f"chosen-from-{base}", fits=_with_answers(_counts), named_only=True)
    def _chosen(row: Row, source: str, columns: Columns) -> list[PreferencePair]:
        answers = _answers(row)
        verdict = _verdict(row, _counts(row, answers, columns), answers, columns, base)
        return _pairs_of(row, source, answers, verdict)


# --format chosen-from-0 and chosen-from-1
_counted_from(0)
_counted_from(1)


def _has_votes(row: Row, answers: Answers, columns: Columns) -> bool:
    return bool(keys_like(VOTER, row, answers))


@pairs("annotators", fits=_with_answers(_has_votes))
def _votes(row: Row, source: str, columns: Columns) -> list[PreferencePair]:
    """One judgement per annotator's column (PandaLM, Wang et al. 2023): 1, 2, or 0 for a tie.

    The file contains no majority vote, and none is computed here.
    """
    answers = _answers(row)
    made: list[PreferencePair] = []
    refused: list[Refused] = []
    for key in keys_like(VOTER, row, answers):
        try:
            verdict = verdict_of(key, row[key], answers, columns, ties_are_0=True, column="votes")
        except Refused as error:
            if error.whole_file or read_cell(row[key], answers).kind != "missing":
                raise
            refused.append(error)
        else:
            made += _pairs_of(row, source, answers, verdict, who=key)
    if not made:
        raise refused[0]
    return made


def _has_marks(row: Row, answers: Answers, columns: Columns) -> bool:
    return bool(answers.marks) and not answers.rated and not answers.ranked


@pairs("chosen-answer", fits=_with_answers(_has_marks))
def _marked(row: Row, source: str) -> list[PreferencePair]:
    """Answers as objects, one of which is marked: {"text": ..., "chosen": true}."""
    answers = _answers(row)
    cell = read_cell(list(answers.marks), answers)
    if cell.kind != "answer":
        raise Refused(f"not exactly one answer is marked ({shown(answers.marks)})", _NAME_ONE)
    return _pairs_of(row, source, answers, Verdict(choice=cell.answer))


# --- rankings ----------------------------------------------------------------------------------


def _is_ranked(row: Row, answers: Answers, columns: Columns) -> bool:
    return answers.ranked or _is_ordered(row)


@pairs("ranked-answers", fits=_with_answers(_is_ranked))
def _ranked(row: Row, source: str) -> list[PreferencePair]:
    """Ranks (1 is the best) or an order, best first ("B > A = C", or a list) of K answers."""
    answers = _answers(row)
    if answers.ranked:
        ranks = for_all(answers, answers.ranks, "rank")
    else:
        key, order = next(
            (key, one) for key in _ORDERS if isinstance(one := row.get(key), str | list)
        )
        ranks = for_all(answers, ranks_of_order(key, order, answers), "rank")
    asked = prompt(row, source, asked_in(row))
    texts = checked_texts(answers)
    return grouped_pairs(asked, texts, [-rank for rank in ranks], strength=False)


# --- ratings -----------------------------------------------------------------------------------


def _is_rated(row: Row, answers: Answers, columns: Columns) -> bool:
    return answers.rated


@pairs("rated-answers", fits=_with_answers(_is_rated))
def _rated(row: Row, source: str) -> list[PreferencePair]:
    """回答A 6 分, 回答B 9 分: B is preferred, with the difference as strength, at most 3."""
    return _by_points(row, source, _answers(row))


def _by_points(row: Row, source: str, answers: Answers) -> list[PreferencePair]:
    scores = for_all(answers, answers.scores, "score")
    asked: Prompt = prompt(row, source, asked_in(row))
    return grouped_pairs(asked, checked_texts(answers), scores, strength=True)


def _left_out(row: Row, answers: Answers, columns: Columns) -> bool:
    return bool(columns.seen("answers"))


@pairs("chosen-answer", fits=_with_answers(_left_out))
def _not_judged(row: Row, source: str) -> list[PreferencePair]:
    """An unjudged row, in a table whose other rows are judged."""
    problem = "the row does not say which answer is better, as other rows of this file do"
    raise Refused(problem, "judge it, or remove the row")


def _ends_with_points(row: Row, answers: Answers, columns: Columns) -> bool:
    return one_scale(columns, "points at ends")


@pairs("rated-at-ends", fits=_with_answers(_ends_with_points))
def _rated_at_ends(row: Row, source: str) -> list[PreferencePair]:
    """回答A "... （6 分）": in every row of the table, on one scale, with no other judgement."""
    return _by_points(row, source, rated_at_ends(_answers(row)))


def _is_rated_text(row: Row, columns: Columns) -> bool:
    """Markers and points for each answer make the layout; the column only fixes the scale."""
    return answers_of_text(row) is not None and len(columns.seen("points in texts") - {""}) == 1


@pairs("rated-text", fits=_is_rated_text)
def _rated_text(row: Row, source: str) -> list[PreferencePair]:
    """Question, answers and their points in one text."""
    answers = answers_of_text(row)
    assert answers is not None, "fits has found it"
    asked = prompt(row, source, text({"question": answers.question}, "question"))
    scores = for_all(answers, answers.scores, "score")
    return grouped_pairs(asked, checked_texts(answers), scores, strength=True)
