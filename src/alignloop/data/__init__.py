"""Readers and writers of records, chat templates, tokenising, batches, splits.

`containers` opens files, `formats` recognises what their rows hold, `check` and `convert` implement
`alignloop data`. All of these, `splits` and the names below need neither torch nor transformers;
`alignloop.data.tokenise` and `alignloop.data.batching` are imported when a stage starts.
"""

from alignloop.data.files import read_objects, read_records, write_records
from alignloop.data.formats import prompt_id, read_demonstrations, read_pairs, read_prompts
from alignloop.data.splits import split_by_prompt

__all__ = [
    "prompt_id",
    "read_demonstrations",
    "read_objects",
    "read_pairs",
    "read_prompts",
    "read_records",
    "split_by_prompt",
    "write_records",
]
