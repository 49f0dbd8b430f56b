"""What people write and judge: plain frozen records, one JSON object per line on disk. No torch.

Every record is read with `Record.model_validate_json(line)` and written with
`record.model_dump_json()`; unknown keys are refused so that a misspelt one is noticed.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

Role = Literal["system", "user", "assistant", "tool"]
MAX_METADATA = 64 * 2**10  # bytes of a prompt's metadata as JSON: it is kept with every record


class Record(BaseModel):
    """The common behaviour of all records: frozen, and refusing keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _where_given(default: Any) -> Any:
    """A field that stands in a file only where it holds something."""
    return Field(default=default, exclude_if=lambda value: not value)


class ToolCall(Record):
    """One call of a tool; `arguments` by name, or a text where they are no JSON object."""

    name: str = Field(min_length=1)
    arguments: dict[str, Any] | str = Field(default_factory=dict)
    id: str = _where_given("")


class Extra(Record):
    """What an answer holds beside its text; the chat template writes it, where it has a place."""

    reasoning_content: str = _where_given("")
    tool_calls: tuple[ToolCall, ...] = _where_given(())


class Message(Record):
    """One turn: `Message(role="user", content="What is gravity?")`.

    An answer may hold its reasoning and calls of tools; a turn of the role "tool" is a result, of
    the call that `tool_call_id` or `name` says.
    """

    role: Role
    content: str
    reasoning_content: str = _where_given("")
    tool_calls: tuple[ToolCall, ...] = _where_given(())
    tool_call_id: str = _where_given("")
    name: str = _where_given("")

    @property
    def extra(self) -> Extra | None:
        """What it holds beside its text, or None."""
        if not (self.reasoning_content or self.tool_calls):
            return None
        return Extra(reasoning_content=self.reasoning_content, tool_calls=self.tool_calls)


def answer_of(text: str, extra: Extra | None = None) -> Message:
    """An answer as the turn of a conversation."""
    given = {} if extra is None else dict(extra)
    return Message(role="assistant", content=text, **given)


def metadata_problem(metadata: Mapping[str, Any]) -> str:
    """Why a JSON object cannot be kept as metadata, naming the key; "" if it can."""
    sizes: dict[str, int] = {}
    for key, value in metadata.items():
        try:
            written = json.dumps({key: value}, ensure_ascii=False, allow_nan=False)
            sizes[key] = len(written.encode())
        except UnicodeEncodeError:
            return f'"{key}" holds half a character (a lone surrogate)'
        except ValueError:
            return f'"{key}" holds a number that is not finite'
        except (TypeError, RecursionError):
            return f'"{key}" holds something other than JSON'
    if (size := sum(sizes.values())) > MAX_METADATA:
        largest = max(sizes, key=lambda key: sizes[key])
        return f'metadata of {size} bytes, most of them in "{largest}"; at most {MAX_METADATA}'
    return ""


class Prompt(Record):
    """What a model is asked; `category` and `language` name the slice that reports group it by.

    `tools` are those that it may call, as JSON schemas. `reference` is what an answer is checked
    against; of a list each text is right. `metadata` is what else its row holds, in the row's
    order. Neither has a part in the prompt's id.
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
        """The last message: what a person sees as the question."""
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
    """A prompt and the response that a person wrote for it.

    With `every_turn` the answers within the prompt were written for it too, and SFT learns all of
    them: a whole conversation is one demonstration.
    """

    prompt: Prompt
    response: str
    source: str = ""
    every_turn: bool = False
    extra: Extra | None = _where_given(None)

    @property
    def answer(self) -> Message:
        """The response with what stands beside its text."""
        return answer_of(self.response, self.extra)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.response and not (self.extra and self.extra.tool_calls):
            raise ValueError("response: an answer has a text, or calls a tool")
        return self


class Response(Record):
    """One answer on show in a comparison; judgements name it by `response_id`."""

    response_id: str
    text: str


class Comparison(Record):
    """The question put to an annotator: which of these responses is better?"""

    comparison_id: str
    prompt: Prompt
    responses: tuple[Response, ...] = Field(min_length=2)
    sampled_from: str = ""


class Judgement(Record):
    """One annotator's answer to one comparison; append-only.

    `choice` is a `response_id`, or "tie", "both_bad" or "skip". `strength` is 0 (negligibly
    better or unsure), 1 (slightly), 2 (better), 3 (significantly better).
    """

    comparison_id: str
    annotator_id: str
    choice: str
    strength: int = Field(default=0, ge=0, le=3)
    ratings: dict[str, float] = Field(default_factory=dict)
    order_shown: tuple[str, ...] = ()
    seconds: float = Field(default=0.0, ge=0)
    rationale: str = ""
    created_at: datetime


class PreferencePair(Record):
    """What the reward model learns from: `chosen` was preferred to `rejected`.

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
        """Chosen and rejected, each with what stands beside its text."""
        chosen = answer_of(self.chosen, self.chosen_extra)
        return chosen, answer_of(self.rejected, self.rejected_extra)


class Sample(Record):
    """One answer that a model gave, kept for reading: a line of samples.jsonl."""

    prompt: Prompt
    response: str
    finish_reason: Literal["eos", "length"]
    num_tokens: int
    stage: str
    step: int
    score: float | None = None


class Verdict(Record):
    """What a judge says of one answer.

    `reward` is in the judge's own unit, without bounds: what RL climbs. `score` says in 0..1 how
    good the answer is, None if the judge has no such scale. `marks` holds what else it measures, by
    the keys of its measures, for the prompts that they apply to. `cost` is in the judge's unit.
    """

    reward: float
    score: float | None = Field(default=None, ge=0, le=1)
    rating: int | None = Field(default=None, ge=1, le=5)
    marks: dict[str, float] = Field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    cost: float = 0.0


class Preference(Record):
    """What a judge says of two answers: the probability in 0..1 that the first is better.

    1 for a plain choice, 0.5 for a tie.
    """

    first: float = Field(ge=0, le=1)
    reasons: tuple[str, ...] = ()
    cost: float = 0.0
