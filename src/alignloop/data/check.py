"""The analysis behind `alignloop data check`, before any training on the files."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from alignloop.data.containers import Table, tables_of
from alignloop.data.formats.answers import looks_like_an_answer
from alignloop.data.formats.labels import LABELS, label_keys
from alignloop.data.formats.made import AboutPrompt, Labelled, Made, prompt_of
from alignloop.data.formats.reading import MOST_UNREAD, Recognised, read_table
from alignloop.data.formats.registry import KINDS, Format, formats_named
from alignloop.data.languages import language_of
from alignloop.data.lengths import CountTokens, Lengths, Summary
from alignloop.data.refusals import Refusal
from alignloop.errors import UserError
from alignloop.records import Demonstration, PreferencePair, Prompt

MAX_REFUSED_KEPT = 1000  # refused rows listed one by one; beyond it only their number is kept
MAX_LABELS = 20
ONLY_PROMPTS_READ = "some keys look like answers, but only the prompts of these rows are read"
NOTES = {  # by format
    "rated-at-ends": "ratings were read from, and cut off, the ends of the answers: nothing else "
    "in the file shows which answer is better",
    "rated-text": "question, answers and ratings were all read from one text",
    "annotators": "each annotator's vote is a separate judgement; no majority is formed",
}
CHUNK_SIZE = 256  # records whose tokens are counted in one call: large enough to use all cores


@dataclass(frozen=True, kw_only=True)
class Report:
    """One file or split: its format and content. `as_json` gives it to programs.

    `references` and `metadata` count the rows in which a key was kept as such, `unread` those in
    which a key was ignored; `notes` lists guesses made in reading that the user should know of.
    """

    file: str
    split: str
    container: str
    encoding: str
    formats: dict[str, int]
    kind: str
    rows: int
    records: int
    refused: list[dict[str, int | str]]
    num_refused: int
    duplicates: int
    prompts: int
    shared_prompts: dict[str, int]
    tokens: Summary
    languages: dict[str, int]
    chosen_longer: float | None
    labels: dict[str, int]
    references: dict[str, int]
    metadata: dict[str, int]
    unread: dict[str, int]
    notes: list[str]

    @property
    def format(self) -> str:
        """The formats of the rows, the most frequent first."""
        return ", ".join(self.formats) or "unknown"

    def as_json(self) -> dict[str, object]:
        """All fields; `file`, `format`, `encoding`, `rows` and `refused` come first."""
        first: dict[str, object] = {"file": self.file, "format": self.format}
        first |= {"encoding": self.encoding, "rows": self.rows, "refused": self.refused}
        return {**first, **{key: value for key, value in vars(self).items() if key not in first}}


def check(
    sources: Sequence[str], count_tokens: CountTokens, format: str | None = None
) -> list[Report]:
    """Read every table of every source once, as a stream, and report what is in it.

    Of a record only a hash and a length are kept. Raises UserError for a missing source; if a table
    is damaged, the reason is listed among its refused rows.
    """
    formats = formats_named(format, KINDS)
    tables = [table for source in sources for table in tables_of(source)]
    tallies = [_tally(table, formats, count_tokens) for table in tables]
    # prompt hash -> bit mask of the tables that contain it
    where: dict[int, int] = {}
    for index, tally in enumerate(tallies):
        for prompt in tally.prompts:
            where[prompt] = where.get(prompt, 0) | 1 << index
    return [
        tally.report(_shared(index, tally, where, tables)) for index, tally in enumerate(tallies)
    ]


def _shared(
    index: int, tally: "_Tally", where: dict[int, int], tables: Sequence[Table]
) -> dict[str, int]:
    """How many of a table's prompts also occur in each other table."""
    found: Counter[str] = Counter()
    for prompt in tally.prompts:
        others = where[prompt] & ~(1 << index)
        while others:
            # lowest set bit: visits only the tables that share the prompt
            lowest = others & -others
            found[tables[lowest.bit_length() - 1].name] += 1
            others ^= lowest
    return dict(found)


