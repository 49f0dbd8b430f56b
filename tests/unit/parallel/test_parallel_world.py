"""Work that is shared: everything once, as many passes in each process, nobody left waiting."""

import random
from itertools import combinations

import pytest
import torch
from two_processes import together

from alignloop.data.batching import token_budget_batches
from alignloop.data.pairs import PairStore
from alignloop.data.tokenise import Encoded
from alignloop.parallel import SINGLE, World
from alignloop.records import Message, PreferencePair, Prompt


def process(rank: int, size: int) -> World:
    """One of several, for what it decides without the others."""
    return World(rank=rank, size=size, sum=lambda tensor: tensor, barrier=lambda: None)


def test_one_process_does_what_there_is() -> None:
    cuts = [[3, 1], [2], [0]]
    assert [(one.rows, one.weight) for one in SINGLE.share(cuts)] == [(cut, 1.0) for cut in cuts]
    assert SINGLE.totals({"a": 0.1}) == {"a": 0.1}
    assert SINGLE.any(True) and not SINGLE.any(False)
    assert SINGLE.is_main and SINGLE.draws == ()


def test_the_largest_micro_batch_is_halved_where_they_do_not_go_round() -> None:
    cuts = [[0, 1], [2, 3, 4], [5]]
    assert [one.rows for one in process(0, 2).share(cuts)] == [[0, 1], [4]]
    assert [one.rows for one in process(1, 2).share(cuts)] == [[2, 3], [5]]


def test_where_nothing_can_be_halved_some_repeat_a_pass_that_does_not_count() -> None:
    found = [process(rank, 3).share([[0], [1]]) for rank in range(3)]
    assert [[(one.rows, one.weight) for one in passes] for passes in found] == [
        [([0], 1.0)],
        [([1], 1.0)],
        [([1], 0.0)],
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_everything_is_done_once(size: int) -> None:
    rng = random.Random(size)
    for _ in range(200):
        rows = list(range(rng.randint(1, 20)))
        rng.shuffle(rows)
        cuts, rest = [], rows
        while rest:
            count = rng.randint(1, len(rest))
            cuts, rest = [*cuts, rest[:count]], rest[count:]
        passes = [process(rank, size).share(cuts) for rank in range(size)]
        assert len({len(one) for one in passes}) == 1
        counted = [row for own in passes for one in own if one.weight for row in one.rows]
        assert sorted(counted) == sorted(rows)


def lengths_of(rng: random.Random, count: int) -> list[int]:
    """Lognormal, as answers are: a median of 100 tokens and a long tail."""
    return [min(900, max(4, round(rng.lognormvariate(4.6, 0.8)))) for _ in range(count)]


def test_two_processes_plan_the_same_number_of_passes_whatever_the_lengths() -> None:
    """200 steps on lognormal lengths; planned by each from its own half, 3 of 4 steps differed."""
    rng, alone = random.Random(7), 0
    prompt = Prompt(prompt_id="p", messages=(Message(role="user", content="p"),))
    for _ in range(200):
        lengths = lengths_of(rng, 32)
        texts = tuple(Encoded(input_ids=(5,) * n, response_mask=(True,) * n) for n in lengths)
        links = [
            pair for first in range(0, 32, 4) for pair in combinations(range(first, first + 4), 2)
        ]
        store = PairStore(
            pairs=tuple(PreferencePair(prompt=prompt, chosen="a", rejected="b") for _ in links),
            texts=texts,
            chosen=tuple(chosen for chosen, _ in links),
            rejected=tuple(rejected for _, rejected in links),
        )
        for cuts in (token_budget_batches(lengths, 1024), store.cuts(1024)):
            passes = [process(rank, 2).share(cuts) for rank in range(2)]
            assert len(passes[0]) == len(passes[1])
            assert all(one.rows for own in passes for one in own)
        halves = [token_budget_batches(lengths[rank::2], 1024) for rank in range(2)]
        alone += len(halves[0]) != len(halves[1])
    assert alone > 100  # what the plan for all is there for


def test_sums_and_flags_are_the_same_in_every_process() -> None:
    def work(world: World) -> tuple[float, dict[str, float], bool, bool]:
        total = float(world.sum(torch.tensor(float(world.rank + 1))))
        sums = world.totals({"a": 1.5, "b": float(world.rank)})
        return total, sums, world.any(world.rank == 2), world.any(False)

    assert together(3, work) == [(6.0, {"a": 4.5, "b": 3.0}, True, False)] * 3
