"""Which judge evaluates, how good it is, and what it has seen. Part of the pipeline."""

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
    """A function that makes the evaluation's judge, and the facts the report gives about it.

    The judge is the one in `evaluate.judge`; else the reward model most independent of RL; else the
    function that RL optimised. A model is loaded only when made. Raises UserError if there is none.
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
    # without a chooser the climbed model picks the checkpoint itself
    chose = path == (models.chooser or models.climbed)
    card = _card(path) if facts.kind == "reward_model" else None
    return make, replace(facts, climbed=climbed, chose_checkpoint=chose, card=card)


def model_of(recipe: Recipe, folder: Path, *, planned: Collection[str] = ()) -> Path | None:
    """The reward model's directory if the judge is one, else None.

    Models in `planned` count as present: the reward stage will train them.
    """
    name = recipe.evaluate.judge
    if name is None:
        return RewardModels.of(recipe, folder, planned=planned).best
    if world_of(name) is not None or not kind_of(name).learnt:
        return None
    return own_models(folder).get(name, Path(name))


def function_of(recipe: Recipe, folder: Path) -> str | None:
    """The name of the judging function; None if a model or a world judges."""
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
        "no judge is available",
        where="evaluate.judge",
        fix="train one from your pairs with `alignloop reward`, or set a model directory:"
        " --evaluate.judge DIR",
    )


def check_judge(recipe: Recipe, folder: Path) -> None:
    """Raise UserError if there is no usable judge, before the run spends hours."""
    planned = trained(recipe) if has_reward_stage(recipe) else ()
    name = recipe.evaluate.judge
    if name is None:
        _most_independent(recipe, RewardModels.of(recipe, folder, planned=planned))
    elif name in OF_REWARD_STAGE:
        if OF_REWARD_STAGE[name] not in planned and not holds_model(own_models(folder)[name]):
            raise UserError(
                f"these settings do not train the {name}",
                where="evaluate.judge",
                fix="name another judge, or train it: --reward.held_out_model true",
            )
    elif (world := world_of(name)) is None:
        kind_of(name).check(name)
    elif world_of(recipe.evaluate.prompts) is not world:
        raise UserError(
            "a world's judge can only judge that world's prompts",
            where=f"evaluate.judge = {name!r}, evaluate.prompts = {recipe.evaluate.prompts!r}",
            fix="name another judge, or remove the setting to use a reward model of the run",
        )


def learnt_from(recipe: Recipe) -> Mapping[str, Sequence[Prompt]]:
    """The prompts in the run's own training files, by the setting that names the file.

    A world's sets share no prompts, so they are not listed.
    """
    found: dict[str, Sequence[Prompt]] = {}
    for setting, prompts in _training_prompts(recipe.model_copy(update={"skip_refused": True})):
        # one entry per conversation: files repeat prompts
        found[setting] = list({prompt.messages: prompt for prompt in prompts}.values())
    return found


def doubts_about_validation(
    recipe: Recipe, train: Sequence[Prompt], validation: Sequence[Prompt]
) -> str:
    """A warning if prompts that choose RL's checkpoint are trained on as well, else "".

    A world's sets share no prompts.
    """
    if _file(recipe.rl.prompts) is None:
        return ""
    from alignloop.evaluate.overlap import overlaps

    sets = {"validation": validation}
    found = overlaps(sets, {"rl.prompts": train}, recipe.data.near_duplicate)["sets"]["validation"]
    if not found["seen"]:
        return ""
    return (
        f"{found['seen']} of {found['n']} validation prompts are (nearly) training prompts too: the"
        " curves and the choice of the checkpoint will flatter the policy"
    )


def _training_prompts(recipe: Recipe) -> Iterator[tuple[str, Sequence[Prompt]]]:
    from alignloop import inputs
    from alignloop.data.formats import read_pairs

    file = _file(recipe.sft.demonstrations)
    if file is not None:
        kept = inputs.demonstrations(recipe, file)[0]
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
    """The source if it is an existing file: not a world or a labelling project."""
    if source is None or source == NOT_NAMED or source.startswith(LABEL) or world_of(source):
        return None
    return source if Path(source).exists() else None


def doubts_about_reward(model: str | None) -> list[str]:
    """Why, by its report card, RL should not optimise this reward model; [] if it may."""
    card = None if model is None else _card(Path(model))
    verdict = (card or {}).get("verdict", {"ready": True})
    return [] if verdict["ready"] else list(verdict["reasons"])


def _card(model: Path) -> dict[str, Any] | None:
    """The report card that our reward stage wrote next to a model, or None."""
    path = model.parent / "report_card.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
