"""Data records: plain and frozen, one JSON object per line on disk. No torch.

Read with `Record.model_validate_json(line)`, written with `record.model_dump_json()`. Unknown keys
are refused, so that a misspelt one is noticed.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

Role = Literal["system", "user", "assistant", "tool"]
# Columns of exports next to those of criteria, so no criterion is called like one.
RESERVED_CRITERIA = frozenset(
    [
        "answer",
        "answers",
        "by_annotator",
        "category",
        "chosen",
        "comparison_id",
        "id",
        "label",
        "language",
        "levels",
        "lowest",
        "messages",
        "metadata",
        "prompt",
        "prompt_id",
        "provenance",
        "raters",
        "record_source",
        "reference",
        "rejected",
        "response",
        "source",
        "spread",
        "system",
        "text",
        "tools",
        "topic",
    ]
)
MAX_METADATA = 64 * 2**10  # bytes of a prompt's metadata as JSON: every record carries a copy


class Record(BaseModel):
    """The base of all records: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _where_given(default: Any) -> Any:
    """A field that is written to a file only if it is not empty."""
    return Field(default=default, exclude_if=lambda value: not value)


class ToolCall(Record):
    """One call of a tool; `arguments` by name, or as raw text if they are not a JSON object."""

    name: str = Field(min_length=1)
    arguments: dict[str, Any] | str = Field(default_factory=dict)
    id: str = _where_given("")


class Extra(Record):
    """The parts of an answer other than its text; a chat template may write them too."""

    reasoning_content: str = _where_given("")
    tool_calls: tuple[ToolCall, ...] = _where_given(())


class Message(Record):
    """One turn: `Message(role="user", content="What is gravity?")`.

    An answer may have reasoning and tool calls; a turn with the role "tool" is the result of the
    call identified by `tool_call_id` or `name`.
    """

    role: Role
    content: str
    reasoning_content: str = _where_given("")
    tool_calls: tuple[ToolCall, ...] = _where_given(())
    tool_call_id: str = _where_given("")
    name: str = _where_given("")

    @property
    def extra(self) -> Extra | None:
        """Reasoning and tool calls, or None."""
        if not (self.reasoning_content or self.tool_calls):
            return None
        return Extra(reasoning_content=self.reasoning_content, tool_calls=self.tool_calls)


def answer_of(text: str, extra: Extra | None = None) -> Message:
    """An answer as a turn of a conversation."""
    given = {} if extra is None else dict(extra)
    return Message(role="assistant", content=text, **given)


def metadata_problem(metadata: Mapping[str, Any]) -> str:
    """Why a JSON object cannot be stored as metadata, naming the key; "" if it can."""
    sizes: dict[str, int] = {}
    for key, value in metadata.items():
        try:
            written = json.dumps({key: value}, ensure_ascii=False, allow_nan=False)
            sizes[key] = len(written.encode())
        except UnicodeEncodeError:
            return f'"{key}" contains half a character (a lone surrogate)'
        except ValueError:
            return f'"{key}" contains a number that is not finite'
        except (TypeError, RecursionError):
            return f'"{key}" contains something that is not JSON'
    if (size := sum(sizes.values())) > MAX_METADATA:
        largest = max(sizes, key=lambda key: sizes[key])
        return f'metadata of {size} bytes, mostly in "{largest}"; the limit is {MAX_METADATA}'
    return ""


