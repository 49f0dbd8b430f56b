"""People, disputes, models and the forecast: numbers worked by hand, and published ones."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alignloop.label.labels.project_labels import Adjudicated, ProjectLabels
from alignloop.label.quality.annotators import annotator_quality, dawid_skene_accuracy
from alignloop.label.quality.disagreements import disagreements
from alignloop.label.quality.forecast import forecast
from alignloop.label.quality.models import model_ranking, preference

REFERENCE = Path(__file__).resolve().parents[5] / "shared/data/reference"
NOW = datetime(2026, 1, 9, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
Make = Callable[..., Any]


def golden(name: str) -> Any:
    path = REFERENCE / "golden_values.json"
    if not path.exists():
        pytest.skip("the reference values are not beside this checkout")
    return json.loads(path.read_text(encoding="utf-8"))[name]


def test_gold_repeats_and_habits_by_hand(item: Make, judged: Make) -> None:
    items = [item(0), item(1), item(2, gold="a"), item(3, gold="tie"), item(4, gold="b")]
    items += [item(5, "ba", why="repeat", repeat_of=0), item(6, why="repeat", repeat_of=1)]
    shown = {"shown": ("a", "b")}
    said = [
        judged(1, items[0], "ana", "a", seconds=10.0, **shown),
        judged(2, items[1], "ana", "a", seconds=30.0, **shown),
        judged(3, items[2], "ana", "a", seconds=11.0, **shown),
        judged(4, items[3], "ana", "b", seconds=50.0, **shown),
        judged(5, items[4], "ana", "skip", **shown),
        judged(6, items[5], "ana", "a", seconds=12.0, shown=("b", "a")),
        judged(7, items[6], "ana", "tie", seconds=12.0, **shown),
        judged(8, items[0], "bo", "both_bad"),
    ]
    ana, bo = annotator_quality(ProjectLabels.of(items, said))
    assert ana.judgements == 7
    # gold: right on item 2, wrong on item 3, item 4 skipped and not counted
    assert ana.gold is not None and (ana.gold.value, ana.gold.n) == (1 / 2, 2)
    # repeats: item 5 as before although the answers are filed the other way round; 6 is not
    assert ana.self_agreement is not None
    assert (ana.self_agreement.value, ana.self_agreement.n) == (1 / 2, 2)
    # five choices: the first shown was taken in 1, 2, 3; the second in 4 and 6
    assert ana.first_shown is not None and (ana.first_shown.value, ana.first_shown.n) == (3 / 5, 5)
    assert 0 < ana.first_shown.low < 3 / 5 < ana.first_shown.high < 1
    assert ana.median_seconds == 12.0  # of 10 11 12 12 30 50: (12 + 12) / 2
    assert (ana.tie_share, ana.skip_share) == (1 / 7, 1 / 7)
    assert (bo.gold, bo.self_agreement, bo.first_shown, bo.median_seconds) == (None,) * 4
    assert bo.both_bad_share == 1


def test_dawid_skene_finds_who_is_careless(labels: Make) -> None:
    truth = ["a", "b", "a", "a", "b", "b", "a", "b", "a", "b"]
    other = {"a": "b", "b": "a"}
    said = {
        "ana": truth,
        "bo": truth,
        # every other one turned round
        "careless": [other[one] if n % 2 else one for n, one in enumerate(truth)],
    }
    found = dawid_skene_accuracy(labels(said))
    assert found["ana"] == found["bo"] == pytest.approx(1.0, abs=1e-4)
    assert found["careless"] == pytest.approx(0.5, abs=0.01)
    assert dawid_skene_accuracy(labels({"ana": truth})) == {}  # nobody to compare with


def test_golden_dawid_skene(item: Make, judged: Make) -> None:
    known = golden("dawid_skene_1979_table1")
    items = {int(patient): item(int(patient), "abcd") for patient in known["responses"]}
    said = [
        judged(0, items[int(patient)], observer, "abcd"[int(label) - 1])
        for patient, observers in known["responses"].items()
        for observer, found in observers.items()
        for label in found
    ]
    said = [judged(n, items[j.item_id], j.annotator, j.choice) for n, j in enumerate(said)]
    found = dawid_skene_accuracy(ProjectLabels.of(items.values(), said))
    # accuracy = sum over classes of share times rate, from the published shares and rates
    names = ("class_marginals", "observer_error_rates_[obs][true][reported]")
    shares, rates = (known["recomputed_here"][name] for name in names)
    for number, name in enumerate(sorted(found)):
        expected = sum(share * rates[number][k][k] for k, share in enumerate(shares))
        assert found[name] == pytest.approx(expected, abs=1e-4)


def test_disagreements_by_what_is_at_stake(labels: Make, item: Make, judged: Make) -> None:
    items = [item(n) for n in range(6)] + [item(6, "abc", kind="ranking"), item(7, gold="a")]
    words = {
        0: ("a3", "b3"),  # -4 against 4: 8
        1: ("a0", "tie"),  # 1
        2: ("a1", "a1"),  # none
        3: ("tie", "both_bad"),  # other verdicts: 1
        4: ("a1", "a1"),  # harm: 10
        5: ("a2", "skip"),  # one serious judgement
        6: ("a>b>c", "b>a>c"),  # one of three pairs: 1/3
        7: ("a3", "b3"),  # a gold question is not for adjudication
    }
    said = [
        judged(10 * n + row, items[n], name, words[n][row], harmful=("a",) * (n == 4 and row))
        for n in words
        for row, name in enumerate(("ana", "bo"))
    ]
    found = disagreements(ProjectLabels.of(items, said))
    assert [(one.item.item_id, one.stake) for one in found] == [
        (4, 10.0), (0, 8.0), (1, 1.0), (3, 1.0), (6, pytest.approx(1 / 3)),
    ]  # fmt: skip
    assert [one.harm for one in found] == [True, False, False, False, False]
    decided = [
        Adjudicated(item_id=0, by="lea", verdict="tie", created_at=NOW),
        Adjudicated(item_id=0, by="lea", verdict="choice", choice="a", created_at=NOW + DAY),
    ]
    settled = disagreements(ProjectLabels.of(items, said, decided))
    assert [one.item.item_id for one in settled] == [4, 1, 3, 6, 0]
    assert settled[-1].state == "settled"
    assert settled[-1].adjudication is not None and settled[-1].adjudication.choice == "a"


def test_model_ranking_by_hand(labels: Make, item: Make) -> None:
    # rl beats sft 3 of 4: ability apart by log(3), each half of it from the mean
    items = [item(n, models=["rl", "sft"] if n % 2 else ["sft", "rl"]) for n in range(4)]
    words = ["b", "a", "b", "b"]  # item 3 goes to sft
    first, second = model_ranking(labels({"ana": words}, items))
    assert (first.model, first.wins, first.comparisons) == ("rl", 3.0, 4)
    assert (second.model, second.wins) == ("sft", 1.0)
    assert first.ability is not None and second.ability is not None
    assert first.ability.value == pytest.approx(math.log(3) / 2)
    assert second.ability.value == pytest.approx(-math.log(3) / 2)
    assert first.ability.low <= first.ability.value <= first.ability.high
    assert preference([first, second], "rl", "sft") == pytest.approx(3 / 4)


def test_a_model_that_never_lost_has_no_upper_end(labels: Make, item: Make) -> None:
    items = [item(n, models=["rl", "sft"]) for n in range(3)]
    first, second = model_ranking(labels({"ana": ["a", "a", "both_bad"]}, items))
    assert (first.model, first.comparisons, second.wins) == ("rl", 2, 0.0)
    # with one more comparison, tied: 2.5 of 3, so apart by log 5
    assert first.ability is not None and second.ability is not None
    assert first.ability.value == pytest.approx(math.log(5) / 2)
    assert (first.ability.high, second.ability.low) == (math.inf, -math.inf)
    # 2 log(sigmoid(d)) * 2 = -3.841: d = logit(exp(-3.841459 / 4)), half of it from the mean
    share = math.exp(-3.841459 / 4)
    assert first.ability.low == pytest.approx(math.log(share / (1 - share)) / 2, abs=1e-3)
    assert second.ability.high == pytest.approx(-first.ability.low, abs=1e-3)
    assert model_ranking(labels({"ana": ["a"]})) == []  # nobody knows who answered


def test_models_that_were_never_compared_have_no_common_scale(labels: Make, item: Make) -> None:
    items = [item(0, models=["a1", "a2"]), item(1, models=["b1", "b2"])]
    ranked = model_ranking(labels({"ana": ["a", "b"], "bo": ["b", "a"]}, items))
    assert [one.ability for one in ranked] == [None] * 4
    assert preference(ranked, "a1", "b1") is None


def test_an_undefeated_model_leaves_the_others_their_abilities(labels: Make, item: Make) -> None:
    pairs = [("a", "b")] * 6 + [("b", "c")] * 12
    items = [item(n, models=list(pair)) for n, pair in enumerate(pairs)]
    words = ["a"] * 6 + ["a", "b"] * 6
    found = {one.model: one.ability for one in model_ranking(labels({"ana": words}, items))}
    assert found["a"] is not None and found["b"] is not None and found["c"] is not None
    assert found["a"].high == math.inf and found["a"].low > 0
    assert found["b"].value == pytest.approx(found["c"].value + 0, abs=2)
    assert math.isfinite(found["b"].high) and math.isfinite(found["c"].high)


def test_golden_bradley_terry(item: Make, judged: Make) -> None:
    known = golden("bradley_terry_stigler_citations")
    names, wins = known["names"], known["wins_row_beats_col(cited,citing)"]
    items, said = [], []
    for row, name in enumerate(names):
        for column, other in enumerate(names):
            for _ in range(wins[row][column] if row != column else 0):
                number = len(items)
                items.append(item(number, models=[name, other]))
                said.append(judged(number, items[-1], "editor", "a"))
    found = {one.model: one.ability for one in model_ranking(ProjectLabels.of(items, said))}
    expected = known["recomputed_here"]["log_ability_ref_Biometrika"]
    for name, value in zip(names, expected, strict=True):
        assert found[name].value - found[names[0]].value == pytest.approx(value, abs=1e-9)


RANKINGS_2 = {  # choix's own, to the digits that its tight tolerance gives
    "data": [[0, 1, 2], [3, 2, 0], [1, 3]],
    "n_items": 4,
    "ml_est": [-0.44330849, 0.69506787, -0.67060957, 0.41885019],
}
TOP1_2 = {
    "data": [[0, [1]], [1, [2]], [2, [0, 1]]],
    "n_items": 3,
    "ml_est": [0.16040395, -0.32080789, 0.16040394],
}


@pytest.mark.parametrize(("name", "known"), [("rankings", RANKINGS_2), ("top1", TOP1_2)])
def test_rankings_and_choices_are_plackett_and_luces(
    name: str, known: dict[str, Any], item: Make, judged: Make
) -> None:
    items, said = [], []
    for number, row in enumerate(known["data"]):
        row = [row[0], *row[1]] if name == "top1" else row
        texts = "abc"[: len(row)]
        items.append(item(number, texts, models=[f"m{one}" for one in row]))
        word = ">".join(texts) if name == "rankings" else "a"
        said.append(judged(number, items[-1], "ana", word))
    found = {one.model: one.ability for one in model_ranking(ProjectLabels.of(items, said))}
    values = [found[f"m{number}"].value for number in range(known["n_items"])]
    assert values == pytest.approx(known["ml_est"], abs=2e-8)


@pytest.mark.parametrize("name", ["pairwise", "rankings", "top1"])
def test_golden_choix(name: str, item: Make, judged: Make) -> None:
    path = REFERENCE / f"choix_testcase_{name}-1.json"
    if not path.exists():
        pytest.skip("the reference values are not beside this checkout")
    known = json.loads(path.read_text(encoding="utf-8"))
    items, said = [], []
    for number, row in enumerate(known["data"]):
        if name == "top1":
            row = [row[0], *row[1]]
        texts = "abc"[: len(row)]
        items.append(item(number, texts, models=[f"m{one}" for one in row]))
        word = ">".join(texts) if name == "rankings" else "a"
        said.append(judged(number, items[-1], "ana", word))
    found = {one.model: one.ability for one in model_ranking(ProjectLabels.of(items, said))}
    values = [found[f"m{number}"].value for number in range(known["n_items"])]
    assert values == pytest.approx(known["ml_est"], abs=1e-9)


def test_forecast_by_hand(item: Make, judged: Make) -> None:
    # 30 labels in four days: 12, 6, 12, 0 (the last one); 50 items wanted twice, 20 closed
    items = [item(n, wanted=2) for n in range(30)] + [item(n, is_open=False) for n in range(30, 50)]
    per_day = [(4, 12), (3, 6), (2, 12)]
    moments = [
        NOW - day * DAY + timedelta(minutes=m) for day, count in per_day for m in range(count)
    ]
    said = [judged(n, items[n], "ana", "a", created_at=when) for n, when in enumerate(moments)]
    found = forecast(ProjectLabels.of(items, said), NOW)
    assert (found.left, found.done) == (30, 30)
    assert found.per_day is not None
    assert (found.per_day.value, found.per_day.n) == (7.5, 4)
    assert found.per_day.low < 7.5 < found.per_day.high
    assert found.per_hour == 10.0  # three hours with work
    assert found.done_on == NOW + 4 * DAY
    assert found.earliest is not None and found.earliest < found.done_on
    assert found.latest is None or found.latest > found.done_on


def test_the_pace_is_of_what_is_left(item: Make, judged: Make) -> None:
    # a day: 4 labels, and 2 skips, 1 gold question and 1 repeat, which bring the end no nearer
    items = [item(n) for n in range(20)] + [item(20, gold="a"), item(21, repeat_of=0)]
    when = {"created_at": NOW - DAY + timedelta(minutes=1)}
    early = judged(99, items[0], "ana", "a", created_at=NOW - DAY)
    said = [early] + [judged(n, items[n], "ana", "a", **when) for n in range(1, 4)]
    said += [judged(n, items[n], "ana", "skip", **when) for n in (4, 5)]
    said += [judged(n, items[n], "ana", "a", **when) for n in (20, 21)]
    found = forecast(ProjectLabels.of(items, said), NOW)
    assert (found.left, found.done) == (16, 4)
    assert found.per_day is not None
    assert (found.per_day.value, found.per_hour) == (4.0, 4.0)
    assert found.done_on == NOW + 4 * DAY


def test_forecast_knows_when_it_knows_nothing(item: Make, judged: Make) -> None:
    items = [item(0, wanted=3)]
    nothing = forecast(ProjectLabels.of(items, []), NOW)
    assert (nothing.left, nothing.per_day, nothing.done_on) == (3, None, None)
    morning = judged(1, items[0], "ana", "a", created_at=NOW - timedelta(hours=3))
    fresh = forecast(ProjectLabels.of(items, [morning]), NOW)
    assert (fresh.left, fresh.per_day, fresh.per_hour) == (2, None, 1.0)
    over = [judged(n, items[0], f"p{n}", "a", created_at=NOW - 2 * DAY) for n in range(3)]
    assert forecast(ProjectLabels.of(items, over), NOW).done_on == NOW
    # a month ago is no present pace
    old = judged(1, items[0], "ana", "a", created_at=NOW - 30 * DAY)
    assert forecast(ProjectLabels.of(items, [old]), NOW).per_day is None
