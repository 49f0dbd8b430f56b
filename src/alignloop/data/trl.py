"""Records as rows that TRL's trainers interpret correctly."""

from collections.abc import Sequence

from alignloop.data.formats.made import AboutPrompt, Labelled
from alignloop.data.formats.parts import prompt_id
from alignloop.records import Demonstration, Message, PreferencePair, Prompt, answer_of

TIES, SOFT = "ties left out", "soft labels written as plain pairs"


def trl_rows(record: AboutPrompt) -> list[dict[str, object]]:
    """The rows of a record: none for a tie, one for each answer of a whole conversation.

    TRL's reward and DPO trainers have no ties: one would be read as a preference for either answer.
    Writing conversations as "messages" next to "prompt" and "completion" would leave half of the
    columns empty, and TRL decides by the first row which columns there are.
    """
    if isinstance(record, PreferencePair) and record.preference == 0.5:
        return []
    if isinstance(record, Demonstration) and record.every_turn:
        return [as_trl(one) for one in _each_answer(record)]
    return [as_trl(record)]


def trl_note(record: AboutPrompt) -> str:
    """A note on what TRL cannot represent of a record; "" if nothing is lost."""
    if not isinstance(record, PreferencePair) or record.preference == 1.0:
        return ""
    return TIES if record.preference == 0.5 else SOFT


def as_trl(record: AboutPrompt) -> dict[str, object]:
    """A row of TRL's conversational types; fields unknown to TRL go to extra columns.

    Every pair gets its margin: TRL's RewardTrainer uses the column if the first row has it, and
    then requires it in every row.
    """
    if isinstance(record, Prompt):
        return {"prompt": _turns(record.messages), **_prompt_columns(record)}
    columns = _prompt_columns(record.prompt)
    asked = _turns(record.prompt.messages)
    if isinstance(record, Labelled):
        return {
            "prompt": asked,
            "completion": _turns([answer_of(record.response)]),
            "label": record.good,
            **columns,
        }
    if record.source != record.prompt.source:
        columns["record_source"] = record.source
    if isinstance(record, Demonstration):
        return {"prompt": asked, "completion": _turns([record.answer]), **columns}
    numbers = record.model_dump(include={"preference", "weight", "comparison_id"})
    given = {"preference": 1.0, "weight": 1.0, "comparison_id": ""}
    columns |= {key: value for key, value in numbers.items() if value != given[key]}
    chosen, rejected = record.answers
    both = {"chosen": _turns([chosen]), "rejected": _turns([rejected])}
    return {"prompt": asked, **both, "margin": record.margin, **columns}


def _each_answer(whole: Demonstration) -> list[Demonstration]:
    """One demonstration for each answer of a conversation; the last keeps the prompt's own id."""
    turns = whole.prompt.messages
    made: list[Demonstration] = []
    for place, turn in enumerate(turns):
        if turn.role == "assistant" and place > 0:
            named = prompt_id(turns[:place], whole.prompt.tools)
            before = {"messages": turns[:place], "prompt_id": named}
            prompt = whole.prompt.model_copy(update=before)
            made.append(
                Demonstration(
                    prompt=prompt, response=turn.content, source=whole.source, extra=turn.extra
                )
            )
    return [*made, whole.model_copy(update={"every_turn": False})]


def _prompt_columns(prompt: Prompt) -> dict[str, object]:
    """The source always, since a reader gives one to rows without it; others if they are set."""
    columns: dict[str, object] = {"prompt_id": prompt.prompt_id, "source": prompt.source}
    more = {"category": prompt.category, "language": prompt.language, "tools": list(prompt.tools)}
    more |= prompt.model_dump(mode="json", include={"reference", "metadata"})
    return columns | {key: value for key, value in more.items() if value}


def _turns(messages: Sequence[Message]) -> list[dict[str, object]]:
    """As OpenAI writes them, calls within "function"; absent parts are left out."""
    made = [message.model_dump() for message in messages]
    for turn in made:
        if calls := turn.get("tool_calls"):
            turn["tool_calls"] = [
                {"type": "function", "function": {k: v for k, v in call.items() if k != "id"}}
                | ({"id": call["id"]} if "id" in call else {})
                for call in calls
            ]
    return made
