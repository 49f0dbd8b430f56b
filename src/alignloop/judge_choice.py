"""Who judges an evaluation, what that judge is worth, what it saw. Part of the pipeline."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignloop.config import Recipe
from alignloop.config.stages import LABEL, NOT_NAMED, OF_REWARD_STAGE, names_function
from alignloop.errors import UserError
from alignloop.judging.of_run import RewardModels, has_reward_stage, own_models, trained
from alignloop.judging.protocol import Judge, JudgeFacts, facts_of_model
from alignloop.judging.registry import Making, kind_of, make_judge
from alignloop.records import Prompt
from alignloop.run import holds_model
from alignloop.worlds import world_of


def judge_of(recipe: Recipe, folder: Path) -> "tuple[Callable[[], Judge], JudgeFacts]":
    """Makes the judge of an evaluation, with what the report says of it; the model loads when made.

    Who `evaluate.judge` names; else the reward model that is most independent of what RL did; else
    the function that RL climbed. Raises UserError if there is nobody.
    """
    name, models = recipe.evaluate.judge, RewardModels.of(recipe, folder)
    if (world := world_of(name)) is not None:
        return world.judge, world.judge().facts
    name = name or _most_independent(recipe, models)
    making = Making(
        model_config=recipe.model, own=own_models(folder), time_limit=recipe.rl.reward_time_limit
    )
    path, make = making.folder(name), lambda: make_judge(name, making)
    called = making.called(name)
    facts = facts_of_model(called, str(path)) if kind_of(name).learnt else make().facts
    climbed = path == models.climbed or name in recipe.rl.reward_sources
    chose = path == (models.chooser or models.climbed)
    card = _card(path) if facts.kind == "reward_model" else None
    return make, replace(facts, climbed=climbed, chose_checkpoint=chose, card=card)


def model_of(recipe: Recipe, folder: Path, *, planned: Collection[str] = ()) -> Path | None:
    """The directory of the reward model that judges, which evaluation reads; None if no model does.

    Those in `planned` count as there: the reward stage will train them.
    """
    name = recipe.evaluate.judge
    if name is None:
        return RewardModels.of(recipe, folder, planned=planned).best
    if world_of(name) is not None or not kind_of(name).learnt:
        return None
    return own_models(folder).get(name, Path(name))


def function_of(recipe: Recipe, folder: Path) -> str | None:
    """The name of the function that judges; None if a model or a world does."""
    planned = trained(recipe) if has_reward_stage(recipe) else ()
    models = RewardModels.of(recipe, folder, planned=planned)
    name = recipe.evaluate.judge or _most_independent(recipe, models)
    return name if names_function(name) else None


def _most_independent(recipe: Recipe, models: RewardModels) -> str:
    if models.best is not None:
        folders = {path: name for name, path in own_models(models.folder).items()}
        return folders.get(models.best, str(models.best))
    if functions := [name for name in recipe.rl.reward_sources if not kind_of(name).learnt]:
        return functions[0]
    raise UserError(
        "nobody is there to judge the answers",
        where="evaluate.judge",
        fix="train one from your pairs by `alignloop reward`, or name a model directory:"
        " --evaluate.judge DIR",
    )


def check_judge(recipe: Recipe, folder: Path) -> None:
    """Raise UserError if nobody could judge the answers, before hours go by without it."""
    planned = trained(recipe) if has_reward_stage(recipe) else ()
    name = recipe.evaluate.judge
    if name is None:
        _most_independent(recipe, RewardModels.of(recipe, folder, planned=planned))
    elif name in OF_REWARD_STAGE:
        if OF_REWARD_STAGE[name] not in planned and not holds_model(own_models(folder)[name]):
            raise UserError(
                f"the reward stage of these settings trains no {name}",
                where="evaluate.judge",
                fix="name another judge, or let it be trained: --reward.held_out_model true",
            )
    elif (world := world_of(name)) is None:
        kind_of(name).check(name)
    elif world_of(recipe.evaluate.prompts) is not world:
        raise UserError(
            "a world's judge knows what is true of its own prompts alone",
            where=f"evaluate.judge = {name!r}, evaluate.prompts = {recipe.evaluate.prompts!r}",
            fix="name another judge, or leave it out: a reward model of the run judges then",
        )


def learnt_from(recipe: Recipe) -> Mapping[str, Sequence[Prompt]]:
    """The prompts that the run's own files teach, by the setting that names the file.

    A world's own sets are apart by construction.
    """
    found: dict[str, Sequence[Prompt]] = {}
    for setting, prompts in _taught(recipe.model_copy(update={"skip_refused": True})):
        found[setting] = list({prompt.messages: prompt for prompt in prompts}.values())
    return found


def doubts_about_validation(
    recipe: Recipe, train: Sequence[Prompt], validation: Sequence[Prompt]
) -> str:
    """Whether the prompts that choose RL's checkpoint are learnt from as well; "" if they are not.

    A world's own sets are apart by construction.
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
    from alignloop import inputs
    from alignloop.data.formats import read_pairs

    told = _file(recipe.sft.demonstrations)
    if told is not None:
        kept = inputs.demonstrations(recipe, told)[0]
        yield "sft.demonstrations", [one.prompt for one in kept]
    for setting, section in (("reward.pairs", recipe.reward), ("dpo.pairs", recipe.dpo)):
        file = _file(section.pairs)
        if file is not None:
            pairs = read_pairs(file, format=section.format, skip_refused=True)
            kept = inputs.to_learn_from(recipe, pairs, setting)
            yield setting, [pair.prompt for pair in kept]
    file = _file(recipe.rl.prompts)
    if file is not None:
        train, validation = inputs.rl_prompts(recipe, file)
        yield "rl.prompts", [*train, *validation]


def _file(source: str | None) -> str | None:
    """A person's file that is there: no world, no labelling project."""
    if source is None or source == NOT_NAMED or source.startswith(LABEL) or world_of(source):
        return None
    return source if Path(source).exists() else None


def doubts_about_reward(model: str | None) -> list[str]:
    """Why a reward model of ours is not ready to be climbed, by its report card; [] if it is."""
    card = None if model is None else _card(Path(model))
    verdict = (card or {}).get("verdict", {"ready": True})
    return [] if verdict["ready"] else list(verdict["reasons"])


def _card(model: Path) -> dict[str, Any] | None:
    """The report card that the reward stage wrote beside a model, where it was ours."""
    path = model.parent / "report_card.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
