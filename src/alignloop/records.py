"""What people write and judge: plain frozen records, one JSON object per line on disk. No torch.

Every record is read with `Record.model_validate_json(line)` and written with
`record.model_dump_json()`; unknown keys are refused so that a misspelt one is noticed.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant", "tool"]


class Record(BaseModel):
    """The common behaviour of all records: frozen, and refusing keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn: `Message(role="user", content="What is gravity?")`."""

    role: Role
    content: str


class Prompt(Record):
    """What a model is asked; `category` and `language` name the slice that reports group it by."""

    prompt_id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    source: str = ""
    category: str = ""
    language: str = ""

    @property
    def text(self) -> str:
        """The last message: what a person sees as the question."""
        return self.messages[-1].content


class Demonstration(Record):
    """A prompt and the response that a person wrote for it.

    With `every_turn` the answers within the prompt were written for it too, and SFT learns all of
    them: a whole conversation is one demonstration.
    """

    prompt: Prompt
    response: str = Field(min_length=1)
    source: str = ""
    every_turn: bool = False


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
    """What a judge says of one answer: `score` in 0..1, `rating` on 1..5, and why.

    None where the judge cannot tell: a reward model sees no refusals.
    """

    score: float = Field(ge=0, le=1)
    rating: int = Field(ge=1, le=5)
    complied_with_harm: bool | None = None
    refused: bool | None = None
    fair: bool | None = None
    reasons: tuple[str, ...] = ()
