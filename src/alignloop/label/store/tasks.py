"""What annotators see and send: the types of the queue, of judging and of the API."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from alignloop.data.unstorable import UNSTORABLE
from alignloop.label.labels.project_labels import VerdictName

Rating = Annotated[int, Field(ge=1, le=10)]
PublicId = Annotated[str, Field(min_length=1, max_length=32)]
CANNOT_BE_SHOWN = "cannot_be_shown"  # the page's reason for skipping what it could not render
A_DAY_MS = 24 * 3600 * 1000
BIGGEST_ID = 2**31 - 1  # the maximum of PostgreSQL's integer; above it a query would fail


class Sent(BaseModel):
    """Common behaviour: frozen, and refusing unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class Received(Sent):
    """Input: refuses texts that databases cannot store."""

    @field_validator("*")
    @classmethod
    def _can_be_kept(cls, value: object) -> object:
        if isinstance(value, str) and UNSTORABLE.search(value):
            raise ValueError("the text contains NUL, or half a character (a lone surrogate)")
        return value


class Turn(Sent):
    """One message of the prompt."""

    role: Literal["system", "user", "assistant"]
    text: str


class ShownAnswer(Sent):
    """One displayed answer: `label` A, B, ... by position; judgements refer to `id`."""

    id: str
    label: str
    text: str


class LabelSchema(Sent):
    """What a project asks for: the kind of item, and the extras and verdicts on its screen."""

    kind: Literal["comparison", "ranking", "rating"] = "comparison"
    strength: bool = True
    ratings: bool = False
    allow: tuple[Literal["tie", "both_bad", "skip"], ...] = ("tie", "both_bad", "skip")


class GuidelineText(Sent):
    """The current guideline, in the annotator's language."""

    version: int
    text: str


class TaskProgress(Sent):
    """The annotator's own progress: judgements `today` (the server's day), and `batch_done`.

    All items count alike, so the numbers do not reveal gold questions.
    """

    today: int
    batch: str
    batch_done: int
    batch_total: int


class Flag(Sent):
    """A warning about an answer, such as that it names its maker."""

    answer: str
    flag: Literal["names_maker"]


class JudgementIn(Received):
    """A judgement as sent. `key` is chosen by the sender: sent twice, it counts once.

    `choice` is an answer's id if `verdict` is "choice" (optional for a ranking); `ranking` lists
    groups of ids, best first, ties in one group; `harmful` lists ids.
    """

    key: str = Field(min_length=8, max_length=64, pattern=r"^[\x21-\x7e]+$")
    verdict: VerdictName
    choice: PublicId | None = None
    strength: int | None = Field(default=None, ge=0, le=3)
    ratings: dict[PublicId, Rating] = Field(default_factory=dict, max_length=9)
    ranking: list[list[PublicId]] = Field(default_factory=list[list[str]], max_length=9)
    harmful: list[PublicId] = Field(default_factory=list[str], max_length=9)
    skip_reason: str = Field(default="", max_length=500)
    comment: str = Field(default="", max_length=5000)
    visible_ms: int = Field(default=0, ge=0, le=A_DAY_MS)
    confirmed: bool = False


class Previous(Sent):
    """The annotator's withdrawn answer, to prefill the form."""

    verdict: VerdictName
    choice: str | None
    strength: int | None
    ratings: dict[str, int]
    ranking: list[list[str]]
    harmful: list[str]
    skip_reason: str
    comment: str


class Task(Sent):
    """One item on an annotator's screen. It reveals neither models nor why it was chosen."""

    assignment_id: int
    item_id: int
    kind: Literal["comparison", "ranking"]
    prompt: tuple[Turn, ...]
    answers: tuple[ShownAnswer, ...]
    schema_: LabelSchema = Field(alias="schema")
    guideline: GuidelineText
    progress: TaskProgress
    detector: tuple[Flag, ...]
    previous: Previous | None

    model_config = ConfigDict(populate_by_name=True)
