"""Which labels each reward model learns from: never those that test it."""

import math
from collections.abc import Callable, Sequence

import pytest

from alignloop.config import RewardConfig
from alignloop.errors import UserError
from alignloop.records import PreferencePair, Prompt
from alignloop.reward.labels import CHOOSER, CLIMBED, JUDGE, share_out

MakePrompt = Callable[..., Prompt]
SHARES = RewardConfig(labels="shares")
TWO, ALL = (CLIMBED, CHOOSER), (CLIMBED, CHOOSER, JUDGE)


def many(make_prompt: MakePrompt, count: int) -> list[PreferencePair]:
    """Three pairs of each prompt."""
    return [
        PreferencePair(prompt=make_prompt(f"tea {i}"), chosen=f"good {k}", rejected="bad")
        for i in range(count)
        for k in range(3)
    ]


def asked(pairs: Sequence[PreferencePair]) -> set[str]:
    return {pair.prompt.prompt_id for pair in pairs}


def test_folds_use_every_label_and_keep_each_model_blind_to_its_own(
    make_prompt: MakePrompt,
) -> None:
    pairs = many(make_prompt, 90)
    found = share_out(pairs, RewardConfig(), 3, ALL)
    assert list(found) == [CLIMBED, CHOOSER, JUDGE]
    for labels in found.values():
        assert not asked(labels.train) & asked(labels.test)
        assert len(labels.train) + len(labels.test) == labels.of == len(pairs)
        assert labels.one_test and labels.calibration is labels.test
    tested = [asked(labels.test) for labels in found.values()]
    assert sum(map(len, tested)) == len(set().union(*tested)) == 90
    # the fold that neither of two models is blind to is what both learn
    shared = asked(found[CHOOSER].train) & asked(found[CLIMBED].train)
    assert shared == asked(found[JUDGE].test)
    assert found[CHOOSER].shared == 3 * len(shared)
    assert found[CLIMBED].shared == 0
    assert found[JUDGE].seen == {
        "learnt": len(found[JUDGE].train),
        "tested": len(found[JUDGE].test),
        "all": 270,
        "shared_with_climbed": len(found[CHOOSER].test),
    }


def test_a_judge_that_is_wanted_later_changes_no_other_model(make_prompt: MakePrompt) -> None:
    pairs = many(make_prompt, 60)
    without = share_out(pairs, RewardConfig(), 3, TWO)
    with_judge = share_out(pairs, RewardConfig(), 3, ALL)
    assert without == {name: with_judge[name] for name in (CLIMBED, CHOOSER)}


def test_shares_give_every_label_one_use(make_prompt: MakePrompt) -> None:
    pairs = many(make_prompt, 100)
    found = share_out(pairs, SHARES, 3, ALL)
    test, calibration = found[CLIMBED].test, found[CLIMBED].calibration
    parts = [test, calibration, *(labels.train for labels in found.values())]
    assert sum(map(len, parts)) == 300
    assert sum(len(asked(part)) for part in parts) == len(set().union(*map(asked, parts))) == 100
    # A binomial share of 100 prompts: four standard deviations around 25.
    assert abs(len(test) / 3 - 25) < 4 * math.sqrt(100 * 0.25 * 0.75)
    assert all(labels.shared == 0 and not labels.one_test for labels in found.values())


def test_without_other_models_their_shares_are_for_training(make_prompt: MakePrompt) -> None:
    pairs = many(make_prompt, 100)
    one = share_out(pairs, SHARES, 3, [CLIMBED])
    two = share_out(pairs, SHARES, 3, TWO)
    assert list(one) == [CLIMBED] and list(two) == [CLIMBED, CHOOSER]
    assert one[CLIMBED].test == two[CLIMBED].test
    assert len(one[CLIMBED].train) == len(two[CLIMBED].train) + len(two[CHOOSER].train)


@pytest.mark.parametrize("config", [RewardConfig(), SHARES])
def test_a_part_left_empty_is_told(make_prompt: MakePrompt, config: RewardConfig) -> None:
    with pytest.raises(UserError, match="3 pairs leave none for: ") as caught:
        share_out(many(make_prompt, 1), config, 3, ALL)
    assert caught.value.where == "reward.pairs"


def test_the_words_say_what_a_model_sees(make_prompt: MakePrompt) -> None:
    labels = share_out(many(make_prompt, 90), RewardConfig(), 3, ALL)[JUDGE]
    said = labels.in_words("judges the evaluation")
    assert said == (
        f"this model judges the evaluation; it learns from {len(labels.train)} of 270 pairs"
        f" and is tested on {len(labels.test)} unseen ones"
    )