class Prompt(Record):
    """What a model is asked; reports group prompts by `category` and `language`.

    `tools` are JSON schemas of the tools it may call. `reference` is what an answer is checked
    against; in a list, each text is a correct answer. `metadata` holds the other fields of the row,
    in order. Neither is part of the prompt's id.
    """

    prompt_id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    tools: tuple[dict[str, Any], ...] = _where_given(())
    source: str = ""
    category: str = ""
    language: str = ""
    reference: str | tuple[str, ...] | None = _where_given(None)
    metadata: dict[str, JsonValue] = _where_given({})

    @property
    def text(self) -> str:
        """The last message: the question, as people see it."""
        return self.messages[-1].content

    def __hash__(self) -> int:
        return hash((self.prompt_id, self.text))  # tools and metadata have no hash

    @property
    def references(self) -> tuple[str, ...]:
        """The reference as a list, without blank texts: () if there is none."""
        given = self.reference or ()
        return tuple(one for one in ((given,) if isinstance(given, str) else given) if one.strip())

    @field_validator("metadata")
    @classmethod
    def _can_be_kept(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if problem := metadata_problem(value):
            raise ValueError(problem)
        return value


class Demonstration(Record):
    """A prompt and the response written for it.

    With `every_turn` the answers within the prompt are demonstrations too, and SFT trains on all of
    them: a whole conversation is one record.
    """

    prompt: Prompt
    response: str
    source: str = ""
    every_turn: bool = False
    extra: Extra | None = _where_given(None)

    @property
    def answer(self) -> Message:
        """The response with its reasoning and tool calls."""
        return answer_of(self.response, self.extra)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.response and not (self.extra and self.extra.tool_calls):
            raise ValueError("response: an answer needs a text or a tool call")
        return self


class Response(Record):
    """One answer shown in a comparison; judgements refer to its `response_id`."""

    response_id: str
    text: str


class Comparison(Record):
    """The question put to an annotator: which of these responses is better?"""

    comparison_id: str
    prompt: Prompt
    responses: tuple[Response, ...] = Field(min_length=2)
    sampled_from: str = ""


class Span(Record):
    """A marked part of an answer, or of turn `turn` of the prompt, counted from 0.

    `start` and `end` count characters (Unicode code points) of the original text, and `text` is
    what is between them; `kind` is the project's word for the mark.
    """

    response_id: str = _where_given("")
    turn: int | None = Field(default=None, ge=0, exclude_if=lambda value: value is None)
    start: int = Field(ge=0)
    end: int = Field(ge=1)
    text: str
    kind: str
    comment: str = _where_given("")

    @model_validator(mode="after")
    def _is_in_one_text(self) -> Self:
        if bool(self.response_id) == (self.turn is not None):
            raise ValueError("a span names a response_id or a turn of the prompt, and not both")
        if self.end - self.start != len(self.text):
            raise ValueError(f"{self.start} to {self.end} are not the {len(self.text)} characters")
        return self


class Judgement(Record):
    """One annotator's answer to one comparison; append-only.

    `choice` is a `response_id`, or "tie", "both_bad" or "skip". `strength` is 0 (negligibly
    better or unsure), 1 (slightly), 2 (better), 3 (significantly better). By `response_id`,
    `scores` holds a number for each of the project's criteria, and `flags` the project's own flags;
    `spans` are marks in the texts.
    """

    comparison_id: str
    annotator_id: str
    choice: str
    strength: int = Field(default=0, ge=0, le=3)
    ratings: dict[str, float] = Field(default_factory=dict)
    scores: dict[str, dict[str, float]] = _where_given({})
    flags: dict[str, tuple[str, ...]] = _where_given({})
    spans: tuple[Span, ...] = _where_given(())
    order_shown: tuple[str, ...] = ()
    seconds: float = Field(default=0.0, ge=0)
    rationale: str = ""
    created_at: datetime


class AttributeScores(Record):
    """One answer's mean score on each criterion (attribute) of a project.

    All are by criterion: `levels` is the top of its scale, which begins at 1 or at `lowest`;
    `raters` how many people gave it a score, `spread` their standard deviation (None of one).
    `by_annotator` keeps each person's scores.
    """

    prompt: Prompt
    response: str
    scores: dict[str, float] = Field(min_length=1)
    levels: dict[str, float]
    lowest: float = 1.0
    raters: dict[str, int] = Field(default_factory=dict)
    spread: dict[str, float | None] = Field(default_factory=dict)
    by_annotator: dict[str, dict[str, float]] = Field(default_factory=dict)
    source: str = ""

    @property
    def answer(self) -> Message:
        """The response as a turn of a conversation."""
        return answer_of(self.response)

    @model_validator(mode="after")
    def _scores_are_on_their_scale(self) -> Self:
        for name, score in self.scores.items():
            if name not in self.levels:
                raise ValueError(f"levels: the top of the scale of {name} is missing")
            if not self.lowest <= score <= self.levels[name]:
                top = self.levels[name]
                raise ValueError(f"{name}: {score:g} is not within {self.lowest:g} to {top:g}")
        return self


class PreferencePair(Record):
    """A training example of the reward model: `chosen` was preferred to `rejected`.

    `preference` is the probability that chosen is better: 1 for a plain choice, 0.5 for a tie
    (soft label, WebGPT). `weight` multiplies the pair's loss; `margin` is the strength in 0..3.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    preference: float = Field(default=1.0, ge=0.5, le=1.0)
    margin: float = 0.0
    weight: float = Field(default=1.0, gt=0)
    source: str = ""
    comparison_id: str = ""
    chosen_extra: Extra | None = _where_given(None)
    rejected_extra: Extra | None = _where_given(None)

    @property
    def answers(self) -> tuple[Message, Message]:
        """Chosen and rejected, each with its reasoning and tool calls."""
        chosen = answer_of(self.chosen, self.chosen_extra)
        return chosen, answer_of(self.rejected, self.rejected_extra)


class Sample(Record):
    """One generated answer, saved for reading: a line of samples.jsonl."""

    prompt: Prompt
    response: str
    finish_reason: Literal["eos", "length"]
    num_tokens: int
    stage: str
    step: int
    score: float | None = None


class Verdict(Record):
    """A judge's verdict on one answer.

    `reward` is in the judge's own unit, unbounded: RL maximises it. `score` rates the answer in
    0..1; None if the judge has no such scale. `marks` holds its other measures by key, for the
    prompts they apply to. `cost` is in the judge's unit.
    """

    reward: float
    score: float | None = Field(default=None, ge=0, le=1)
    rating: int | None = Field(default=None, ge=1, le=5)
    marks: dict[str, float] = Field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    cost: float = 0.0


class Preference(Record):
    """A judge's verdict on two answers: the probability in 0..1 that the first is better.

    1 for a clear choice, 0.5 for a tie.
    """

    first: float = Field(ge=0, le=1)
    reasons: tuple[str, ...] = ()
    cost: float = 0.0
