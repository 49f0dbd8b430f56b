"""What is had without a model: rules of length and a bag of words, on pairs worked by hand."""

import pytest

from alignloop.records import Message, PreferencePair, Prompt
from alignloop.reward.baselines import bag_of_words, longer_wins


def pair(number: int, chosen: str, rejected: str, preference: float = 1.0) -> PreferencePair:
    prompt = Prompt(prompt_id=str(number), messages=(Message(role="user", content="q"),))
    return PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected, preference=preference)


def test_the_longer_answer_wins_by_hand() -> None:
    pairs = [pair(0, "aa", "a"), pair(1, "a", "aaa"), pair(2, "b", "bbb"), pair(3, "cc", "dd")]
    longer = longer_wins(pairs)
    assert (longer.value, longer.n) == (1.5 / 4, 4)


@pytest.mark.parametrize(
    ("good", "bad"), [("please and thank you", "no, go away"), ("请您慢走，谢谢", "滚开，别烦我")]
)
def test_a_bag_of_words_learns_what_words_tell(good: str, bad: str) -> None:
    pytest.importorskip("sklearn")
    train = [pair(n, f"{good} {n}", f"{bad} {n}") for n in range(20)]
    test = [pair(100 + n, f"{n} {good}", f"{n} {bad}") for n in range(10)]
    test += [pair(200, bad, good), pair(300, good, bad, preference=0.5)]
    found = bag_of_words(train, test)
    assert found is not None
    assert (found.value, found.n) == (10 / 11, 11)  # the tie does not count
    assert found == bag_of_words(train, test)


def test_a_bag_of_words_does_not_learn_from_nothing() -> None:
    pytest.importorskip("sklearn")
    few = [pair(n, "yes", "no") for n in range(19)]
    assert bag_of_words(few, few) is None
    assert bag_of_words([pair(n, "!!", "??") for n in range(30)], few) is None
    equal = [pair(n, "same words", "same words") for n in range(30)]
    even = bag_of_words(equal, equal)
    assert even is not None and even.value == 0.5  # nothing learnt, nothing said
