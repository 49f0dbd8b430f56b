"""Chats as lists of turns: OpenAI messages, ShareGPT conversations, TRL's conversational types."""

from collections.abc import Callable, Sequence

from alignloop.data.formats.dialects import is_learnt, role_of
from alignloop.data.formats.parts import (
    asked_in,
    asks,
    demonstration,
    message,
    messages,
    pair,
    prompt,
    text,
)
from alignloop.data.formats.registry import Refused, Row, demonstrations, pairs, prompts
from alignloop.data.narrow import Json, are_texts, list_at
from alignloop.records import Demonstration, Message, PreferencePair, Prompt, Role

ANSWER = (str, dict, list)


# --- pairs -------------------------------------------------------------------------------------


@pairs("trl-preference", prompt=list, chosen=ANSWER, rejected=ANSWER)
def _conversational_pair(row: Row, source: str) -> list[PreferencePair]:
    """TRL's conversational preference, with a separate prompt."""
    return [_chat_pair(row, source, messages(row["prompt"], "prompt"))]


@pairs("trl-preference", prompt=str, chosen=list, rejected=list)
def _ultrafeedback(row: Row, source: str) -> list[PreferencePair]:
    """A prompt as text with whole conversations (UltraFeedback), or with answers as turns."""
    chosen = messages(row["chosen"], "chosen")
    asked = [] if chosen[0].role != "assistant" else [_user(text(row, "prompt"))]
    return [_chat_pair(row, source, asked)]


def _lists_of_texts(row: Row) -> bool:
    return all(are_texts(row[key]) for key in ("chosen", "rejected"))


@pairs("moss-rlhf", fits=_lists_of_texts, chosen=list, rejected=list)
def _alternating_pair(row: Row, source: str) -> list[PreferencePair]:
    """MOSS-RLHF (Zheng et al. 2023): two lists of texts, each ending with an answer."""
    for key in ("chosen", "rejected"):
        row = _by_turns(row, key, last="assistant")
    return [_chat_pair(row, source, [])]


def _by_turns(row: Row, key: str, last: Role) -> Row:
    """The row with a list of texts as alternating turns.

    They are counted from the end, since the start may be cut off.
    """
    roles: tuple[Role, Role] = (last, "user" if last == "assistant" else "assistant")
    texts = list_at(row, key)
    turns: Row = {
        key: [
            {"role": roles[(len(texts) - place) % 2 ^ 1], "content": one}
            for place, one in enumerate(texts)
        ]
    }
    return row | turns


@pairs("trl-preference-implicit", chosen=list, rejected=list)
def _implicit_pair(row: Row, source: str) -> list[PreferencePair]:
    """TRL's conversational preference with the prompt inside both conversations.

    If both contain only an answer, the question is in another column.
    """
    alone = asks(row) and messages(row["chosen"], "chosen")[0].role == "assistant"
    asked = asked_in(row) if alone else []
    return [_chat_pair(row, source, [_user(asked)] if isinstance(asked, str) else asked)]


@pairs("llamafactory-1", chosen_messages=list, rejected_messages=list)
def _llama_factory_pair(row: Row, source: str) -> list[PreferencePair]:
    """LLaMA-Factory 1: two conversations, contents in parts."""
    renamed = {key: row[f"{key}_messages"] for key in ("chosen", "rejected")}
    return [_chat_pair(row | renamed, source, [])]


@pairs("sharegpt", conversations=list, chosen=ANSWER, rejected=ANSWER)
def _sharegpt_pair(row: Row, source: str) -> list[PreferencePair]:
    return [_chat_pair(row, source, messages(row["conversations"], "conversations"))]


@pairs("openai-messages", messages=list, chosen=ANSWER, rejected=ANSWER)
def _messages_pair(row: Row, source: str) -> list[PreferencePair]:
    return [_chat_pair(row, source, messages(row["messages"], "messages"))]


