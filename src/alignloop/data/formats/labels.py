"""Single responses labelled good or bad: KTO, and TRL's unpaired preference."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import product

from alignloop.data.formats.answers import plain
from alignloop.data.formats.columns import Columns, Fact, observes
from alignloop.data.formats.made import Labelled
from alignloop.data.formats.parts import (
    as_answer,
    asked_in,
    asks,
    checked,
    messages,
    number,
    prompt,
    prompt_id,
    text,
)
from alignloop.data.formats.registry import (
    FORMATS,
    Format,
    Refused,
    RefusedFile,
    Row,
    demonstrations,
    labels,
    shown,
)
from alignloop.records import Demonstration, Message, PreferencePair

LABELS = ("label", "kto_tag")
_QUALITY = "correct|right|safe|valid|helpful|harmless|ok|passed|approved|appropriate|truthful"
_ALSO = re.compile(
    r"(?:is)?(?:desirable|good|accepted|acceptable)|is(?:chosen|preferred)|thumbs?(?:up)?"
    rf"|(?:is|was)(?:{_QUALITY})|(?:response|answer|output|completion)is(?:good|{_QUALITY})"
    r"|is(?:response|answer|output|completion)(?:good|safe|correct)"
    r"|(?:human|binary|final|gold)(?:label|feedback)|标签|标注|好评"
    r"|是否(?:好|可取|合格|安全|正确|通过|有用)"
)
_REMARK = re.compile(r"feedback|评价|反馈")  # a label only if its value is a known word
# the same, but numbers are something else: a scale, or the index of an option
_WORD = re.compile(
    rf"{_QUALITY}|verdict|judge?ment|quality|assessment|evaluation|vote"
    r"|质量|判断|评判|审核|结论|安全|正确|对错"
)
_GOOD = {
    "true", "yes", "y", "t", "good", "desirable", "desired", "chosen", "accept", "accepted",
    "acceptable", "positive", "pos", "up", "thumbsup", "like", "liked", "upvote", "preferred",
    "correct", "right", "pass", "passed", "approved", "safe", "helpful",
    "👍", "+", "好", "是", "对", "真", "赞", "正面", "可取", "喜欢", "合格",
    "正确", "通过", "安全",
}  # fmt: skip
_BAD = {
    "false", "no", "n", "f", "bad", "undesirable", "undesired", "rejected", "reject", "refused",
    "unacceptable", "negative", "neg", "down", "thumbsdown", "dislike", "disliked", "downvote",
    "dispreferred", "incorrect", "wrong", "fail", "failed", "unsafe", "unhelpful",
    "👎", "-", "坏", "不好", "差", "否", "错", "假", "踩",
    "负面", "不可取", "不喜欢", "不合格", "错误", "不通过", "未通过", "不安全",
}  # fmt: skip
_WRITE = 'write true or false in "{}", or remove the row'


def label_keys(row: Row) -> list[str]:
    """The keys that label a row's answer good or bad; `label` and `kto_tag` first."""
    if {"final_label", "type"} <= row.keys():
        return []  # XSTest: whether an answer is good depends on the prompt's type
    named = [key for key in LABELS if key in row]
    return named or [key for key in row if _may_label(key, row)]


def _may_label(key: str, row: Row) -> bool:
    """Whether this is a label's key with a short value."""
    if not (kind := _label_kind(key)):
        return False
    value = row[key]
    if kind == "word" and number(value) is not None and not isinstance(value, bool):
        return False
    if kind in ("remark", "word"):
        return isinstance(_label_value(value), float)
    return not value or (not isinstance(value, list | dict) and len(str(value)) < 20)


@lru_cache(4096)  # all rows share a few keys
def _label_kind(key: str) -> str:
    name = plain(key)
    kinds = {"label": _ALSO, "remark": _REMARK, "word": _WORD}
    return next((kind for kind, names in kinds.items() if names.fullmatch(name)), "")


@observes
def _label_columns(row: Row) -> Iterator[Fact]:
    """The values under label keys, in rows with a single answer."""
    keys = label_keys(row)
    if keys and _single_answer(row) is not None:
        yield from (("labelled", key) for key in keys)
        yield from ((("label", key), _label_value(row[key])) for key in keys)


