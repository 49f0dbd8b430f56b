"""Two texts with a common beginning: hh-rlhf transcripts, and TRL's implicit prompt."""

import re
from itertools import takewhile

from alignloop.data.formats.parts import pair, text
from alignloop.data.formats.registry import Refused, Row, pairs
from alignloop.data.narrow import text_at
from alignloop.records import Message, PreferencePair

_MARKER = re.compile(r"\n\n(Human|Assistant):")


def _is_transcript(row: Row) -> bool:
    return all(text_at(row, key).lstrip().startswith(("Human:", "Assistant:")) for key in _BOTH)


_BOTH = ("chosen", "rejected")


@pairs("hh-rlhf", fits=_is_transcript, chosen=str, rejected=str)
def _transcripts(row: Row, source: str) -> list[PreferencePair]:
    """Two transcripts that are equal up to their last assistant turn, which is the response."""
    chosen, rejected = _turns(row, "chosen"), _turns(row, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise Refused(
            '"chosen" and "rejected" differ before their last turn',
            "make both transcripts the same conversation up to the last answer",
        )
    return [pair(row, source, chosen[:-1], chosen[-1].content, rejected[-1].content)]


@pairs("trl-preference-implicit", chosen=str, rejected=str)
def _implicit_prompt(row: Row, source: str) -> list[PreferencePair]:
    """TRL's standard preference without a prompt, which is the common beginning of both texts.

    As in TRL, a space at its end belongs to the answers.
    """
    chosen, rejected = text(row, "chosen"), text(row, "rejected")
    alike = takewhile(lambda both: both[0] == both[1], zip(chosen, rejected, strict=False))
    shared = "".join(character for character, _ in alike)
    asked = shared.removesuffix(" ")
    if not asked.strip():
        raise Refused(
            '"chosen" starts neither with a blank line and "Human:" nor like "rejected"',
            'write "\\n\\nHuman: ...\\n\\nAssistant: ...", or add the key "prompt"',
        )
    answers = {"chosen": chosen[len(asked) :], "rejected": rejected[len(asked) :]}
    return [pair(row, source, asked, text(answers, "chosen"), text(answers, "rejected"))]


def _turns(row: Row, key: str) -> list[Message]:
    """Cut a transcript at its markers; successive turns of one speaker become one turn."""
    head, *parts = _MARKER.split(f"\n\n{text(row, key).lstrip()}")
    assert not head, "the format was chosen by the marker at the start"
    turns: list[tuple[str, str]] = []
    for speaker, content in zip(parts[::2], parts[1::2], strict=True):
        if turns and turns[-1][0] == speaker:
            content = f"{turns.pop()[1]}\n\n{content.strip()}"
        turns.append((speaker, content.strip()))
    return _checked_turns(turns, key)


def _checked_turns(turns: list[tuple[str, str]], key: str) -> list[Message]:
    if len(turns) < 2 or turns[0][0] != "Human" or turns[-1][0] != "Assistant":
        raise Refused(
            f'the transcript in "{key}" does not go from a question to an answer',
            'start with "\\n\\nHuman:" and end with an answer after "\\n\\nAssistant:"',
        )
    if not all(content for _, content in turns):
        what = "response" if not turns[-1][1] else "turn"
        raise Refused(f'the transcript in "{key}" has an empty {what}', "remove the row")
    return [
        Message(role="user" if speaker == "Human" else "assistant", content=content)
        for speaker, content in turns
    ]
