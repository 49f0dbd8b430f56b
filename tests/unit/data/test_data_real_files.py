"""Files that other people published: recognised without a word, with the row counts they have."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alignloop.data import read_demonstrations, read_pairs, read_prompts
from alignloop.data.containers import tables_of
from alignloop.data.formats.reading import Recognised, read_table
from alignloop.data.formats.registry import KINDS, formats_named

DATA = Path(__file__).parents[4] / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real data are not here")

# File: format, records of all rows, lines that are refused.
FILES: dict[str, tuple[str, int, list[int]]] = {
    "pref_en/hh_harmless_base_test.jsonl.gz": ("hh-rlhf", 2308, [87, 517, 926, 1104]),
    "pref_en/llamafactory_dpo_en_demo.json": ("sharegpt", 299, []),
    "pref_en/llamafactory_kto_en_demo.json": ("kto", 300, []),
    "pref_en/llmbar_faireval.json": ("llmbar", 66, []),
    # Four predictions per question: C(4, 2) pairs each.
    "pref_en/finegrained_qa_dev_feedback.json.gz": ("preference-table", 500 * 6, []),
    "pref_en/torchtune_stack_exchange_paired_tiny.json": ("stack-exchange-paired", 25, []),
    "pref_zh/llamafactory_dpo_zh_demo.json": ("sharegpt", 300, []),
    "pref_zh/medicalgpt_dpo_zh_500.jsonl": ("sharegpt", 499, []),
    "pref_zh/jade_v3_pairs_dev.jsonl": ("jade", 408, []),
    "demos/llamafactory_identity.json": ("alpaca", 91, []),
    "demos/selfinstruct_seed_tasks.jsonl": ("self-instruct", 175, []),
    "demos/belle_zh_seed_tasks.jsonl": ("self-instruct", 175, []),
    "demos/oasst_en_100_tree.jsonl.gz": ("open-assistant", 754, []),
    "demos/gsm8k_train_first2000.jsonl": ("question-answer", 2000, []),
    "demos/tinker_conversations.jsonl": ("openai-messages", 128, []),
    "demos/chatterbot_en.jsonl": ("chatterbot", 4419 - 2026 - 87, [1779]),
    "demos/chatterbot_zh.jsonl": ("chatterbot", 1019 - 467, []),
    "helpful/vicuna_bench_question.jsonl": ("turns", 80, []),
    "helpful/koala_test_set.jsonl": ("prompt", 180, []),
    "safety/advbench_harmful_behaviors.csv": ("advbench", 520, []),
    "safety/cvalues_responsibility_prompts.jsonl": ("prompt", 664, []),
    "safety/jade_v1_en.csv": ("jade-questions", 80, []),
    "safety/jade_v1_zh.csv": ("jade-questions", 91, []),
    "bias/bbq_Age.jsonl.gz": ("multiple-choice", 3680, []),
    "bias/bbq_Nationality.jsonl.gz": ("multiple-choice", 3080, []),
    "bias/cbbq_educational_qualification_ambiguous.jsonl": ("multiple-choice", 300, []),
    "bias/cbbq_educational_qualification_disambiguous.jsonl": ("multiple-choice", 300, []),
}


def rows_in_sources() -> dict[str, int]:
    """The row counts of SOURCES.md by file name."""
    text = (DATA / "SOURCES.md").read_text(encoding="utf-8")
    return {name: int(rows) for name, rows in re.findall(r"^\| (\S+) \| (\d+)", text, re.M)}


def everything(path: Path) -> list[Any]:
    (table,) = tables_of(path)
    return list(read_table(table, formats_named(None, KINDS)))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_read_with_its_row_count(name: str) -> None:
    format_, records, refused = FILES[name]
    found = everything(DATA / name)
    good = [one for one in found if isinstance(one, Recognised)]
    assert len(found) == rows_in_sources()[Path(name).name]
    assert Counter(one.format.name for one in good) == {format_: len(found) - len(refused)}
    assert sum(len(one.records) for one in good) == records
    assert [one.line for one in found if not isinstance(one, Recognised)] == refused


def test_every_file_of_preferences_demonstrations_and_prompts_is_in_the_table() -> None:
    folders = ("pref_en", "pref_zh", "demos", "helpful", "safety", "bias")
    there = {f"{folder}/{path.name}" for folder in folders for path in (DATA / folder).iterdir()}
    assert there == set(FILES)


def test_ranked_trees() -> None:
    # 212 groups of siblings have a rank 0 and a rank 1; their answers by rank, counted with jq:
    # 155 have a third, 38 a fourth, 11, 8, 2, 2 and 1 more. The sum of C(K, 2) is 754.
    path = DATA / "demos" / "oasst_en_100_tree.jsonl.gz"
    pairs = read_pairs(path)
    assert len(pairs) == 212 + 2 * 155 + 3 * 38 + 4 * 11 + 5 * 8 + 6 * 2 + 7 * 2 + 8 * 1
    assert sum(pair.weight for pair in pairs) == pytest.approx(212)
    # 641 ranked answers and 46 that are not.
    assert len(read_demonstrations(path)) == 641 + 46
    assert len(read_prompts(path)) == 480


def test_preference_tables_hold_every_judgement() -> None:
    pairs = read_pairs(DATA / "pref_en" / "finegrained_qa_dev_feedback.json.gz")
    first = [(pair.chosen[-12:], pair.preference) for pair in pairs[:6]]
    # The first row's preference is [0, 1, 2, 1, 0, 2].
    assert [preference for _, preference in first] == [0.5, 1.0, 1.0, 1.0, 0.5, 1.0]
    assert sum(pair.weight for pair in pairs) == pytest.approx(500)


def test_a_multi_turn_transcript_shares_all_but_the_last_turn() -> None:
    path = DATA / "pref_en" / "hh_harmless_base_test.jsonl.gz"
    pairs = read_pairs(path, skip_refused=True)
    turns = Counter(len(pair.prompt.messages) for pair in pairs)
    assert turns[1] > 500 and turns[3] > 500 and all(count % 2 for count in turns)
