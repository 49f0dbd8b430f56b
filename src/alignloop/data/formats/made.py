"""What formats make of rows: records, labelled responses, plain texts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from alignloop.records import (
    Comparison,
    Demonstration,
    Extra,
    Message,
    PreferencePair,
    Prompt,
    answer_of,
)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One response to a prompt, labelled good or bad (KTO, TRL's unpaired preference).

    Not a record, since it is neither stored nor trained on: it becomes pairs, or a demonstration if
    it is good.
    """

    prompt: Prompt
    response: str
    good: bool
    extra: Extra | None = None

    @property
    def answer(self) -> Message:
        """The response with its calls and reasoning."""
        return answer_of(self.response, self.extra)


@dataclass(frozen=True, kw_only=True)
class Unjudged:
    """A question with its answers; `models` says who wrote which, by response_id."""

    comparison: Comparison
    models: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def prompt(self) -> Prompt:
        """The question."""
        return self.comparison.prompt


# A text is one without a prompt: checked and counted, but no stage trains on it.
AboutPrompt = Prompt | Demonstration | PreferencePair | Labelled
Made = AboutPrompt | str


def prompt_of(made: AboutPrompt) -> Prompt:
    """The prompt of a record, which may be one itself."""
    return made if isinstance(made, Prompt) else made.prompt
