"""`alignloop data convert`: round trips are the identity, splits and exclusions keep their word."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignloop.cli import main
from alignloop.data import prompt_id, read_demonstrations, read_pairs, read_prompts, write_records
from alignloop.data.convert import convert
from alignloop.errors import UserError
from alignloop.records import Demonstration, Message, PreferencePair, Prompt

TEXT = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: bool(text.strip()))
WORD = st.text(st.characters(codec="utf-8"), max_size=5)
NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
VALUE = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | WORD
METADATA = st.dictionaries(
    WORD | st.sampled_from(["answer", "metadata", "label", "prompt"]),
    VALUE | st.lists(VALUE, max_size=2) | st.dictionaries(WORD, VALUE, max_size=2),
    max_size=3,
)


@st.composite
def made_prompts(draw: Any, *, every_turn: bool = False) -> Prompt:
    """A conversation that ends with a question, with a system message or without."""
    exchanges = draw(st.integers(1 if every_turn else 0, 2))
    turns = [Message(role="system", content=draw(TEXT))] if draw(st.booleans()) else []
    for _ in range(exchanges):
        turns.append(Message(role="user", content=draw(TEXT)))
        turns.append(Message(role="assistant", content=draw(TEXT)))
    turns.append(Message(role="user", content=draw(TEXT)))
    return Prompt(
        prompt_id=draw(NAME),
        messages=tuple(turns),
        source=draw(WORD),
        category=draw(WORD),
        language=draw(WORD),
        reference=draw(st.none() | TEXT | st.lists(TEXT, min_size=1, max_size=2).map(tuple)),
        metadata=draw(METADATA),
    )


@st.composite
def made_demonstrations(draw: Any) -> Demonstration:
    every_turn = draw(st.booleans())
    prompt = draw(made_prompts(every_turn=every_turn))
    return Demonstration(
        prompt=prompt, response=draw(TEXT), source=draw(WORD), every_turn=every_turn
    )


@st.composite
def made_pairs(draw: Any) -> PreferencePair:
    chosen, rejected = draw(
        st.tuples(TEXT, TEXT).filter(lambda both: both[0].strip() != both[1].strip())
    )
    return PreferencePair(
        prompt=draw(made_prompts()),
        chosen=chosen,
        rejected=rejected,
        preference=draw(st.floats(0.5, 1.0, exclude_min=True)),  # TRL knows no tie
        margin=draw(st.floats(0, 3)),
        weight=draw(st.floats(1e-6, 10)),
        source=draw(WORD),
        comparison_id=draw(WORD),
    )


RECORDS = {
    "pairs": (made_pairs(), read_pairs),
    "demonstrations": (made_demonstrations(), read_demonstrations),
    "prompts": (made_prompts(), read_prompts),
}
quietly = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.slow
@pytest.mark.parametrize("way", [("own",), ("trl",), ("trl", "own", "trl")])
@pytest.mark.parametrize("kind", RECORDS)
@quietly
@given(data=st.data())
def test_round_trips_are_the_identity(
    tmp_path: Path, kind: str, way: tuple[str, ...], data: Any
) -> None:
    strategy, read = RECORDS[kind]
    unique = (lambda record: record.prompt_id) if kind == "prompts" else None
    records = data.draw(st.lists(strategy, min_size=1, max_size=3, unique_by=unique))
    path = tmp_path / "start.jsonl"
    write_records(path, records)
    for place, step in enumerate(way):
        following = tmp_path / f"step{place}.jsonl.gz"
        to = kind if step == "own" else "trl"
        convert(str(path), following, to, overwrite=True)  # type: ignore[arg-type]
        path = following
    expected = answers_of(records) if "trl" in way else records
    assert read(path) == expected


def answers_of(records: list[Any]) -> list[Any]:
    """As TRL has them: a demonstration for each answer of a conversation."""
    made: list[Any] = []
    for one in records:
        if not isinstance(one, Demonstration) or not one.every_turn:
            made.append(one)
            continue
        turns = one.prompt.messages
        for place in (n for n, turn in enumerate(turns) if turn.role == "assistant"):
            cut = {"messages": turns[:place], "prompt_id": prompt_id(turns[:place])}
            asked = one.prompt.model_copy(update=cut)
            told = {"prompt": asked, "response": turns[place].content, "every_turn": False}
            made.append(one.model_copy(update=told))
        made.append(one.model_copy(update={"every_turn": False}))
    return made


def rows_file(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_labels_convert_to_trl_and_to_pairs(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "completion": text, "label": text == "A"} for text in "AB"]
    path = rows_file(tmp_path / "in.jsonl", *rows)
    convert(str(path), tmp_path / "trl.jsonl", "trl")
    lines = (tmp_path / "trl.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == [True, False]
    convert(str(tmp_path / "trl.jsonl"), tmp_path / "pairs.jsonl", "pairs")
    assert [(p.chosen, p.rejected) for p in read_pairs(tmp_path / "pairs.jsonl")] == [("A", "B")]


def test_each_prompt_is_written_once(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "in.jsonl", {"prompt": "Q"}, {"prompt": "R"}, {"prompt": "Q"})
    assert convert(str(path), tmp_path / "out.jsonl", "prompts")["written"] == 2


def test_repeated_prompts_are_counted(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "in.jsonl", *[{"prompt": "Q"}] * 3, {"prompt": "R"})
    counts = convert(str(path), tmp_path / "out.jsonl", "prompts")
    assert counts == {"written": 2, "repeated prompts left out": 2}


# --- what is there stays -----------------------------------------------------------------------


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "in.jsonl", {"prompt": "Q", "response": "A"})
    (tmp_path / "link.jsonl").symlink_to(path)
    (tmp_path / "hard.jsonl").hardlink_to(path)
    before = content_of(tmp_path)
    for name in ("in.jsonl", "link.jsonl", "hard.jsonl", f"../{tmp_path.name}/in.jsonl"):
        for overwrite in (False, True):
            with pytest.raises(UserError, match="this is the source"):
                convert(str(path), tmp_path / name, "prompts", overwrite=overwrite)
    # a file within the folder that is read would be read the next time
    with pytest.raises(UserError, match="this is the source"):
        convert(str(tmp_path), tmp_path / "new.jsonl", "prompts", overwrite=True)
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("split", [False, True])
def test_a_file_that_is_there_is_replaced_only_where_that_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], split: bool
) -> None:
    path = rows_file(tmp_path / "in.jsonl", *[{"prompt": f"q{n}"} for n in range(40)])
    there = tmp_path / ("out.test.jsonl" if split else "out.jsonl")
    there.write_text("mine\n")
    words = ["data", "convert", str(path), str(tmp_path / "out.jsonl"), "--to", "prompts"]
    words += ["--split", "train=0.5", "--split", "test=0.5"] if split else []
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert there.read_text() == "mine\n" and len(list(tmp_path.iterdir())) == 2
    main([*words, "--overwrite"])
    assert there.read_text() != "mine\n"


def test_the_split_that_is_read_is_said_where_a_person_sees_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "test"):
        rows_file(data / f"{name}.jsonl", {"prompt": name})
    words = ["data", "convert", "data", "out.jsonl", "--to", "prompts"]
    done = subprocess.run(
        [sys.executable, "-m", "alignloop", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "data: reading only the split train, not test" in done.stderr
    assert done.stdout == "written: 1\n"


# --- TRL ---------------------------------------------------------------------------------------


def trl_lines(tmp_path: Path, *rows: dict[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    path = rows_file(tmp_path / "in.jsonl", *rows)
    counts = convert(str(path), tmp_path / "out.jsonl", "trl", overwrite=True)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], counts


def test_every_pair_for_trl_has_its_margin_and_ties_are_left_out(tmp_path: Path) -> None:
    rated = [
        {"prompt": f"Q{n}", "回答A": "x", "评分A": a, "回答B": "y", "评分B": b}
        for n, (a, b) in enumerate([(6, 9), (5, 5), (9, 2), (4, 3)])
    ]
    plain = {"prompt": "Q", "chosen": "A", "rejected": "B"}
    lines, counts = trl_lines(tmp_path, *rated, plain, {**plain, "preference": 0.7})
    assert [line["margin"] for line in lines] == [3.0, 3.0, 1.0, 0.0, 0.0]
    assert counts == {"written": 5, "ties left out": 1, "soft labels written as plain pairs": 1}
    assert [line["chosen"][0]["content"] for line in lines] == ["y", "x", "x", "A", "A"]


def test_only_ties_are_nothing_for_trl(tmp_path: Path) -> None:
    tie = {"prompt": "Q", "responses": ["a", "b"], "scores": [1, 1]}
    with pytest.raises(UserError, match=r"nothing left to write \(ties left out: 1\)"):
        trl_lines(tmp_path, tie)


def test_demonstrations_for_trl_have_one_layout(tmp_path: Path) -> None:
    roles = ("user", "assistant")
    said = [{"role": role, "content": f"{role} {n}"} for n in (1, 2) for role in roles]
    lines, _ = trl_lines(tmp_path, {"prompt": "Q", "response": "A"}, {"messages": said})
    columns = {tuple(sorted(line)) for line in lines}
    assert columns == {("completion", "prompt", "prompt_id", "source")}
    found = [([turn["content"] for turn in line["prompt"]], line["completion"]) for line in lines]
    assert found == [
        (["Q"], [{"role": "assistant", "content": "A"}]),
        (["user 1"], [{"role": "assistant", "content": "assistant 1"}]),
        (["user 1", "assistant 1", "user 2"], [{"role": "assistant", "content": "assistant 2"}]),
    ]
    assert len({line["prompt_id"] for line in lines}) == 3


# --- refused rows ------------------------------------------------------------------------------

GOOD, BAD = {"prompt": "Q", "response": "A"}, {"prompt": "Q", "response": ""}


def test_refused_rows_stop_the_conversion_and_nothing_is_written(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "in.jsonl", GOOD, *[BAD] * 12)
    with pytest.raises(UserError, match="12 rows are refused") as caught:
        convert(str(path), tmp_path / "out.jsonl", "demonstrations")
    assert str(caught.value).count('"response" is empty') == 10
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]


def test_skipped_rows_are_kept_with_their_reasons(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "in.jsonl", BAD, GOOD, {"response": "\ud800", "prompt": "Q"})
    with path.open("a") as stream:
        stream.write("{broken\n")
    counts = convert(str(path), tmp_path / "out.jsonl", "demonstrations", skip_refused=True)
    assert counts == {"written": 1, "refused": 3}
    kept = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert [(one["file"], one["line"]) for one in kept] == [(str(path), n) for n in (1, 3, 4)]
    assert [one["row"] for one in kept] == [BAD, {"response": "\ud800", "prompt": "Q"}, "{broken"]
    assert kept[0]["problem"] == '"response" is empty' and "write a text" in kept[0]["fix"]


def test_a_second_reading_replaces_its_own_refused_rows_only(tmp_path: Path) -> None:
    to = tmp_path / "run" / "refused.jsonl"
    first = rows_file(tmp_path / "first.jsonl", GOOD, BAD)
    second = rows_file(tmp_path / "second.jsonl", GOOD, BAD, BAD)
    for path in (first, second, first):
        read_demonstrations(path, skip_refused=True, refused_to=to)
    kept = [json.loads(line)["source"] for line in to.read_text().splitlines()]
    assert sorted(kept) == [str(first), str(second), str(second)]


def test_not_one_good_row_is_an_error_and_its_rows_are_not_written(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "in.jsonl", BAD)
    with pytest.raises(UserError, match='"response" is empty'):
        convert(str(path), tmp_path / "out.jsonl", "demonstrations", skip_refused=True)


# --- splits and held-out prompts ---------------------------------------------------------------


def test_a_prompt_has_the_same_split_in_every_file(tmp_path: Path) -> None:
    shares = {"train": 0.5, "test": 0.5}
    first = rows_file(tmp_path / "a.jsonl", *[{"prompt": f"q{n}"} for n in range(60)])
    rows = [{"prompt": f"q{n}", "chosen": "x", "rejected": "y"} for n in range(30, 90)]
    second = rows_file(tmp_path / "b.jsonl", *rows)
    convert(str(first), tmp_path / "one.jsonl", "prompts", shares=shares)
    convert(str(second), tmp_path / "two.jsonl", "pairs", shares=shares)
    found = {
        (name, split): {prompt.text for prompt in read_prompts(tmp_path / f"{name}.{split}.jsonl")}
        for name in ("one", "two")
        for split in shares
    }
    for name in ("one", "two"):
        assert not found[name, "train"] & (found["one", "test"] | found["two", "test"])
    assert len(found["one", "train"] | found["one", "test"]) == 60
    assert min(len(prompts) for prompts in found.values()) > 15


HELD_OUT = "What is the capital city of the Republic of Austria, please?"


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        (HELD_OUT, False),
        ("what is the capital city of the republic of austria please", False),  # exact but for case
        ("What is the capital city of the Republic of Austria, pls?", False),  # near
        ("What is the capital city of the Republic of Angola, tell me!", True),
        ("How do I bake bread?", True),
    ],
)
def test_held_out_prompts_and_near_duplicates_are_left_out(
    tmp_path: Path, prompt: str, kept: bool
) -> None:
    held = rows_file(tmp_path / "held.jsonl", {"prompt": HELD_OUT})
    path = rows_file(tmp_path / "in.jsonl", {"prompt": prompt}, {"prompt": "Another question?"})
    counts = convert(str(path), tmp_path / "out.jsonl", "prompts", exclude=[str(held)])
    assert counts["written"] == 1 + kept
    assert counts["exact"] + counts["near"] == 1 - kept


def test_with_the_share_1_only_equal_texts_are_left_out(tmp_path: Path) -> None:
    held = rows_file(tmp_path / "held.jsonl", {"prompt": HELD_OUT})
    near = {"prompt": HELD_OUT.replace("please", "pls")}
    path = rows_file(tmp_path / "in.jsonl", near, {"prompt": HELD_OUT})
    out = tmp_path / "out.jsonl"
    assert convert(str(path), out, "prompts", exclude=[str(held)], near_duplicate=1.0) == {
        "written": 1,
        "exact": 1,
    }


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "in.jsonl", {"prompt": "Q"})
    with pytest.raises(UserError, match="nothing left to write"):
        convert(str(path), tmp_path / "out.jsonl", "prompts", exclude=[str(path)])


# --- the command -------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rows_file(tmp_path / "in.jsonl", GOOD, BAD, {"prompt": "R", "response": "A"})
    held = rows_file(tmp_path / "held.jsonl", {"prompt": "R"})
    words = ["data", "convert", str(path), str(tmp_path / "out.jsonl"), "--to", "demonstrations"]
    main([*words, "--skip-refused", "--exclude", str(held)])
    assert capsys.readouterr().out == "written: 1, refused: 1, held out: 1\n"
    main([*words, "--skip-refused", "--split", "train=0.5", "--split", "test=0.5"])
    assert (tmp_path / "out.train.jsonl").exists() and (tmp_path / "out.test.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["out.txt", "--to", "pairs"], "output is JSONL"),
        (["out.jsonl", "--to", "nothing"], "invalid choice"),
        (["out.jsonl", "--to", "pairs"], "contains demonstrations, not pairs"),
        (["out.jsonl", "--to", "trl", "--split", "train"], "'train' is not a split"),
        (["out.jsonl", "--to", "trl", "--split", "a/b=1"], "'a/b' is not a valid name"),
        (["out.jsonl", "--to", "trl", "--split", "a=0.5"], "shares must be positive"),
        (["out.jsonl", "--to", "trl", "--near-duplicate", "3"], "3.0 is not a share"),
    ],
)
def test_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    path = rows_file(tmp_path / "in.jsonl", GOOD)
    with pytest.raises(SystemExit) as caught:
        main(["data", "convert", str(path), str(tmp_path / words[0]), *words[1:]])
    assert caught.value.code == 2
    assert problem in capsys.readouterr().err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.jsonl"]
