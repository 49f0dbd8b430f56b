"""Who judges an evaluation, what that judge is worth, what it saw. Part of the pipeline."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignloop.config import Recipe
from alignloop.config.stages import LABEL, PLAYGROUND
from alignloop.errors import UserError
from alignloop.records import Prompt
from alignloop.run import holds_model

if TYPE_CHECKING:
    from alignloop.evaluate.judges import Judge, JudgeFacts

CLIMBED, CHOOSER, JUDGE = "reward", "reward_held_out", "reward_judge"


@dataclass(frozen=True, kw_only=True)
class RewardModels:
    """The reward models that a run has to do with; None for one that it does not have.

    `climbed` gave RL its reward, `chooser` chose the checkpoint, `judge` did neither.
    """

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

        rl = recipe.rl
        climbed = _model(rl.reward_model) or (own(CLIMBED) if rl.uses_reward_stage else None)
        # what an earlier reward stage learnt has nothing to do with another reward
        beside = own(CHOOSER) if rl.uses_reward_stage or rl.reward_model else None
        return cls(
            climbed=climbed,
            chooser=_model(rl.held_out_reward_model) or beside,
            judge=_model(recipe.evaluate.reward_model) or own(JUDGE),
        )

    @property
    def best(self) -> Path | None:
        """The most independent one that there is."""
        return self.judge or self.chooser or self.climbed


def trained(recipe: Recipe) -> tuple[str, ...]:
    """The reward models that the reward stage trains; the one that RL climbs ends it.

    A judge is trained where nobody else judges the evaluation.
    """
    if not recipe.reward.held_out_model:
        return (CLIMBED,)
    named = recipe.evaluate.reward_model is not None
    if named or judged_by_gold(recipe, recipe.evaluate.prompts):
        return (CHOOSER, CLIMBED)
    return (CHOOSER, JUDGE, CLIMBED)


def judged_by_gold(recipe: Recipe, source: str) -> bool:
    """Whether the playground's gold judge rates the answers to prompts from `source`."""
    return source == PLAYGROUND and recipe.evaluate.reward_model is None


def judge_of(recipe: Recipe, source: str, folder: Path) -> "tuple[Judge, JudgeFacts]":
    """The judge of prompts from `source`, with what the report says of it.

    The playground's gold judge for its own prompts; else the reward model that is most independent
    of what RL did; else the person's reward function. Raises UserError where there is none.
    """
    from alignloop.evaluate.judges import FunctionJudge, JudgeFacts, RewardModelJudge

    if judged_by_gold(recipe, source):
        from alignloop.playground.gold import GoldJudge

        gold = GoldJudge()
        return gold, JudgeFacts(name=gold.name, kind="gold")
    models = RewardModels.of(recipe, folder)
    if models.best is None:
        from alignloop.scoring import load_function

        if recipe.rl.reward_function is None:
            raise UserError(
                "nobody is there to judge the answers",
                where="evaluate.reward_model",
                fix="train one from your pairs by `alignloop reward`, or name a model directory:"
                " --evaluate.reward_model DIR",
            )
        limit = recipe.rl.reward_time_limit
        function = FunctionJudge(function=load_function(recipe.rl.reward_function, limit))
        return function, JudgeFacts(name=function.name, kind="function", climbed=True)
    judge = RewardModelJudge(folder=models.best, config=recipe.model)
    facts = JudgeFacts(
        name=judge.name,
        kind="reward_model",
        climbed=models.best == models.climbed,
        chose_checkpoint=models.best == (models.chooser or models.climbed),
        card=_card(models.best),
    )
    return judge, facts


def learnt_from(recipe: Recipe) -> Mapping[str, Sequence[Prompt]]:
    """The prompts that the run's own files teach, by the setting that names the file.

    The playground's own sets are apart by construction, and its tests compare them.
    """
    found: dict[str, Sequence[Prompt]] = {}
    for setting, prompts in _taught(recipe.model_copy(update={"skip_refused": True})):
        found[setting] = list({prompt.messages: prompt for prompt in prompts}.values())
    return found


def doubts_about_validation(
    recipe: Recipe, train: Sequence[Prompt], validation: Sequence[Prompt]
) -> str:
    """Whether the prompts that choose RL's checkpoint are learnt from as well; "" if they are not.

    The playground's own sets are apart by construction.
    """
    if _file(recipe.rl.prompts) is None:
        return ""
    from alignloop.evaluate.overlap import overlaps

    sets = {"validation": validation}
    found = overlaps(sets, {"rl.prompts": train}, recipe.data.near_duplicate)["sets"]["validation"]
    if not found["seen"]:
        return ""
    return (
        f"{found['seen']} of {found['n']} validation prompts are training prompts, too, or nearly:"
        " the curves and the choice of the checkpoint flatter the policy"
    )


def _taught(recipe: Recipe) -> Iterator[tuple[str, Sequence[Prompt]]]:
    from alignloop import sources
    from alignloop.data.formats import read_pairs

    told = _file(recipe.sft.demonstrations)
    if told is not None:
        kept = sources.demonstrations(recipe, told)[0]
        yield "sft.demonstrations", [one.prompt for one in kept]
    for setting, section in (("reward.pairs", recipe.reward), ("dpo.pairs", recipe.dpo)):
        file = _file(section.pairs)
        if file is not None:
            pairs = read_pairs(file, format=section.format, skip_refused=True)
            kept = sources.to_learn_from(recipe, pairs, setting)
            yield setting, [pair.prompt for pair in kept]
    file = _file(recipe.rl.prompts)
    if file is not None:
        train, validation = sources.rl_prompts(recipe, file)
        yield "rl.prompts", [*train, *validation]


def _file(source: str | None) -> str | None:
    """A person's file that is there: no playground, no labelling project."""
    if source is None or source == PLAYGROUND or source.startswith(LABEL):
        return None
    return source if Path(source).exists() else None


def _model(named: str | None) -> Path | None:
    return None if named is None else Path(named)


def doubts_about_reward(model: str | None) -> list[str]:
    """Why a reward model of ours is not ready to be climbed, by its report card; [] if it is."""
    card = None if model is None else _card(Path(model))
    verdict = (card or {}).get("verdict", {"ready": True})
    return [] if verdict["ready"] else list(verdict["reasons"])


def _card(model: Path) -> dict[str, Any] | None:
    """The report card that the reward stage wrote beside a model, where it was ours."""
    path = model.parent / "report_card.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
