"""Worlds: each supplies all a run needs from outside, and a judge that knows the truth.

The only link between core and playground: nothing else in the core imports a world or knows its
vocabulary. Your own world is an object of the protocol `World`, named "world:module:NAME".
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from alignloop.config.stages import REWARD_MODEL
from alignloop.errors import UserError

if TYPE_CHECKING:
    from alignloop.config import Recipe
    from alignloop.judging.protocol import Judge
    from alignloop.records import Demonstration, Prompt, Sample
    from alignloop.run import RunFolder

PREFIX = "world:"


class Observed(Protocol):
    """A world's measurements of validation answers: shown in RL's curves, deciding nothing."""

    @property
    def name(self) -> str:
        """The observer's name."""
        ...

    @property
    def key(self) -> str:
        """Its main metric, without "validation_"."""
        ...

    def __call__(self, samples: "Sequence[Sample]") -> dict[str, float]:
        """Metrics by key."""
        ...


class World(Protocol):
    """A source of data, people, and a judge that knows the truth.

    Its splits depend on the run's seed, and its prompt sets share no prompt.
    """

    @property
    def base_model(self) -> Path:
        """The directory of the model that SFT starts from."""
        ...

    @property
    def set_names(self) -> Mapping[str, tuple[str, str]]:
        """What reports call the held-out sets, in English and Chinese."""
        ...

    def demonstrations(
        self, seed: int
    ) -> "tuple[Sequence[Demonstration], Sequence[Demonstration]]":
        """Training and held-out demonstrations."""
        ...

    def comparisons(self, recipe: "Recipe", model: Path, folder: "RunFolder") -> Path:
        """Let annotators compare a model's answers; returns the file of pairs."""
        ...

    def prompts(self) -> "tuple[Sequence[Prompt], Sequence[Prompt]]":
        """Training and validation prompts."""
        ...

    def evaluation_sets(self) -> "Mapping[str, Sequence[Prompt]]":
        """The held-out prompts by set name."""
        ...

    def judge(self) -> "Judge":
        """The gold judge. Training never gets it."""
        ...

    def observer(self) -> Observed:
        """The observer of validation answers."""
        ...


def _playground() -> World:
    # imported on use only: the core must work without the playground
    from alignloop.playground.source import PLAYGROUND

    return PLAYGROUND


WORLDS: Mapping[str, Callable[[], World]] = {"playground": _playground}


def world_of(source: str | None) -> World | None:
    """The world that a setting names; None for a file, a directory, or None.

    Raises UserError for an unknown world.
    """
    if source is not None and source in WORLDS:
        return WORLDS[source]()
    if source is None or not source.startswith(PREFIX):
        return None
    module, _, name = source.removeprefix(PREFIX).partition(":")
    try:
        return cast("World", getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"no such world: {error}",
            where=source,
            fix=f"name one as {PREFIX}module:NAME, or {', '.join(WORLDS)}",
        ) from None


def refuse_gold(names: Sequence[str]) -> None:
    """Raise UserError if a reward source is a gold judge: training must never see it."""
    for name in names:
        if world_of(name) is not None:
            raise UserError(
                "RL must not use a world's gold judge: it is what the run is judged by",
                where=f"rl.rewards: {name}",
                fix=f"use a reward model or a function: rl.rewards = [{REWARD_MODEL!r}]",
            )