def _chat_pair(row: Row, source: str, asked: Sequence[Message]) -> PreferencePair:
    """Both answers may repeat the prompt and share turns, but must differ only in the last one."""
    chosen, rejected = (_answer(row, key, asked) for key in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise Refused(
            '"chosen" and "rejected" differ before their last turn',
            "make both the same conversation up to the last answer",
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
        raise Refused(f'"{key}" does not end with an answer', "end with an assistant message")
    return turns


def _check_question(before: Sequence[Message], key: str) -> None:
    if not before or before[-1].role not in ("user", "tool"):
        raise Refused(f'"{key}" contains no question', "end the question with a user message")


def _user(content: str) -> Message:
    return Message(role="user", content=content)


# --- demonstrations ----------------------------------------------------------------------------


@demonstrations("trl-prompt-completion", prompt=(str, list), completion=(str, list, dict))
def _prompt_completion(row: Row, source: str) -> list[Demonstration]:
    """TRL's prompt-completion, standard or conversational; one per answer in a completion."""
    standard = isinstance(row["prompt"], str)
    asked = [_user(text(row, "prompt"))] if standard else messages(row["prompt"], "prompt")
    if isinstance(row["completion"], str):
        return [demonstration(row, source, asked, text(row, "completion"))]
    turns = _answer(row, "completion", asked)
    each = _each_answer(row, source, [*asked, *turns], "completion", start=len(asked))
    completion = row["completion"]
    kept = _flags(completion if isinstance(completion, list) else [completion], "completion")
    return [made for made, learnt in zip(each, kept[-len(each) :], strict=True) if learnt]


def _has_answer(key: str) -> Callable[[Row], bool]:
    """Whether the last turn is not a question; an unknown role is left to the reader."""

    def look(row: Row) -> bool:
        turns = list_at(row, key)
        return not turns or role_of(turns[-1]) not in ("user", "system", "tool")

    return look


@demonstrations("openai-messages", fits=_has_answer("messages"), messages=list)
def _openai(row: Row, source: str) -> list[Demonstration]:
    return _chat(row, source, "messages")


@demonstrations("sharegpt", fits=_has_answer("conversations"), conversations=list)
def _sharegpt(row: Row, source: str) -> list[Demonstration]:
    return _chat(row, source, "conversations")


def _chat(row: Row, source: str, key: str) -> list[Demonstration]:
    """One demonstration with all assistant turns.

    If some answers have weight 0, one demonstration for each of the others.
    """
    turns = messages(row[key], key)
    each, kept = _each_answer(row, source, turns, key), _flags(list_at(row, key), key)
    if not all(kept):
        return [made for made, learnt in zip(each, kept, strict=True) if learnt]
    last = each[-1]
    return [last.model_copy(update={"every_turn": True})] if len(each) > 1 else [last]


def _flags(items: Sequence[Json], key: str) -> list[bool]:
    """For each answer, in order, whether it is trained on."""
    present = [(turn, item) for item in items if (turn := message(item, key)) is not None]
    answers = [item for turn, item in present if turn.role == "assistant"]
    return [is_learnt(item) for item in answers if isinstance(item, dict)]  # as all messages are


def _each_answer(
    row: Row, source: str, turns: Sequence[Message], key: str, start: int = 0
) -> list[Demonstration]:
    """One demonstration per assistant turn from `start` on, with all turns before it as prompt."""
    answers = [n for n, turn in enumerate(turns) if turn.role == "assistant" and n >= start]
    if any(n == 0 or turns[n - 1].role not in ("user", "tool") for n in answers):
        raise Refused(
            f'an assistant message in "{key}" does not follow a user message',
            "put a user message before each assistant message, or remove the row",
        )
    return [demonstration(row, source, turns[:n], turns[n]) for n in answers]


def _has_pairs_of_turns(row: Row) -> bool:
    turns = list_at(row, "dialogue")
    return bool(turns) and len(turns) % 2 == 0


@demonstrations("dialogue", fits=_has_pairs_of_turns, dialogue=list)
def _dialogue(row: Row, source: str) -> list[Demonstration]:
    """Alternating texts that end with an answer (MOSS-RLHF writes them as bare lists)."""
    return _chat(_by_turns(row, "dialogue", last="assistant"), source, "dialogue")


_ANSWERED = ("response", "answer", "output", "completion", "target", "std_answer", "回答")


def _turns_in(row: Row) -> str:
    return next((key for key in _ANSWERED if _are_turns(row.get(key))), "") if asks(row) else ""


def _are_turns(value: Json) -> bool:
    items: list[Json] = value if isinstance(value, list) else [value]
    return bool(items) and all(isinstance(one, dict) and role_of(one) for one in items)


@demonstrations("question-turns", fits=_turns_in)
def _question_turns(row: Row, source: str) -> list[Demonstration]:
    """A question, and its answer as turns, under any of the usual names."""
    asked = asked_in(row)
    question: Json = asked if isinstance(asked, str) else [turn.model_dump() for turn in asked]
    answer = row[_turns_in(row)]
    return _prompt_completion(row | {"prompt": question, "completion": answer}, source)


# --- prompts -----------------------------------------------------------------------------------


@prompts("openai-messages", messages=list)
def _message_prompt(row: Row, source: str) -> list[Prompt]:
    return [_question(row, source, "messages")]


@prompts("sharegpt", conversations=list)
def _sharegpt_prompt(row: Row, source: str) -> list[Prompt]:
    return [_question(row, source, "conversations")]


@prompts("dialogue", dialogue=list)
def _dialogue_prompt(row: Row, source: str) -> list[Prompt]:
    last: Role = "user" if len(list_at(row, "dialogue")) % 2 else "assistant"
    return [_question(_by_turns(row, "dialogue", last=last), source, "dialogue")]


@prompts("trl-prompt", prompt=list)
def _conversational_prompt(row: Row, source: str) -> list[Prompt]:
    return [_question(row, source, "prompt")]


def _question(row: Row, source: str, key: str) -> Prompt:
    """All messages; a final answer is left out, since it is what the prompt asks for."""
    turns = messages(row[key], key)
    asked = turns[:-1] if turns and turns[-1].role == "assistant" else turns
    _check_question(asked, key)
    return prompt(row, source, asked)
