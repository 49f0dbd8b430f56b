"""Seeds: known numbers, and different purposes draw differently."""

import random

import numpy
import pytest
import torch

from alignloop.run.seeds import derive_seed, generator, set_determinism


@pytest.mark.parametrize(
    ("names", "digest"),
    # printf '[7,"ppo",3]' | b2sum -l 64; printf '[0]' | b2sum -l 64
    [((7, "ppo", 3), 0x840408B400B02786), ((0,), 0xAC00623085BF099C)],
)
def test_seed_is_the_first_63_bits_of_blake2b(names, digest):
    assert derive_seed(*names) == digest // 2


def test_every_purpose_has_its_own_seed():
    names = [("ppo", 1), ("ppo", 2), ("sft", 1), ("ppo1",), ("ppo", "1"), (), ("ppo", 1, 0)]
    seeds = [derive_seed(seed, *purpose) for seed in (0, 1) for purpose in names]
    assert len(set(seeds)) == 14
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generator_draws_the_same_again():
    first = torch.rand(4, generator=generator(7, "ppo", 3))
    assert torch.equal(first, torch.rand(4, generator=generator(7, "ppo", 3)))
    assert not torch.equal(first, torch.rand(4, generator=generator(7, "ppo", 4)))
    assert generator(7, "ppo", 3).initial_seed() == 0x840408B400B02786 // 2


def _draw() -> tuple[float, float, float]:
    return random.random(), float(numpy.random.random()), torch.rand(()).item()


def test_global_generators_are_seeded():
    set_determinism(5)
    first = _draw()
    assert all(a != b for a, b in zip(first, _draw(), strict=True))
    set_determinism(5)
    assert _draw() == first
    set_determinism(6)
    assert all(a != b for a, b in zip(first, _draw(), strict=True))