@dataclass(kw_only=True)
class _Tally:
    """What is counted while a table is read."""

    table: Table
    formats: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    rows: int = 0
    records: int = 0
    refused: list[dict[str, int | str]] = field(default_factory=list[dict[str, int | str]])
    num_refused: int = 0
    seen: set[int] = field(default_factory=set[int])
    prompts: set[int] = field(default_factory=set[int])
    lengths: Lengths = field(default_factory=Lengths)
    languages: Counter[str] = field(default_factory=Counter[str])
    longer: list[int] = field(default_factory=lambda: [0, 0])
    labels: Counter[str] = field(default_factory=Counter[str])
    references: Counter[str] = field(default_factory=Counter[str])
    metadata: Counter[str] = field(default_factory=Counter[str])
    unread: Counter[str] = field(default_factory=Counter[str])
    notes: dict[str, None] = field(default_factory=dict[str, None])

    def refuse(self, line: int, reason: str) -> None:
        self.num_refused += 1
        if len(self.refused) < MAX_REFUSED_KEPT:
            self.refused.append({"line": line, "reason": reason})

    def label(self, name: str) -> None:
        if name in self.labels or len(self.labels) < MAX_LABELS:
            self.labels[name] += 1

    def _count_label(self, found: Recognised) -> None:
        """Count a row's label, whatever the row became; by its key if that is an unusual one."""
        for key in label_keys(found.row)[:1]:
            usual, given = key in LABELS, found.row[key]
            if isinstance(given, str | int) and (usual or found.format.kind == "labels"):
                self.label(str(given) if usual else f"{key} = {given}")

    def add(self, found: Recognised) -> None:
        self.formats[found.format.name, found.format.kind] += 1
        self._count_label(found)
        self.records += len(found.records)
        kept = found.kept
        for counter, names in (
            (self.references, [kept.reference_column] if kept.reference_column else []),
            (self.metadata, kept.metadata),
            (self.unread, found.unread),
        ):
            for name in names:
                if name in counter or len(counter) < MOST_UNREAD:
                    counter[name] += 1
        others = () if kept.reference_column else (*kept.columns, *found.unread)
        if found.format.kind == "prompts" and any(map(looks_like_an_answer, others)):
            self.notes[ONLY_PROMPTS_READ] = None
        if note := NOTES.get(found.format.name):
            self.notes[note] = None
        self.seen.update(_number(_content(record)) for record in found.records)
        for record in found.records:
            if isinstance(record, PreferencePair):
                self.longer[0] += len(record.chosen) > len(record.rejected)
                self.longer[1] += 1
                if record.preference == 0.5:
                    self.label("tie")

    def report(self, shared: dict[str, int]) -> Report:
        kinds = Counter(kind for (_, kind), rows in self.formats.items() for _ in range(rows))
        names: Counter[str] = Counter()
        for (name, _), rows in self.formats.items():
            names[name] += rows
        return Report(
            file=self.table.name,
            split=self.table.split,
            container=self.table.container,
            encoding=self.table.encoding.name,
            formats=dict(names.most_common()),
            kind=kinds.most_common(1)[0][0] if kinds else "unknown",
            rows=self.rows,
            records=self.records,
            refused=self.refused,
            num_refused=self.num_refused,
            duplicates=self.records - len(self.seen),
            prompts=len(self.prompts),
            shared_prompts=shared,
            tokens=self.lengths.summary(),
            languages=dict(self.languages.most_common()),
            chosen_longer=self.longer[0] / self.longer[1] if self.longer[1] else None,
            labels=dict(self.labels.most_common()),
            references=dict(self.references.most_common()),
            metadata=dict(self.metadata.most_common()),
            unread=dict(self.unread.most_common()),
            notes=list(self.notes),
        )


def _tally(table: Table, formats: Sequence[Format], count_tokens: CountTokens) -> _Tally:
    tally = _Tally(table=table)
    waiting: list[list[str]] = []
    try:
        for found in read_table(table, formats):
            tally.rows += 1
            if isinstance(found, Refusal):
                tally.refuse(found.line, found.problem)
                continue
            tally.add(found)
            for record in found.records:
                waiting.append(_note_record(record, tally))
            if len(waiting) >= CHUNK_SIZE:
                _measure(waiting, tally, count_tokens)
    except UserError as error:  # the table ends here; report what was read
        line = error.where.rpartition(":")[2]
        tally.refuse(int(line) if line.isdigit() else tally.rows + 1, error.problem)
    _measure(waiting, tally, count_tokens)
    return tally


def _note_record(record: Made, tally: _Tally) -> list[str]:
    """Count prompt and language; returns the texts of the prompt and of the responses."""
    if isinstance(record, str):
        tally.languages[language_of(record)] += 1
        return ["", record]
    prompt = prompt_of(record)
    tally.prompts.add(_number(_prompt_content(prompt)))
    question = "\n".join(message.content for message in prompt.messages)
    tally.languages[language_of(prompt.text)] += 1
    return [question, *_responses(record)]


def _measure(waiting: list[list[str]], tally: _Tally, count_tokens: CountTokens) -> None:
    """Count tokens of prompt plus response, for each response."""
    counts = iter(count_tokens([text for texts in waiting for text in texts]))
    for texts in waiting:
        prompt, *responses = (next(counts) for _ in texts)
        for response in responses or [0]:
            tally.lengths.add(prompt + response)
    waiting.clear()


def _responses(record: AboutPrompt) -> list[str]:
    if isinstance(record, PreferencePair):
        return [record.chosen, record.rejected]
    return [record.response] if isinstance(record, Demonstration | Labelled) else []


def _prompt_content(prompt: Prompt) -> list[object]:
    """The model's input: turns with their calls and results, and the tools it may call."""
    return [*(message.model_dump() for message in prompt.messages), *prompt.tools]


def _content(record: Made) -> object:
    """The content by which records are duplicates: prompt and answers, whatever their ids."""
    if isinstance(record, str):
        return record
    if isinstance(record, Prompt):
        return _prompt_content(record)
    answers = record.answers if isinstance(record, PreferencePair) else (record.answer,)
    good = [record.good] if isinstance(record, Labelled) else []
    return [_prompt_content(record.prompt), *(answer.model_dump() for answer in answers), *good]


def _number(content: object) -> int:
    """An 8-byte hash of a text: among a billion, any two collide with a chance of 1 in 37."""
    text = json.dumps(content, ensure_ascii=False)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
