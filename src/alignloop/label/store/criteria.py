"""What a project asks for besides the choice: scales, marks in texts, flags, a rationale."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from alignloop.label.store.received import Received, Sent
from alignloop.records import RESERVED_CRITERIA

Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"\S")]
Hint = Annotated[str, Field(max_length=160, pattern=r"^[^\r\n]*$")]
PublicId = Annotated[str, Field(min_length=1, max_length=32)]
Score = Annotated[int, Field(ge=1, le=10)]
Colour = Literal["red", "amber", "green", "blue", "violet", "grey"]
Rationale = Literal["none", "optional", "required"]
MAX_ANSWERS = 9
MAX_CRITERIA = 8
MAX_KINDS = 9  # the keys 1 to 9 choose one
MAX_SPANS = 100  # of one judgement
MAX_QUOTE = 20_000  # characters
MAX_RATIONALE = 2_000  # characters that a lead may demand


class Named(Received):
    """Something with a key for files, and a name in both languages for people."""

    key: Key
    name_en: Name
    name_zh: Name

    def name(self, locale: str) -> str:
        """The name in the reader's language."""
        return self.name_zh if locale.startswith("zh") else self.name_en


class Criterion(Named):
    """A scale from 1 to `levels` for each answer; if `required`, only a skip may lack it.

    The hints are explanations of one line.
    """

    hint_en: Hint = ""
    hint_zh: Hint = ""
    levels: Literal[5, 10] = 5
    required: bool = True

    @field_validator("key")
    @classmethod
    def _is_no_column(cls, value: str) -> str:
        if value in RESERVED_CRITERIA:
            raise ValueError(f'"{value}" is the name of another column of exports')
        return value

    def hint(self, locale: str) -> str:
        """The explanation in the reader's language."""
        return self.hint_zh if locale.startswith("zh") else self.hint_en


class SpanKind(Named):
    """A kind of mark that annotators put on a part of a text."""

    colour: Colour = "amber"


class OwnFlag(Named):
    """A flag of the project's own that annotators put on an answer."""


class Asked(Sent):
    """The part of a project's schema that this module describes."""

    criteria: tuple[Criterion, ...] = Field(default=(), max_length=MAX_CRITERIA)
    span_kinds: tuple[SpanKind, ...] = Field(default=(), max_length=MAX_KINDS)
    flags: tuple[OwnFlag, ...] = Field(default=(), max_length=MAX_KINDS)
    rationale: Rationale = "optional"
    rationale_min: int = Field(default=1, ge=1, le=MAX_RATIONALE)
    guideline_first: bool = False

    @model_validator(mode="after")
    def _keys_differ(self) -> "Asked":
        groups: tuple[Sequence[Named], ...] = (self.criteria, self.span_kinds, self.flags)
        for group in groups:
            keys = [one.key for one in group]
            if len(set(keys)) < len(keys):
                raise ValueError(f"two have the same key: {', '.join(sorted(keys))}")
        return self


class SpanIn(Received):
    """A marked part of an answer, or of turn `turn` of the prompt, counted from 0.

    `start` and `end` count characters (Unicode code points) of the text as stored; `text` repeats
    what is between them, so that a mark that slipped is noticed.
    """

    answer: PublicId | None = None
    turn: int | None = Field(default=None, ge=0, le=10_000)
    start: int = Field(ge=0, le=2**31 - 1)
    end: int = Field(ge=1, le=2**31 - 1)
    text: str = Field(min_length=1, max_length=MAX_QUOTE)
    kind: Key
    comment: str = Field(default="", max_length=2_000)


Scores = Annotated[
    dict[PublicId, Annotated[dict[Key, Score], Field(max_length=MAX_CRITERIA)]],
    Field(max_length=MAX_ANSWERS),
]
Flags = Annotated[
    dict[PublicId, Annotated[list[Key], Field(max_length=MAX_KINDS)]],
    Field(max_length=MAX_ANSWERS),
]
Spans = Annotated[list[SpanIn], Field(max_length=MAX_SPANS)]
