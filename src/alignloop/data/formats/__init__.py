"""Formats of other people's files: one small function per format, found by its keys.

A new format is one function with the decorator of what it holds, in the file of its kind:

    @demonstrations("my-format", question=str, answer=str)
    def _mine(row: Row, source: str) -> list[Demonstration]:
        return [demonstration(row, source, text(row, "question"), text(row, "answer"))]

Where a row fits several formats, the one that is registered first reads it: the order of the
imports below, and within a file from top to bottom.
"""

# isort: off
from alignloop.data.formats import own as own
from alignloop.data.formats import label_studio as label_studio
from alignloop.data.formats import argilla as argilla
from alignloop.data.formats import tools_of_annotation as tools_of_annotation
from alignloop.data.formats import labels as labels
from alignloop.data.formats import graded as graded
from alignloop.data.formats import conversations as conversations
from alignloop.data.formats import texts as texts
from alignloop.data.formats import transcripts as transcripts
from alignloop.data.formats import published as published
from alignloop.data.formats import judged as judged
from alignloop.data.formats import trees as trees
from alignloop.data.formats import questions as questions
from alignloop.data.formats import unjudged as unjudged

# isort: on
from alignloop.data.formats.made import Labelled
from alignloop.data.formats.parts import prompt_id
from alignloop.data.formats.reading import read_demonstrations, read_pairs, read_prompts

__all__ = ["Labelled", "prompt_id", "read_demonstrations", "read_pairs", "read_prompts"]
