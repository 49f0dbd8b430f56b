"""Exports of annotation tools: a question with answers, and each annotator's vote.

A format of such a tool is one function with the decorator `annotated`; it returns an `Annotated`,
which is turned into pairs (at least one per vote) and, by `data convert --to judgements`, records.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from alignloop.data.formats.dialects import in_one_form, role_of
from alignloop.data.formats.parts import (
    asked_in,
    asks,
    check_distinct,
    digest_of,
    grouped_pairs,
    messages,
    number,
    prompt,
    text,
)
from alignloop.data.formats.registry import Fits, Refused, Row, Type, pairs, shown
from alignloop.data.narrow import Json, first_list, first_text
from alignloop.data.preferences import pairs_from_judgements
from alignloop.records import Comparison, Judgement, Message, PreferencePair, Response

UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)  # for judgements exported without a time


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One annotator's vote: `choice` is an answer's name, "tie", "both_bad" or "skip".

    `ranking` lists the answers best first, in tiers; `ratings` are points by answer. `truth` is set
    if the tool marks the vote as the ground truth.
    """

    annotator: str
    choice: str
    ranking: tuple[tuple[str, ...], ...] = ()
    ratings: Mapping[str, float] = field(default_factory=dict[str, float])
    rationale: str = ""
    seconds: float = 0.0
    created_at: datetime = UNKNOWN_TIME
    truth: bool = False


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """One question, its answers, and one vote per annotator."""

    comparison: Comparison
    votes: tuple[Vote, ...]

    def judgements(self) -> list[Judgement]:
        """All votes as records, also if there is a ground truth: agreement is measured on them."""
        return [
            Judgement(
                comparison_id=self.comparison.comparison_id,
                annotator_id=vote.annotator or self.comparison.prompt.source,
                choice=vote.choice,
                ratings=dict(vote.ratings),
                seconds=vote.seconds,
                rationale=vote.rationale,
                created_at=vote.created_at,
            )
            for vote in self.votes
        ]

    def pairs(self) -> list[PreferencePair]:
        """One judgement's pairs for each vote; if there is a ground truth, only for that."""
        votes = [vote for vote in self.votes if vote.truth] or self.votes
        made = [pair for vote in votes for pair in self._pairs_of(vote)]
        return [pair for pair in made if pair.chosen.strip() != pair.rejected.strip()]

    def _pairs_of(self, vote: Vote) -> list[PreferencePair]:
        (judgement,) = replace(self, votes=(vote,)).judgements()
        if not vote.ranking or (len(self.comparison.responses) == 2 and not vote.ratings):
            return pairs_from_judgements([self.comparison], [judgement])
        texts = {one.response_id: one.text for one in self.comparison.responses}
        rank = {name: place for place, equal in enumerate(vote.ranking) for name in equal}
        scores = [vote.ratings.get(name, -float(rank[name])) for name in texts]
        found = grouped_pairs(
            self.comparison.prompt, list(texts.values()), scores, strength=bool(vote.ratings)
        )
        known = {"source": judgement.annotator_id, "comparison_id": self.comparison.comparison_id}
        return [pair.model_copy(update=known) for pair in found]


Read = Callable[[Row, str], Annotated]
ANNOTATED: dict[str, Read] = {}


def annotated(name: str, fits: Fits | None = None, **keys: Type) -> Callable[[Read], Read]:
    """Register a format of an annotation tool's export: `read` returns an Annotated per row."""

    def made(read: Read) -> Read:
        ANNOTATED[name] = read

        @pairs(name, fits, False, **keys)
        def _pairs(row: Row, source: str) -> list[PreferencePair]:
            return read(row, source).pairs()

        return read

    return made


def compared(row: Row, source: str, answers: Mapping[str, str]) -> Comparison:
    """The question of a row with these named answers; its id depends only on their texts."""
    asked = prompt(row, source, _asked(row, answers))
    texts = {name: text({name: answers[name]}, name) for name in answers}
    if len({one.strip() for one in texts.values()}) == 1:
        check_distinct(*list(texts.values())[:2])
    return Comparison(
        comparison_id=digest_of([asked.prompt_id, *texts.values()]),
        prompt=asked,
        responses=tuple(Response(response_id=name, text=one) for name, one in texts.items()),
    )


def _asked(row: Row, answers: Mapping[str, str]) -> str | list[Message]:
    """The question under one of the usual names, or a chat under any name."""
    if asks(row):
        return asked_in(row)
    chats = [key for key in row if key not in answers and _is_chat(row[key])]
    if len(chats) != 1:
        raise Refused(
            f"found answers ({', '.join(answers)[:80]}) but no question",
            'give the question as "prompt", or remove the row',
        )
    return messages(row[chats[0]], chats[0])


