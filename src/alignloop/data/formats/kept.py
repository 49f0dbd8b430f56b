"""Fields that a format does not read itself: a reference to check answers against, and metadata.

A format reads the columns it knows; the others are handled here, for all formats alike.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import cast

from alignloop.data.containers.cells import list_in, value_in
from alignloop.data.files import PROVENANCE
from alignloop.data.formats.annotated import ANNOTATED
from alignloop.data.formats.answers import looks_like_an_answer, plain
from alignloop.data.formats.columns import Columns
from alignloop.data.formats.labels import label_keys
from alignloop.data.formats.made import Labelled, Made
from alignloop.data.formats.registry import FORMATS, Format, Refused, Row
from alignloop.data.formats.verdicts import CHOICE, LABEL, VOTER
from alignloop.data.narrow import Json, object_at
from alignloop.records import Prompt, metadata_problem

# The most certain name first: between a solution and an answer, the answer is the reference.
GUESSED = (
    "ground_truth", "reward_model", "reference_answer", "expected_answer", "final_answer",
    "std_answer", "answer", "参考答案", "标准答案", "答案", "solution", "label",
)  # fmt: skip
_JUDGES = re.compile(  # columns about who judged, and how
    r"(?:chosen|rejected|safer)[\w-]*|(?:\w+[_-])?(?:score|rating|point|rank)s?(?:[_-]\w+)?"
    r"|\w*(?:评分|分数|得分|打分|排名|名次)\w*"
    r"|(?:annotator|judge)(?:[_-]\w+)?|标注员|comparison_id|record_source|margin|weight",
    re.I,
)
_NOT_COLUMNS = ("open-assistant",)  # a tree; exports of annotation tools are excluded too


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a prompt keeps of its row: the reference, the column it came from, and metadata.

    `columns` are those that became metadata; `metadata` may contain keys of one such column.
    """

    reference: str | tuple[str, ...] | None = None
    reference_column: str = ""
    metadata: Mapping[str, Json] = field(default_factory=Row)
    columns: tuple[str, ...] = ()

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that are kept either way."""
        return (self.reference_column, *self.columns)

    def within(self, records: Iterable[Made]) -> list[Made]:
        """The records, each with the reference and the metadata in its prompt."""
        more: dict[str, object] = {}
        if self.reference is not None:
            more["reference"] = self.reference
        if self.metadata:
            more["metadata"] = dict(self.metadata)
        return [_with(record, more) for record in records] if more else list(records)


def kept_of(
    row: Row, unread: Sequence[str], format_: Format, columns: Columns, *, in_cells: bool
) -> Kept:
    """What becomes of the columns that a format did not read.

    An answer is a reference only next to a bare prompt; next to judged answers it is just another
    column. Columns that judge answers, but were not read as such, are not kept. In tables a list is
    stored as text. Raises Refused for metadata that cannot be kept, naming the key.
    """
    if format_.name in ANNOTATED or format_.name in _NOT_COLUMNS:
        return Kept()
    free = [key for key in unread if key in row and not key.startswith(PROVENANCE)]
    judged = format_.kind != "prompts" or _is_judged(row, free, columns)
    names = ("reference",) if judged else ("reference", *GUESSED)
    name, reference = _reference(row, [name for name in names if name in free], in_cells)
    if judged:
        labels = label_keys(row)
        free = [key for key in free if key not in labels and not _judges(key)]
        if format_.kind == "prompts":
            free = [key for key in free if not looks_like_an_answer(key)]
    metadata = _metadata(row, [key for key in free if key != name])
    if name == "reward_model" and (rest := _but(object_at(row, name), "ground_truth")):
        metadata[name] = rest
    if problem := metadata_problem(metadata):
        raise Refused(problem, "shorten it, or remove the column")
    columns_ = tuple(key for key in free if key in metadata or key == "metadata")
    return Kept(reference=reference, reference_column=name, metadata=metadata, columns=columns_)


def _with(record: Made, more: Mapping[str, object]) -> Made:
    if isinstance(record, str):  # plain text without a prompt
        return record
    if isinstance(record, Prompt):
        return record.model_copy(update=more)
    prompt = record.prompt.model_copy(update=more)
    if isinstance(record, Labelled):
        return replace(record, prompt=prompt)
    return record.model_copy(update={"prompt": prompt})


def _is_judged(row: Row, free: Sequence[str], columns: Columns) -> bool:
    """Whether a row read only for its prompt contains judged answers."""
    if not any(map(looks_like_an_answer, free)):
        return False
    usable = (one for one in FORMATS if one.kind in ("pairs", "labels") and not one.named_only)
    return any(one.holds(row, columns) for one in usable)


@lru_cache(4096)  # all rows share a few keys
def _judges(key: str) -> bool:
    name = plain(key)
    named = any(pattern.fullmatch(name) for pattern in (CHOICE, LABEL, VOTER))
    return named or _JUDGES.fullmatch(key) is not None


# --- the reference -----------------------------------------------------------------------------


def _reference(
    row: Row, names: Sequence[str], in_cells: bool
) -> tuple[str, str | tuple[str, ...] | None]:
    """The first of the names that holds a text, a number or a list of these."""
    for name in names:
        value = list_in(row[name]) if in_cells else row[name]
        if name == "reward_model":  # verl: {"style": "rule", "ground_truth": "72"}
            value = value.get("ground_truth") if isinstance(value, dict) else None
        if (found := _texts(value)) is not None:
            return name, found[0] if in_cells and len(found) == 1 else found
    return "", None


def _texts(value: Json) -> str | tuple[str, ...] | None:
    """A text, or the texts of a list; None for anything else, or if one is blank."""
    if not isinstance(value, list):
        return _text(value) or None
    found = tuple(map(_text, value))
    return found if found and all(found) else None


def _text(value: Json) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    content = str(value)
    sound = content.strip() and not any("\ud800" <= c <= "\udfff" for c in content)
    return content if sound and content not in ("nan", "inf", "-inf") else ""


# --- metadata ----------------------------------------------------------------------------------


def _metadata(row: Row, free: Sequence[str]) -> Row:
    """The columns and the keys of a column "metadata", without values that JSON cannot hold."""
    found: Row = {}
    for key in free:
        value = value_in(row[key]) if key == "metadata" else row[key]
        more = value if key == "metadata" and isinstance(value, dict) else {key: value}
        for name, one in more.items():
            if name in found and found[name] != one:
                raise Refused(
                    f'"{name}" is both a column and a key of "metadata", with different values',
                    "rename one of them",
                )
            if _is_json(one):
                found[str(name)] = one
    return found


def _is_json(value: object) -> bool:
    """Whether JSON can represent it: a table's dates and bytes are no metadata."""
    if isinstance(value, dict):
        known = cast("dict[object, object]", value)  # isinstance leaves open what is inside
        return all(isinstance(key, str) and _is_json(one) for key, one in known.items())
    if isinstance(value, list):
        return all(map(_is_json, cast("list[object]", value)))
    return value is None or isinstance(value, str | int | float)


def _but(value: Row, key: str) -> Row:
    return {name: one for name, one in value.items() if name != key}
