"""`alignloop data check`: what it finds, by hand, for people and for programs."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignloop.cli import main
from alignloop.data import read_pairs, read_prompts
from alignloop.data.check import Report, check
from alignloop.data.formats.used import in_words
from alignloop.data.languages import language_of
from alignloop.data.lengths import Lengths, load_counter
from alignloop.errors import UserError
from alignloop.playground import BASE_MODEL


def words(texts: Any) -> list[int]:
    """A tokenizer of one token per word."""
    return [len(text.split()) for text in texts]


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def report_of(path: Path, **settings: Any) -> Report:
    (report,) = check([str(path)], words, **settings)
    return report


PAIR = {"prompt": "what is the sum", "chosen": "it is five", "rejected": "six"}


def test_pairs(tmp_path: Path) -> None:
    longer = {**PAIR, "rejected": "it is certainly six or seven"}
    path = write(tmp_path / "a.jsonl", PAIR, PAIR, longer, {**PAIR, "chosen": ""}, "{broken")
    report = report_of(path)
    assert (report.format, report.kind, report.encoding) == ("trl-preference", "pairs", "UTF-8")
    assert (report.rows, report.records, report.num_refused) == (5, 3, 2)
    assert [item["line"] for item in report.refused] == [4, 5]
    assert report.refused[0]["reason"] == '"chosen" is empty'
    assert report.refused[1]["reason"].startswith("broken JSON")
    assert (report.duplicates, report.prompts) == (1, 1)
    assert report.chosen_longer == pytest.approx(2 / 3)
    assert report.languages == {"en": 3}
    # Prompt of 4 words; answers of 3, 1, 3, 1, 3 and 6.
    assert report.tokens["count"] == 6
    assert [report.tokens[key] for key in ("min", "median", "max")] == [5, 7, 10]
    assert report.tokens["histogram"] == [{"up_to": 16, "count": 6}]


def test_answers_beside_a_prompt_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"question": "q", "reference_answer": "a", "difficulty": 2})
    report = report_of(path)
    assert (report.format, report.unread, report.notes) == ("question", {}, [])
    assert (report.references, report.metadata) == ({"reference_answer": 1}, {"difficulty": 1})
    path = write(tmp_path / "a.jsonl", {"question": "q", "answer_a": "a", "answer_b": "b"})
    report = report_of(path)
    assert report.metadata == {"answer_a": 1, "answer_b": 1}
    assert any("only the prompts" in note for note in report.notes)
    assert report_of(write(tmp_path / "b.jsonl", PAIR)).unread == {}


def test_every_key_that_is_kept_or_not_read_is_named(tmp_path: Path) -> None:
    said = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a", "mood": [1]},
    ]
    rows = [{"messages": said, "skills": [{"x": 1}], "clips": ["p"], "id": n} for n in range(3)]
    rows += [{"messages": [*said[:1], {"role": "assistant", "content": "b"}], "note": "", "id": 9}]
    found = report_of(write(tmp_path / "a.jsonl", *rows))
    assert found.metadata == {"id": 4, "skills": 3, "clips": 3}
    assert found.unread == {"mood in messages": 3}
    words_ = "id in 4 of 4 rows; skills, clips in 3 of 4 rows"
    assert in_words(found.metadata, found.rows) == words_


@pytest.mark.parametrize(
    ("row", "kept", "unread"),
    [
        ({**PAIR, "margin": 1, "system": "s", "level": 2, "extra": [], "more": None},
         {"level"}, set()),
        ({"question": "q", "answer_a": "x", "answer_b": "y", "winner": "A", "why": "z"},
         {"why"}, set()),
        ({"instruction": "q", "output": "a", "input": "", "history": [["b", "c"]]}, set(), set()),
        ({"prompt": "q", "completion": "a", "label": True, "rating": 3}, set(), {"rating"}),
        ({"问题": "q", "回答A": "x", "评分A": 6, "回答B": "y", "评分B": 9, "谁": "w"},
         {"谁"}, set()),
        ({**PAIR, "answer": "five", "score_chosen": 3, "chosen-rating": 1, "分类": "数学"},
         {"answer", "分类"}, {"score_chosen", "chosen-rating"}),
        (
            {"prompt": {"prompt_id": "p", "messages": [{"role": "user", "content": "q"}]},
             "response": "a", "source": "s"},
            set(), set(),
        ),
        ({"history": "q", "human_ref_A": "x", "human_ref_B": "y", "labels": 1.0, "score_A": 3},
         set(), {"score_A"}),
    ],
)  # fmt: skip
def test_what_is_read_is_not_called_unread(
    tmp_path: Path, row: dict[str, Any], kept: set[str], unread: set[str]
) -> None:
    found = report_of(write(tmp_path / "a.jsonl", row))
    assert (set(found.metadata), set(found.unread), found.num_refused) == (kept, unread, 0)


def test_ratings_at_the_ends_of_answers_are_told(tmp_path: Path) -> None:
    row = {"问题": "q", "回答A": "x（6 分）", "回答B": "y（9 分）"}
    report = report_of(write(tmp_path / "a.jsonl", row))
    assert report.format == "rated-at-ends" and "ends of the answers" in report.notes[0]
    rows = [{**row, "winner": "A"}, {**row, "winner": "B"}]
    assert report_of(write(tmp_path / "a.jsonl", *rows)).notes == []


def test_stages_name_what_they_do_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.jsonl", *[{**PAIR, "id": n, "score_a": 1} for n in range(2)])
    read_pairs(path)
    assert "not read: score_a in 2 of 2 rows" in caplog.text
    caplog.clear()
    read_prompts(path)
    assert "not read" not in caplog.text


def test_a_file_whose_column_cannot_be_decided(tmp_path: Path) -> None:
    row = {"question": "q", "answer_a": "x", "answer_b": "y", "winner": 1}
    report = report_of(write(tmp_path / "a.jsonl", row, row))
    assert report.records == 0 and "may count from 0 or from 1" in report.refused[0]["reason"]


def test_labels_under_other_names_are_counted_by_name(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "response": f"a{n}", "is_safe": n > 0} for n in range(3)]
    assert report_of(write(tmp_path / "a.jsonl", *rows)).labels == {
        "is_safe = True": 2,
        "is_safe = False": 1,
    }
    pairs = [PAIR | {"is_safe": True}]
    assert report_of(write(tmp_path / "b.jsonl", *pairs)).labels == {}


def test_labels_and_ties(tmp_path: Path) -> None:
    kto = [{"prompt": f"q {n}", "completion": "a", "label": n < 2} for n in range(5)]
    assert report_of(write(tmp_path / "k.jsonl", *kto)).labels == {"False": 3, "True": 2}
    bar = [{"input": "q", "output_1": "a", "output_2": "b", "label": 1}]
    assert report_of(write(tmp_path / "b.jsonl", *bar)).labels == {"1": 1}
    rated = [{"prompt": "q", "responses": ["a", "b"], "scores": [1, 1]}]
    assert report_of(write(tmp_path / "r.jsonl", *rated)).labels == {"tie": 1}


def test_prompts_in_more_than_one_file(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", *[{"prompt": f"q {n}"} for n in range(4)])
    test = write(tmp_path / "test.jsonl", {"prompt": "q 3", "response": "a"}, {"prompt": "q 9"})
    other = write(tmp_path / "other.jsonl", {"prompt": "q 10"})
    found = {report.file: report for report in check([str(tmp_path)], words)}
    assert found[str(train)].shared_prompts == {str(test): 1}
    assert found[str(test)].shared_prompts == {str(train): 1}
    assert found[str(other)].shared_prompts == {}
    assert [found[str(path)].split for path in (train, test, other)] == ["train", "test", ""]
    assert found[str(test)].formats == {"prompt-response": 1, "prompt": 1}


def test_a_format_by_name_refuses_other_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", PAIR, {"instruction": "q", "output": "a"})
    assert report_of(path, format="alpaca").num_refused == 1


def test_a_table_that_ends_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"prompt": "q"},\n {"prompt": "r"},\n {"prompt"')
    report = report_of(path)
    assert (report.records, report.num_refused, report.refused[0]["line"]) == (2, 1, 3)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the answer to this?", "en"),
        ("什么是租约？", "zh"),
        ("用 Python 写一个 list", "zh"),
        ("これは何ですか", "ja"),
        ("이것은 무엇입니까", "ko"),
        ("Что это такое?", "ru"),
        ("Was ist das für ein Haus und wie", "de"),
        ("Quelle est la capitale de la France", "fr"),
        ("xyzzy", "latin"),
        ("用pandas把DataFrame按groupby聚合", "zh"),
        ("请解释 TensorFlow DataLoader num_workers prefetch_factor 参数", "zh"),
        (
            "为什么报错？\n```python\nfor i in range(10):\n    print(the_list_of_things[i])\n```",
            "zh",
        ),
        ("解释`numpy.broadcast_to(array, shape, subok=False)`", "zh"),
        ("```\nprint(1)\n```", "latin"),
        ("什么是https://example.org/a/very/long/address/in/english", "zh"),
        ("What does 你好 mean in English?", "en"),
        ("Как установить pandas и numpy в Python?", "ru"),
        ("pandasのDataFrameをgroupbyで集計する", "ja"),
        ("pandas로 DataFrame을 groupby 하는 법", "ko"),
        ("การเขียนโปรแกรมด้วย Python", "th"),
        ("no", "en"),
        ("No.", "en"),
        ("in", "en"),
        ("was that ok", "en"),
        ("die", "latin"),
        ("la", "latin"),
        ("Dónde está la biblioteca y por qué", "es"),
        ("Não sei o que é isso", "pt"),
        ("Che cosa è questo e perché", "it"),
        ("Waarom is het zo en hoe kan ik dat", "nl"),
        ("I die a little", "en"),
        ("123 !?", ""),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language


def test_the_histogram_counts_every_length_once() -> None:
    lengths = Lengths()
    for length in (0, 16, 17, 100, 10**6):
        lengths.add(length)
    found = lengths.summary()
    assert [(bin_["up_to"], bin_["count"]) for bin_ in found["histogram"] if bin_["count"]] == [
        (16, 2),
        (32, 1),
        (128, 1),
        (10**6, 1),
    ]
    assert (found["median"], found["p95"]) == (17, 10**6)


def test_a_tokenizer_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer here"):
        load_counter(tmp_path / "nothing")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        load_counter(tmp_path)


def test_the_playground_counts_tokens() -> None:
    assert load_counter(BASE_MODEL)(["", "a a a"])[0] == 0


# --- the command -------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = 0
    try:
        main(["data", *arguments])
    except SystemExit as ended:
        code = int(ended.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_json_and_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path / "good.jsonl", PAIR)
    bad = write(tmp_path / "bad.jsonl", PAIR, {**PAIR, "rejected": "it is five"})
    code, out, _ = run(capsys, "check", "--json", str(good))
    (found,) = json.loads(out)
    assert code == 0
    assert list(found)[:5] == ["file", "format", "encoding", "rows", "refused"]
    assert (found["file"], found["rows"], found["refused"]) == (str(good), 1, [])
    code, out, _ = run(capsys, "check", "--json", str(good), str(bad))
    assert code == 1
    assert [len(one["refused"]) for one in json.loads(out)] == [0, 1]
    code, out, err = run(capsys, "check", str(tmp_path / "god.jsonl"))
    assert (code, out) == (2, "") and "did you mean good.jsonl" in err
    code, _, err = run(capsys, "check", "--format", "alpacca", str(good))
    assert code == 2 and 'no format is named "alpacca"' in err


def test_the_table_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    write(tmp_path / "[bold].jsonl", PAIR, *[{**PAIR, "chosen": ""}] * 12)
    code, out, _ = run(capsys, "check", "[bold].jsonl")
    assert code == 1
    assert "[bold].jsonl" in out and "trl-preference" in out and "█" in out
    assert "the playground's tokenizer" in out
    assert '[bold].jsonl:2: "chosen" is empty' in out and "and 2 more refused rows" in out
    assert "100.0% of the pairs" in out and "en 1" in out
    code, out, _ = run(capsys, "check", "[bold].jsonl", "--tokenizer", str(BASE_MODEL))
    assert str(BASE_MODEL.name) in out.replace("\n", "")


def test_names_of_files_stay_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / ("a folder with a name that is rather long, " * 3)
    folder.mkdir()
    path = write(folder / "pairs-2026-11-30-second-annotators.jsonl", PAIR)
    _, out, _ = run(capsys, "check", str(path))
    assert sum(str(path) in line for line in out.splitlines()) == 2  # the table, and its part


def test_a_small_file_needs_no_heavy_library(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = write(tmp_path / "a.jsonl", PAIR)
    code = (
        "import sys\nfrom alignloop.cli import main\n"
        f"main(['data', 'check', {str(path)!r}])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'pandas', 'datasketch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
