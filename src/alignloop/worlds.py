"""Worlds: sources of everything that a run needs from outside, and who knows what is true there.

The composition point of the core and the playground: nothing else in the core imports a world or
knows its words. A world of your own is an object as `World` says, named "world:module:NAME".
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
    """What a world sees of validation answers: shown in RL's curves, and deciding nothing."""

    @property
    def name(self) -> str:
        """Of who looks."""
        ...

    @property
    def key(self) -> str:
        """Of the main figure among the metrics, without "validation_"."""
        ...

    def __call__(self, samples: "Sequence[Sample]") -> dict[str, float]:
        """Metrics by key."""
        ...


class World(Protocol):
    """A source of data, people and a judge who knows what is true.

    Its splits are drawn by the run's seed, and its prompt sets share no prompt.
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
        """To train on, and held out."""
        ...

    def comparisons(self, recipe: "Recipe", model: Path, folder: "RunFolder") -> Path:
        """Has annotators compare a model's answers; the file of pairs that they gave."""
        ...

    def prompts(self) -> "tuple[Sequence[Prompt], Sequence[Prompt]]":
        """To learn from, and for the curves."""
        ...

    def evaluation_sets(self) -> "Mapping[str, Sequence[Prompt]]":
        """The held-out prompts by the name of their set."""
        ...

    def judge(self) -> "Judge":
        """Who knows what is true. Training is never given it."""
        ...

    def observer(self) -> Observed:
        """Looks at validation answers for the curves."""
        ...


def _playground() -> World:
    from alignloop.playground.source import PLAYGROUND

    return PLAYGROUND


WORLDS: Mapping[str, Callable[[], World]] = {"playground": _playground}


def world_of(source: str | None) -> World | None:
    """The world that a setting names; None for a file, a directory, or nothing.

    Raises UserError for a world that is not there.
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
            f"there is no such world: {error}",
            where=source,
            fix=f"name one as {PREFIX}module:NAME, or {', '.join(WORLDS)}",
        ) from None


def refuse_gold(names: Sequence[str]) -> None:
    """Raise UserError if RL would climb who knows what is true: nobody who trains may."""
    for name in names:
        if world_of(name) is not None:
            raise UserError(
                "RL is never given the gold judge of a world: it is what the run is judged by",
                where=f"rl.rewards: {name}",
                fix=f"climb a reward model or a function: rl.rewards = [{REWARD_MODEL!r}]",
            )
