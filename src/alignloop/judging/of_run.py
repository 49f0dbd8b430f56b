"""The reward models that a run has to do with, and which of them it trains. No torch."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from alignloop.config import Recipe
from alignloop.config.stages import NOT_NAMED, OF_REWARD_STAGE, REWARD_MODEL
from alignloop.judging.registry import kind_of
from alignloop.run import holds_model

# Parts of a run folder, in which the reward stage's three models lie.
CLIMBED, CHOOSER, JUDGE = OF_REWARD_STAGE.values()


@dataclass(frozen=True, kw_only=True)
class RewardModels:
    """The reward models that a run has to do with; None for one that it does not have.

    `climbed` gave RL its reward, `chooser` chose the checkpoint, `judge` did neither; `folder` is
    the run's.
    """

    folder: Path
    climbed: Path | None
    chooser: Path | None
    judge: Path | None

    @classmethod
    def of(cls, recipe: Recipe, folder: Path, *, planned: Collection[str] = ()) -> "RewardModels":
        """By the settings, and by what the reward stage has left in the run folder.

        The models in `planned` count as there: the reward stage will train them.
        """

        def own(name: str) -> Path | None:
            path = folder / name / "model"
            return path if name in planned or holds_model(path) else None

        climbed = [name for name in recipe.rl.reward_sources if kind_of(name).learnt]
        first = None
        if climbed:
            ours = REWARD_MODEL in climbed
            first = own(CLIMBED) if ours else Path(climbed[0])
        named = recipe.rl.held_out_reward_model
        # what an earlier reward stage learnt has nothing to do with another reward
        chooser = Path(named) if named is not None else own(CHOOSER) if climbed else None
        return cls(folder=folder, climbed=first, chooser=chooser, judge=own(JUDGE))

    @property
    def best(self) -> Path | None:
        """The most independent one that there is."""
        return self.judge or self.chooser or self.climbed


def own_models(folder: Path) -> dict[str, Path]:
    """The directories of the reward stage's models in a run folder, by their names."""
    return {name: folder / part / "model" for name, part in OF_REWARD_STAGE.items()}


def has_reward_stage(recipe: Recipe) -> bool:
    """Whether a run trains reward models: if it climbs one, or has labels to look after another."""
    if recipe.rl.uses_reward_stage or recipe.evaluate.judge in OF_REWARD_STAGE:
        return True
    labels = recipe.reward.pairs != NOT_NAMED
    return labels and any(kind_of(name).learnt for name in recipe.rl.reward_sources)


def trained(recipe: Recipe) -> tuple[str, ...]:
    """The reward models that the reward stage trains; the one that RL climbs ends it.

    A judge is trained if nobody else is named to judge the evaluation.
    """
    if not recipe.reward.held_out_model:
        return (CLIMBED,)
    wanted = recipe.evaluate.judge is None or OF_REWARD_STAGE.get(recipe.evaluate.judge) == JUDGE
    return (CHOOSER, JUDGE, CLIMBED) if wanted else (CHOOSER, CLIMBED)