def _label_value(value: object) -> float | str:
    """1 for good words, 0 for bad ones; a number as it is; else "missing" or "unknown"."""
    if isinstance(value, bool):
        return float(value)
    if value is None or str(value).strip().lower() in ("", "nan", "none", "null", "<na>"):
        return "missing"
    if (found := number(value)) is not None:
        return found
    name = re.sub(r"[\s_\-.]", "", str(value)).lower() or str(value).strip()
    return 1.0 if name in _GOOD else 0.0 if name in _BAD else "unknown"


def _is_good(row: Row, columns: Columns) -> bool:
    """Whether the answer is labelled good, by the whole column's values: 1 and 0, or 1 and -1.

    Raises Refused for a row without an understandable label, and RefusedFile if the column has
    other numbers: with 1 and 2, or 1 to 5, it is unclear which are good.
    """
    keys = label_keys(row)
    if not keys:
        key = min(map(str, columns.seen("labelled")), default=LABELS[0])
        unknown = f"is {shown(row[key])}, which means neither good nor bad" if key in row else ""
        problem = f'"{key}" {unknown or "is missing, but other rows have it"}'
        raise Refused(problem, _WRITE.format(key))
    labels_given = {key: _meant(key, row[key], columns) for key in keys}
    if len(set(labels_given.values())) > 1:
        raise Refused(f"the labels {', '.join(keys)} disagree", "keep the correct one")
    return labels_given[keys[0]]


def _meant(key: str, value: object, columns: Columns) -> bool:
    label = _label_value(value)
    if isinstance(label, str):
        problem = f'"{key}" is {shown(value)}, which means neither good nor bad'
        raise Refused(problem, _WRITE.format(key) + ", or rename the key if it is not a label")
    found = {fact for fact in columns.seen(("label", key)) if isinstance(fact, float)} | {label}
    if not found <= {0.0, 1.0} and not (found <= {-1.0, 0.0, 1.0} and 1.0 in found):
        numbers = ", ".join(f"{one:g}" for one in sorted(found)[:8])
        raise RefusedFile(
            f'"{key}" is {shown(value)} (in the column: {numbers}), and it is unclear which '
            "numbers mean good",
            f'write true or false in "{key}"; if it is not a label, rename or remove it',
        )
    if label == 0.0 and -1.0 in found:
        problem = f'"{key}" is {shown(value)} between -1 and 1: neither good nor bad'
        raise Refused(problem, _WRITE.format(key))
    return label == 1.0


def _is_labelled(row: Row, columns: Columns) -> bool:
    """Whether this row has a label, or should have one like others of its table."""
    return bool(label_keys(row)) or bool(columns.seen("labelled"))


def _is_labelled_answer(row: Row, columns: Columns) -> bool:
    return _is_labelled(row, columns) and asks(row)


def _single_answer(row: Row) -> Format | None:
    """The demonstration format that would read this row if it were not labelled."""
    usable = (one for one in FORMATS if one.kind == "demonstrations" and one.name not in _NO_LABEL)
    return next((one for one in usable if not one.named_only and one.holds(row)), None)


_NO_LABEL = ("kto", "alignloop", "open-assistant")  # itself, and those without such a key


@labels("kto", fits=_is_labelled, messages=list)
def _kto(row: Row, source: str, columns: Columns) -> list[Labelled]:
    return [_last_answer(row, source, messages(row["messages"], "messages"), columns)]


@labels("kto", fits=_is_labelled, conversations=list)
def _kto_sharegpt(row: Row, source: str, columns: Columns) -> list[Labelled]:
    turns = messages(row["conversations"], "conversations")
    return [_last_answer(row, source, turns, columns)]


@labels("trl-unpaired", fits=_is_labelled_answer, completion=(str, list))
def _unpaired(row: Row, source: str, columns: Columns) -> list[Labelled]:
    """TRL's unpaired preference, standard or conversational."""
    if isinstance(row["completion"], str):
        return [_labelled(row, source, asked_in(row), text(row, "completion"), columns)]
    asked = asked_in(row)
    turns = [Message(role="user", content=asked)] if isinstance(asked, str) else asked
    turns = [*turns, *messages(row["completion"], "completion")]
    return [_last_answer(row, source, turns, columns)]


