"""Muon: orthogonal updates, and the same steps as PyTorch's own in its lower precision."""

import torch

from alignloop.playground.muon import Muon, orthogonalise


def test_orthogonalising_keeps_the_directions_and_levels_their_sizes() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((12, 12), (8, 20), (20, 8)):
        matrix = torch.randn(shape, generator=generator)
        u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
        inner = u.T @ orthogonalise(matrix) @ vt.T
        levels = inner.diagonal()
        assert bool((levels > 0.6).all()) and bool((levels < 1.3).all())
        torch.testing.assert_close(inner, torch.diag(levels), rtol=0, atol=1e-4)


def test_one_step_by_hand() -> None:
    """A multiple of a rotation is its own direction: only the level (about 1) is not exact."""
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.tensor([[0.0, -3.0], [3.0, 0.0]])
    Muon([weight], lr=0.1).step()
    rotation = weight.detach() / (-0.2 * 0.1 * 2**0.5)
    assert abs(float(rotation[0, 0])) < 1e-6
    assert 0.7 < float(rotation[1, 0]) == -float(rotation[0, 1]) < 1.3


def test_steps_are_those_of_torch() -> None:
    """torch.optim.Muon works in bfloat16, so equal to about a hundredth of a step."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(16, 24, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    settings = {"momentum": 0.9, "weight_decay": 0.1}
    mine = Muon([ours], lr=0.05, **settings)
    torchs = torch.optim.Muon([theirs], lr=0.05, adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(5):
        ours.grad = torch.randn(16, 24, generator=generator)
        theirs.grad = ours.grad.clone()
        mine.step()
        torchs.step()
    moved, apart = (theirs - start).detach().norm(), (ours - theirs).detach().norm()
    assert float(apart / moved) < 0.02
