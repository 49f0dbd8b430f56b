"""Narrowing of JSON values: what counts as a list of texts or objects, and a broken promise."""

import pytest

from alignloop.data.narrow import (
    Json,
    are_objects,
    are_texts,
    first_list,
    first_text,
    list_at,
    object_at,
    objects_in,
    text_at,
)

ROW: dict[str, Json] = {"a": 1, "b": "text", "c": ["x", {}], "d": {"e": None}, "f": "more"}


@pytest.mark.parametrize(
    ("value", "texts", "objects"),
    [
        (["a", "b"], True, False),
        ([{}, {"a": 1}], False, True),
        (["a", {}], False, False),
        ([], True, True),
        ("ab", False, False),
        ({"a": "b"}, False, False),
        (None, False, False),
    ],
)
def test_a_list_is_of_one_kind_or_of_none(value: Json, texts: bool, objects: bool) -> None:
    assert (are_texts(value), are_objects(value)) == (texts, objects)


@pytest.mark.parametrize(
    ("value", "found"), [([1, {"a": 1}, "x", {}], [{"a": 1}, {}]), ({"a": {}}, []), (None, [])]
)
def test_other_things_in_a_list_are_left_out(value: Json, found: list[dict[str, Json]]) -> None:
    assert objects_in(value) == found


def test_the_first_of_the_keys_with_the_right_type_counts() -> None:
    assert first_text(ROW, ["missing", "a", "f", "b"]) == "more"
    assert first_list(ROW, "abcd") == ["x", {}]
    assert first_text(ROW, ["a", "c"]) is None
    assert first_list(ROW, ["a", "d"]) is None


def test_a_key_of_a_known_type_gives_its_value_and_another_type_is_a_bug() -> None:
    assert (text_at(ROW, "b"), list_at(ROW, "c"), object_at(ROW, "d")) == (
        "text",
        ["x", {}],
        {"e": None},
    )
    for look, key in ((text_at, "a"), (list_at, "b"), (object_at, "c")):
        with pytest.raises(AssertionError, match=f'"{key}" is known to be'):
            look(ROW, key)
