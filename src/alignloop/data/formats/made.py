"""What formats make of rows: records, labelled responses, plain texts."""

from dataclasses import dataclass

from alignloop.records import Demonstration, Extra, Message, PreferencePair, Prompt, answer_of


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


# A text is one without a prompt: checked and counted, but no stage trains on it.
AboutPrompt = Prompt | Demonstration | PreferencePair | Labelled
Made = AboutPrompt | str


def prompt_of(made: AboutPrompt) -> Prompt:
    """The prompt of a record, which may be one itself."""
    return made if isinstance(made, Prompt) else made.prompt
