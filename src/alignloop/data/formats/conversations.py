"""Chat as lists of turns: OpenAI messages, ShareGPT conversations, TRL's conversational types."""

from collections.abc import Callable, Sequence

from alignloop.data.formats.parts import ROLES, demonstration, message, messages, pair, prompt, text
from alignloop.data.formats.registry import Refused, Row, demonstrations, pairs, prompts
from alignloop.records import Demonstration, Message, PreferencePair, Prompt

ANSWER = (str, dict, list)


# --- pairs -------------------------------------------------------------------------------------


@pairs("trl-preference", prompt=list, chosen=ANSWER, rejected=ANSWER)
def _conversational_pair(row: Row, source: str) -> list[PreferencePair]:
    """TRL's conversational preference, with the prompt by itself."""
    return [_chat_pair(row, source, messages(row["prompt"], "prompt"))]


@pairs("trl-preference", prompt=str, chosen=list, rejected=list)
def _ultrafeedback(row: Row, source: str) -> list[PreferencePair]:
    """A prompt as text beside whole conversations (UltraFeedback), or beside answers as turns."""
    chosen = messages(row["chosen"], "chosen")
    asked = [] if chosen[0].role != "assistant" else [_user(text(row, "prompt"))]
    return [_chat_pair(row, source, asked)]


@pairs("trl-preference-implicit", chosen=list, rejected=list)
def _implicit_pair(row: Row, source: str) -> list[PreferencePair]:
    """TRL's conversational preference with the prompt within both conversations."""
    return [_chat_pair(row, source, [])]


@pairs("sharegpt", conversations=list, chosen=ANSWER, rejected=ANSWER)
def _sharegpt_pair(row: Row, source: str) -> list[PreferencePair]:
    return [_chat_pair(row, source, messages(row["conversations"], "conversations"))]


@pairs("openai-messages", messages=list, chosen=ANSWER, rejected=ANSWER)
def _messages_pair(row: Row, source: str) -> list[PreferencePair]:
    return [_chat_pair(row, source, messages(row["messages"], "messages"))]


def _chat_pair(row: Row, source: str, asked: Sequence[Message]) -> PreferencePair:
    """Both answers may repeat the prompt, and may share turns before they part at the last one."""
    chosen, rejected = (_answer(row, key, asked) for key in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise Refused(
            '"chosen" and "rejected" differ before their last turn',
            "let both be the same conversation up to the last answer",
        )
    before = [*asked, *chosen[:-1]]
    _check_question(before, "prompt")
    return pair(row, source, before, chosen[-1], rejected[-1])


def _answer(row: Row, key: str, asked: Sequence[Message]) -> list[Message]:
    value = row[key]
    if isinstance(value, str):
        return [Message(role="assistant", content=text(row, key))]
    turns = messages(value if isinstance(value, list) else [value], key)
    if asked and turns[: len(asked)] == list(asked):
        turns = turns[len(asked) :]
    if not turns or turns[-1].role != "assistant":
        raise Refused(f'the last of "{key}" is no answer', "end with an assistant message")
    return turns


def _check_question(before: Sequence[Message], key: str) -> None:
    if not before or before[-1].role not in ("user", "tool"):
        raise Refused(f'"{key}" asks nothing', "end the question with a user message")


def _user(content: str) -> Message:
    return Message(role="user", content=content)


# --- demonstrations ----------------------------------------------------------------------------


@demonstrations("trl-prompt-completion", prompt=(str, list), completion=(str, list, dict))
def _prompt_completion(row: Row, source: str) -> list[Demonstration]:
    """TRL's prompt-completion, standard or conversational; one for each answer of a completion."""
    standard = isinstance(row["prompt"], str)
    asked = [_user(text(row, "prompt"))] if standard else messages(row["prompt"], "prompt")
    if isinstance(row["completion"], str):
        return [demonstration(row, source, asked, text(row, "completion"))]
    turns = _answer(row, "completion", asked)
    return _each_answer(row, source, [*asked, *turns], "completion", start=len(asked))


def _has_answer(key: str) -> Callable[[Row], bool]:
    """Whether the last turn is no question; one of an unknown role is left to the reader."""

    def look(row: Row) -> bool:
        last = row[key][-1] if row[key] else {}
        said_by = last.get("role", last.get("from")) if isinstance(last, dict) else None
        return not isinstance(said_by, str) or ROLES.get(said_by.lower()) not in (
            "user",
            "system",
            "tool",
        )

    return look


@demonstrations("openai-messages", fits=_has_answer("messages"), messages=list)
def _openai(row: Row, source: str) -> list[Demonstration]:
    return _chat(row, source, "messages")


@demonstrations("sharegpt", fits=_has_answer("conversations"), conversations=list)
def _sharegpt(row: Row, source: str) -> list[Demonstration]:
    return _chat(row, source, "conversations")


def _chat(row: Row, source: str, key: str) -> list[Demonstration]:
    """One demonstration with every assistant turn in it.

    Where some answers have the weight 0 (OpenAI), one demonstration for each of the others.
    """
    turns = messages(row[key], key)
    kept = _places_with_weight(row[key], key)
    each = _each_answer(row, source, turns, key)
    answers = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    if len(kept) < len(answers):
        return [made for place, made in zip(answers, each, strict=True) if place in kept]
    last = each[-1]
    return [last.model_copy(update={"every_turn": True})] if len(answers) > 1 else [last]


def _places_with_weight(items: Sequence[Row], key: str) -> set[int]:
    """Places of the answers that count, among the turns that are not left out."""
    present = [item for item in items if message(item, key) is not None]
    return {
        place
        for place, item in enumerate(present)
        if item.get("role", item.get("from")) not in ("user", "system", "human")
        and item.get("weight") != 0
    }


def _each_answer(
    row: Row, source: str, turns: Sequence[Message], key: str, start: int = 0
) -> list[Demonstration]:
    """One demonstration for each assistant turn from `start` on, asked by all turns before it."""
    answers = [n for n, turn in enumerate(turns) if turn.role == "assistant" and n >= start]
    if any(n == 0 or turns[n - 1].role not in ("user", "tool") for n in answers):
        raise Refused(
            f'an assistant message in "{key}" does not follow a user message',
            "put a user message before each assistant message, or remove the row",
        )
    return [demonstration(row, source, turns[:n], turns[n]) for n in answers]


# --- prompts -----------------------------------------------------------------------------------


@prompts("openai-messages", messages=list)
def _message_prompt(row: Row, source: str) -> list[Prompt]:
    return [_question(row, source, "messages")]


@prompts("sharegpt", conversations=list)
def _sharegpt_prompt(row: Row, source: str) -> list[Prompt]:
    return [_question(row, source, "conversations")]


@prompts("trl-prompt", prompt=list)
def _conversational_prompt(row: Row, source: str) -> list[Prompt]:
    return [_question(row, source, "prompt")]


def _question(row: Row, source: str, key: str) -> Prompt:
    """All messages; an answer at the end is what the prompt asks for and is left out."""
    turns = messages(row[key], key)
    asked = turns[:-1] if turns and turns[-1].role == "assistant" else turns
    _check_question(asked, key)
    return prompt(row, source, asked)