@labels("kto", fits=_is_labelled, instruction=str, output=str)
def _kto_alpaca(row: Row, source: str, columns: Columns) -> list[Labelled]:
    return [_labelled(row, source, asked_in(row), text(row, "output"), columns)]


@labels("kto", fits=_is_labelled, prompt=str, response=str)
def _kto_response(row: Row, source: str, columns: Columns) -> list[Labelled]:
    return [_labelled(row, source, asked_in(row), text(row, "response"), columns)]


def _is_other_labelled(row: Row, columns: Columns) -> bool:
    return _is_labelled(row, columns) and _single_answer(row) is not None


@labels("kto", fits=_is_other_labelled)
def _kto_any(row: Row, source: str, columns: Columns) -> list[Labelled]:
    """A label with any other single answer, in any layout of demonstrations."""
    found = _single_answer(row)
    assert found is not None, "fits has found it"
    good = _is_good(row, columns)
    read = found.read(row, source, columns)
    made = [one for one in read if isinstance(one, Demonstration)]
    if len(made) != 1:
        raise Refused(f"there are {len(made)} answers but one label", "use one row per answer")
    return [
        Labelled(prompt=one.prompt, response=one.response, good=good, extra=one.extra)
        for one in made
    ]


def _last_answer(row: Row, source: str, turns: Sequence[Message], columns: Columns) -> Labelled:
    if len(turns) < 2 or [turn.role for turn in turns[-2:]] != ["user", "assistant"]:
        raise Refused("no question and answer at the end", "end with an assistant message")
    return _labelled(row, source, turns[:-1], turns[-1], columns)


def _labelled(
    row: Row,
    source: str,
    asked: str | Sequence[Message],
    response: str | Message,
    columns: Columns,
) -> Labelled:
    good, answer = _is_good(row, columns), as_answer(response)
    made = prompt(row, source, asked)
    return Labelled(prompt=made, response=answer.content, good=good, extra=answer.extra)


def good_ones(labelled: Labelled) -> list[Demonstration]:
    """A demonstration if the answer was labelled good; none if bad."""
    source = labelled.prompt.source
    if not labelled.good:
        return []
    fields = {"response": labelled.response, "extra": labelled.extra, "source": source}
    return [checked(Demonstration, {"prompt": labelled.prompt, **fields})]


def pairs_of_labels(labelled: Iterable[Labelled]) -> Iterator[PreferencePair]:
    """Each good response of a prompt with each bad one, with total weight 1.

    Prompts with only good or only bad responses give no pairs.
    """
    sorted_out: dict[str, tuple[list[Labelled], list[Labelled]]] = {}
    for one in labelled:
        both = sorted_out.setdefault(prompt_id(one.prompt.messages, one.prompt.tools), ([], []))
        both[0 if one.good else 1].append(one)
    for good, bad in sorted_out.values():
        # equal texts labelled both ways say nothing
        couples = [(a, b) for a, b in product(good, bad) if not _alike(a, b)]
        for better, worse in couples:
            yield PreferencePair(
                prompt=better.prompt,
                chosen=better.response,
                rejected=worse.response,
                weight=1 / len(couples),
                source=better.prompt.source,
                chosen_extra=better.extra,
                rejected_extra=worse.extra,
            )


def _alike(one: Labelled, other: Labelled) -> bool:
    """Whether two answers differ only in white space."""
    return one.response.strip() == other.response.strip() and one.extra == other.extra


def _labelled_format(row: Row, columns: Columns) -> Format | None:
    if not _is_labelled(row, columns):
        return None
    usable = (one for one in FORMATS if one.kind == "labels")
    return next((one for one in usable if one.holds(row, columns)), None)


@demonstrations("kto", fits=_labelled_format)
def _good_demonstration(row: Row, source: str, columns: Columns) -> list[Demonstration]:
    """Comes before the formats that would read a bad answer as a demonstration."""
    found = _labelled_format(row, columns)
    assert found is not None, "fits has found it"
    read = found.read(row, source, columns)
    return [made for one in read if isinstance(one, Labelled) for made in good_ones(one)]
