"""The reward models of a run, and which of them it trains. No torch."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from alignloop.config import Recipe
from alignloop.config.stages import NOT_NAMED, OF_REWARD_STAGE, REWARD_MODEL
from alignloop.judging.registry import kind_of
from alignloop.run import holds_model

# Parts of a run folder with the reward stage's three models.
CLIMBED, CHOOSER, JUDGE = OF_REWARD_STAGE.values()


@dataclass(frozen=True, kw_only=True)
class RewardModels:
    """The reward models of a run; None for one it does not have.

    `climbed` gave RL its reward, `chooser` chose the checkpoint, `judge` did neither; `folder` is
    the run's.
    """

    folder: Path
    climbed: Path | None
    chooser: Path | None
    judge: Path | None

    @classmethod
    def of(cls, recipe: Recipe, folder: Path, *, planned: Collection[str] = ()) -> "RewardModels":
        """From the settings, and from what the reward stage left in the run folder.

        The models in `planned` count as present: the reward stage will train them.
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
        # a chooser trained for another reward does not apply to a function's
        chooser = Path(named) if named is not None else own(CHOOSER) if climbed else None
        return cls(folder=folder, climbed=first, chooser=chooser, judge=own(JUDGE))

    @property
    def best(self) -> Path | None:
        """The most independent one available."""
        return self.judge or self.chooser or self.climbed


def own_models(folder: Path) -> dict[str, Path]:
    """Directories of the reward stage's models in a run folder, by name."""
    return {name: folder / part / "model" for name, part in OF_REWARD_STAGE.items()}


def has_reward_stage(recipe: Recipe) -> bool:
    """Whether a run trains reward models: it optimises one, or has labels to check another."""
    if recipe.rl.uses_reward_stage or recipe.evaluate.judge in OF_REWARD_STAGE:
        return True
    labels = recipe.reward.pairs != NOT_NAMED
    return labels and any(kind_of(name).learnt for name in recipe.rl.reward_sources)


def trained(recipe: Recipe) -> tuple[str, ...]:
    """The reward models that the reward stage trains; the one RL optimises comes last.

    A judge is trained unless the settings name another one for the evaluation.
    """
    if not recipe.reward.held_out_model:
        return (CLIMBED,)
    with_judge = (
        recipe.evaluate.judge is None or OF_REWARD_STAGE.get(recipe.evaluate.judge) == JUDGE
    )
    # the others first, so that a finished climbed model marks the stage as finished
    return (CHOOSER, JUDGE, CLIMBED) if with_judge else (CHOOSER, CLIMBED)