def _is_chat(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(map(role_of, value))


# --- answers -----------------------------------------------------------------------------------

_COLUMNS = (
    "answer|response|completion|output|reply|candidate|generation|prediction|summary|option|text|"
    "候选回答|候选|回答|答案|回复|选项"
)
_WORDS = f"{_COLUMNS}|model|assistant|模型"
_COLUMN = re.compile(
    rf"(?:{_COLUMNS})([a-l]|\d{{1,2}})|([a-l]|\d{{1,2}})的?(?:{_COLUMNS})|(left|right)"
)
_LISTS = ("answers", "responses", "completions", "outputs", "candidates", "items", "options")
_TEXTS = ("text", "body", "response", "answer", "content", "html", "value", "title")


def _normalise(key: str) -> str:
    return re.sub(r"[\s_\-.:：]", "", key).lower()


def _mark(name: str) -> str:
    """The part of a name that distinguishes it: "answer_1" -> "1", "b" -> "b", "left" -> "left"."""
    found = _COLUMN.fullmatch(_normalise(name))
    return next(filter(None, found.groups())) if found else _normalise(name)


def answers_of(row: Row) -> dict[str, str]:
    """The answers of a row by name, from columns or from a list; {} if fewer than two.

    Columns with the same word belong together: answer1 and answer2 are answers, whatever text1 is.
    """
    families: dict[str, dict[str, str]] = {}
    for key, value in row.items():
        name = _normalise(str(key))
        found, content = _COLUMN.fullmatch(name), _text_of(value)
        if found and content is not None:
            mark = next(filter(None, found.groups()))
            word = "" if found[3] else name.removesuffix(mark) if found[1] else name[len(mark) :]
            families.setdefault(word.removeprefix("的"), {})[str(key)] = content
    several = [word for word in (*_COLUMNS.split("|"), "") if len(families.get(word, ())) > 1]
    if several:
        columns = families[several[0]]
        return {key: columns[key] for key in sorted(columns, key=lambda key: _order(_mark(key)))}
    listed = first_list(row, _LISTS) or []
    found_in = dict(_listed(place, item) for place, item in enumerate(listed, start=1))
    return (
        {name: content for name, content in found_in.items() if content}
        if len(found_in) > 1
        else {}
    )


def _text_of(value: Json) -> str | None:
    """A text, or the text of an answer's only turn."""
    turns: list[Json] = value if isinstance(value, list) else [value]
    if len(turns) == 1 and role_of(turns[0]) == "assistant":
        value = in_one_form(turns[0])["content"]
    return value if isinstance(value, str) else None


def _order(mark: str) -> tuple[int, str]:
    return (int(mark), "") if mark.isdigit() else (0, mark)


def _listed(place: int, item: Json) -> tuple[str, str]:
    """An answer in a list with its id, or its position from 1 if it has none."""
    if not isinstance(item, dict):
        return str(place), item if isinstance(item, str) else ""
    content = first_text(item, _TEXTS)
    return str(item.get("id", place)), _text_of(item) or "" if content is None else content


# --- votes -------------------------------------------------------------------------------------

_TIE = {
    "tie", "tied", "equal", "same", "both", "draw", "bothgood", "equallygood", "nopreference",
    "平", "平手", "平局", "一样", "都好", "tiebothgood",
}  # fmt: skip
_BAD = {"bothbad", "tiebothbad", "neither", "none", "equallybad", "都不好", "都差"}
_SKIP = {"skip", "skipped", "unsure", "notsure", "cannottell", "canttell", "跳过"}
_NAMED = re.compile(
    rf"(?:the|prefer)?(?:{_WORDS}|choice|item|side)?([a-i]|\d|left|right|first|second)"
    r"(?:isbetter|better|wins|isbest|更好|好)?"
)
_PLACES = {"left": 0, "first": 0, "right": 1, "second": 1}


def choice_of(value: object, answers: Mapping[str, str]) -> str:
    """The answer that a word names, "tie", "both_bad" or "skip"; "" if it names none.

    By full name first, then by its distinguishing part ("1" of response_1), then by position:
    "left", "A", "first".
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    word = f"{value:g}" if isinstance(value, float) else str(value)
    plain = re.sub(r"[\s_\-.:：()（）\[\]'’\"。！!]", "", word).lower()
    for name in answers:
        if plain == _normalise(name) or word.strip() == answers[name].strip():
            return name
    for words, meaning in ((_TIE, "tie"), (_BAD, "both_bad"), (_SKIP, "skip")):
        if plain in words:
            return meaning
    named = _NAMED.fullmatch(plain)
    if not named:
        return ""
    marks = {_mark(name): name for name in answers}
    return marks.get(named[1]) or _at_place(named[1], list(answers), set(marks))


def _at_place(mark: str, names: Sequence[str], marks: set[str]) -> str:
    """The answer at a position, "left" or "A"; digits may count from 0 or 1 and are not used."""
    if mark.isdigit() or any(not known.isdigit() and len(known) == len(mark) for known in marks):
        return ""
    place = _PLACES.get(mark, ord(mark[0]) - ord("a"))
    sides_of_more = mark in _PLACES and len(names) != 2
    return names[place] if place < len(names) and not sides_of_more else ""


def vote_of(annotator: str, controls: Mapping[str, Json], answers: Mapping[str, str]) -> Vote:
    """One annotator's vote, from the values of all controls of a task by name.

    A control that names an answer decides; else a ranking; else points for every answer. Raises
    Refused if none of them does, or if two controls name different answers.
    """
    values = {
        name: simple(value) for name, value in controls.items() if value not in (None, "", [])
    }
    ratings = {
        found: points
        for name, value in values.items()
        if (found := _rated(name, answers)) and (points := number(value)) is not None
    }
    ratings = ratings if len(ratings) == len(answers) else {}
    comments = [one for one in values.values() if isinstance(one, str) and " " in one.strip()]
    chosen = {
        name: found
        for name, value in values.items()
        if not (_rated(name, answers) and number(value) is not None)
        and (found := choice_of(value, answers))
    }
    rankings = [order for one in values.values() if (order := _ranking(one, answers))]
    ranking = rankings[0] if rankings else _by_points(ratings)
    if len(set(chosen.values())) > 1:
        listed = ", ".join(f"{name}: {found}" for name, found in chosen.items())
        raise Refused(
            f"several controls name different answers ({listed[:120]})",
            "keep the one that gives the better answer",
        )
    if chosen:
        choice, ranking = next(iter(chosen.values())), ()
    elif ranking:
        choice = ranking[0][0] if len(ranking[0]) == 1 else "tie"
    elif not values:
        choice = "skip"
    else:
        listed = ", ".join(f"{name}: {shown(value)}" for name, value in values.items())
        raise Refused(
            f"no control names one of the answers {', '.join(answers)[:80]} ({listed[:120]})",
            'name the better one (or "tie"), or remove the row',
        )
    vote = Vote(annotator=annotator, choice=choice, ranking=ranking, ratings=ratings)
    return replace(vote, rationale="\n".join(comments))


def simple(value: Json) -> Json:
    """A control's value without its wrapper: [{"choices": ["left"]}] is "left"."""
    while True:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        elif isinstance(value, dict) and (inner := _WRAPS & value.keys()) and len(inner) == 1:
            value = value[inner.pop()]
        else:
            return value


_WRAPS = {"selected", "choices", "rating", "number", "ranker", "text", "labels"}


def _rated(control: str, answers: Mapping[str, str]) -> str:
    """The answer that a control's name ends with: "rating_1", "quality of response A"."""
    plain = _normalise(control)
    whole = next((name for name in answers if plain.endswith(_normalise(name))), "")
    words = re.fullmatch(r".*?(?:rating|score|quality|points|stars|评分|打分)([a-i]|[1-9])", plain)
    marks = {_mark(name): name for name in answers}
    return whole or (marks.get(words[1], "") if words else "")


def _ranking(value: Json, answers: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """All answers in order, best first: from a list of names, or of names with ranks."""
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    if not isinstance(value, list):
        return ()
    ranks: dict[str, float] = {}
    for place, item in enumerate(value):
        named = item.get("value", item.get("id")) if isinstance(item, dict) else item
        rank = number(item.get("rank")) if isinstance(item, dict) else None
        name = choice_of(named, answers)
        if name in answers and name not in ranks:
            ranks[name] = float(place) if rank is None else rank
    if ranks.keys() != answers.keys():
        return ()
    return _by_points({name: -rank for name, rank in ranks.items()})


def _by_points(points: Mapping[str, float]) -> tuple[tuple[str, ...], ...]:
    levels = sorted(set(points.values()), reverse=True)
    return tuple(tuple(name for name in points if points[name] == level) for level in levels)


def last_of_each(votes: Sequence[Vote]) -> tuple[Vote, ...]:
    """The last vote of each annotator; anonymous votes are all kept."""
    kept: dict[str, Vote] = {}
    for place, vote in enumerate(votes):
        person = vote.annotator or f"\0{place}"
        if person not in kept or kept[person].created_at <= vote.created_at:
            kept[person] = vote
    return tuple(kept.values())


def time_of(value: object) -> datetime:
    """A time from ISO 8601 or seconds since 1970; UNKNOWN_TIME for anything else."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value.strip())
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return UNKNOWN_TIME


def seconds_of(value: object) -> float:
    """A duration in seconds; 0 if there is none."""
    found = number(value)
    return found if found is not None and found > 0 else 0.0
