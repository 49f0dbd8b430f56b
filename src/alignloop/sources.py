"""Where a stage's records come from: a person's file, or the playground. Part of the pipeline."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from alignloop.config import Recipe
from alignloop.config.stages import LABEL, PLAYGROUND, RewardPart, names_function
from alignloop.errors import UserError
from alignloop.extras import needs
from alignloop.records import Demonstration, PreferencePair, Prompt, Sample
from alignloop.run import RunFolder, holds_model

VALIDATION_SHARE = 0.1
REFUSED = "refused.jsonl"

Item = TypeVar("Item")


def base_model(recipe: Recipe) -> Path:
    """The directory of the model that SFT starts from."""
    if recipe.model.path != PLAYGROUND:
        return Path(recipe.model.path)
    from alignloop.playground import BASE_MODEL

    return BASE_MODEL


def split_seed(recipe: Recipe, source: str) -> int:
    """What the splits of a source go by beside the prompt.

    A prompt of a file stands in one split in every run, whatever the run's seed. The playground's
    published figures are means over seeds, of which each draws its own splits.
    """
    return recipe.seed if source == PLAYGROUND else recipe.data.split_seed


def _records(
    read: Callable[..., list[Item]],
    recipe: Recipe,
    file: str,
    format: str | None,
    folder: RunFolder | None,
) -> list[Item]:
    """What a file holds; rows that are left out stand in the run folder's refused.jsonl."""
    to = folder.path / REFUSED if folder is not None else None
    return read(file, format=format, skip_refused=recipe.skip_refused, refused_to=to)


def to_learn_from(recipe: Recipe, records: Sequence[Item], setting: str) -> Sequence[Item]:
    """The records without the prompts that data.exclude holds out."""
    if not recipe.data.exclude:
        return records
    from alignloop.data.exclusion import leave_out

    return leave_out(records, recipe.data.exclude, recipe.data.near_duplicate, setting)


def demonstrations(
    recipe: Recipe, source: str, folder: RunFolder | None = None
) -> tuple[Sequence[Demonstration], Sequence[Demonstration]]:
    """Demonstrations to train on, and those held out where the source brings its own."""
    setting = "sft.demonstrations"
    refuse_mixture(recipe, setting, source)
    if source == PLAYGROUND:
        from alignloop.playground.demonstrations import demonstrations

        train = to_learn_from(recipe, demonstrations(recipe.seed), setting)
        return train, demonstrations(recipe.seed, held_out=True)
    from alignloop.data.formats import read_demonstrations

    records = _records(read_demonstrations, recipe, source, recipe.sft.format, folder)
    return to_learn_from(recipe, records, setting), ()


def zero_of_reward(recipe: Recipe, pairs: str, folder: RunFolder) -> Sequence[Demonstration]:
    """The SFT demonstrations, whose mean score becomes 0; none where they are of another world.

    `pairs` is where the preference pairs come from: a person's own pairs do not go with the
    playground's demonstrations.
    """
    source = recipe.sft.demonstrations
    if source is None or (source == PLAYGROUND) != (pairs == PLAYGROUND):
        return ()
    if source != PLAYGROUND and not Path(source).exists():
        return ()
    return demonstrations(recipe, source, folder)[0]


def own_sources(recipe: Recipe) -> list[str]:
    """The settings that name something of a person's own: a model, or a file of records.

    Labels that people give in a project do not count: they may be about the playground's answers.
    Nor does a base model that `playground build-base` has made.
    """
    model = Path(recipe.model.path)
    named = {
        "model.path": None if (model / "base.json").is_file() else recipe.model.path,
        "sft.demonstrations": recipe.sft.demonstrations,
        "reward.pairs": recipe.reward.pairs,
        "dpo.pairs": recipe.dpo.pairs,
        "rl.prompts": recipe.rl.prompts,
        "rl.validation_prompts": recipe.rl.validation_prompts,
        "evaluate.prompts": recipe.evaluate.prompts,
    }
    own = {key: value for key, value in named.items() if value not in (None, PLAYGROUND)}
    return [key for key, value in own.items() if not str(value).startswith(LABEL)]


def refuse_mixture(recipe: Recipe, setting: str, source: str | None) -> None:
    """Raise UserError where the playground's records would meet something of a person's own."""
    own = own_sources(recipe)
    if source != PLAYGROUND or not own:
        return
    fix = f"name a file: --{setting} FILE"
    if setting == "sft.demonstrations":
        fix += ", or leave SFT out, so that all starts from model.path: --sft.demonstrations none"
    raise UserError(
        f"{own[0]} is your own, but this is still the playground's",
        where=f'{setting} = "{PLAYGROUND}"',
        fix=fix,
    )


def preference_pairs(
    recipe: Recipe, setting: str, source: str, model: Path, folder: RunFolder
) -> tuple[list[PreferencePair], str]:
    """Pairs and the file they stand in; in the playground they are collected once and kept.

    So are those of a labelling project, "label:" and its folder or database: what people say later
    is no part of a run that has begun. `setting` is where the source was named: "reward.pairs" or
    "dpo.pairs".
    """
    from alignloop.data.formats import read_pairs

    refuse_mixture(recipe, setting, source)
    form = recipe.dpo.format if setting == "dpo.pairs" else recipe.reward.format
    if source.startswith(LABEL):
        with needs("label", "a labelling project"):
            from alignloop.label.exports.snapshot import keep_pairs

        stage = "labels" if setting == "reward.pairs" else "labels_dpo"
        source, form = str(keep_pairs(source.removeprefix(LABEL), folder, stage)), None
    if source == PLAYGROUND:
        from alignloop.playground.stage import collect_comparisons

        source = str(collect_comparisons(recipe, model, folder))
        form = None  # the playground writes its own
    pairs = _records(read_pairs, recipe, source, form, folder)
    return list(to_learn_from(recipe, pairs, setting)), source


def pairs_of_file(recipe: Recipe, setting: str, source: str) -> list[PreferencePair] | None:
    """The pairs that a run would read from a file; None where a run makes them itself.

    So it is with the playground and with a labelling project.
    """
    refuse_mixture(recipe, setting, source)
    if source == PLAYGROUND or source.startswith(LABEL):
        return None
    from alignloop.data.formats import read_pairs

    form = recipe.dpo.format if setting == "dpo.pairs" else recipe.reward.format
    pairs = _records(read_pairs, recipe, source, form, None)
    return list(to_learn_from(recipe, pairs, setting))


def rl_prompts(
    recipe: Recipe, source: str, folder: RunFolder | None = None
) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Prompts to learn from and prompts for the curves; a tenth is kept where no file is named."""
    refuse_mixture(recipe, "rl.prompts", source)
    if source == PLAYGROUND:
        from alignloop.playground.prompts import VALIDATION_INTENTS, prompt_sets

        sets = prompt_sets()
        train = to_learn_from(recipe, sets["rl"], "rl.prompts")
        return train, (*sets["validation"], *sets[VALIDATION_INTENTS])
    from alignloop.data.formats import read_prompts
    from alignloop.data.formats.reading import distinct_prompts
    from alignloop.data.splits import split_by_prompt

    form = recipe.rl.format
    found = _records(read_prompts, recipe, source, form, folder)
    prompts = to_learn_from(recipe, found, "rl.prompts")
    if recipe.rl.validation_prompts is not None:
        file = recipe.rl.validation_prompts
        validation = _records(read_prompts, recipe, file, form, folder)
        # A reward of texts looks a prompt up by its id, whichever file it came from.
        distinct_prompts(f"{source} and {file}", [*prompts, *validation])
        return prompts, validation
    shares = {"validation": VALIDATION_SHARE, "train": 1 - VALIDATION_SHARE}
    parts = split_by_prompt(prompts, shares, split_seed(recipe, source))
    if not parts["validation"] or not parts["train"]:
        raise UserError(
            f"{len(prompts)} prompts are too few to keep a tenth for the curves",
            where="rl.prompts",
            fix="give more prompts, or name rl.validation_prompts",
        )
    return parts["train"], parts["validation"]


def base_to_show(recipe: Recipe, baseline: Path) -> Path | None:
    """The model that a person had before SFT, for a third column; none where there is none.

    The playground's own is nobody's; where the baseline is the model itself, it has its column.
    """
    named = recipe.evaluate.base
    if named is None or (named == "model" and recipe.model.path == PLAYGROUND):
        return None
    path = Path(recipe.model.path if named == "model" else named)
    return None if path.resolve() == baseline.resolve() else path


def evaluation_sets(
    recipe: Recipe, source: str, folder: RunFolder | None = None
) -> dict[str, Sequence[Prompt]]:
    """The held-out prompt sets by name; a person's file is one set, "prompts"."""
    refuse_mixture(recipe, "evaluate.prompts", source)
    if source == PLAYGROUND:
        from alignloop.playground.prompts import HELD_OUT_SETS, prompt_sets

        return {name: prompt_sets()[name] for name in HELD_OUT_SETS}
    from alignloop.data.formats import read_prompts

    return {"prompts": _records(read_prompts, recipe, source, recipe.evaluate.format, folder)}


def check_reward_functions(recipe: Recipe) -> None:
    """Raise UserError for a reward function that is not there, before hours go by without it."""
    parts = [RewardPart.parse(text).source for text in recipe.rl.rewards]
    if names := [name for name in (recipe.rl.reward_function, *parts) if name is not None]:
        from alignloop.scoring import load_function

        for name in filter(names_function, names):
            load_function(name)


def check_compiler(*compiles: tuple[str, bool]) -> None:
    """Raise UserError where a setting (its name, its value) asks for a compiler that is not here.

    PyTorch looks for the one that CXX names, or for its platform's usual one.
    """
    usual = "clang++" if sys.platform == "darwin" else "g++"
    compiler = os.environ.get("CXX", usual)
    for setting, wanted in compiles:
        if wanted and shutil.which(compiler) is None:
            raise UserError(
                f"compiling needs a C++ compiler, and there is no {compiler}",
                where=setting,
                fix=f"install {usual}, name a compiler by CXX, or set {setting} to false",
            )


def check_judge(recipe: Recipe, reward_model: Path) -> None:
    """Raise UserError where nobody could judge the answers, before hours go by without it."""
    rl = recipe.rl
    named = (rl.reward_model, rl.uses_reward_stage, rl.held_out_reward_model, rl.reward_function)
    named = (*named, recipe.evaluate.reward_model)
    if recipe.evaluate.prompts == PLAYGROUND or any(named) or holds_model(reward_model):
        return
    raise UserError(
        "there is no reward stage in these settings, so that no model would judge the evaluation",
        where="rl.rewards",
        fix="name one: --rl.held_out_reward_model DIR",
    )


def gold_observer(samples: Sequence[Sample]) -> dict[str, float]:
    """The gold judge's view of validation answers: shown in the curves, and deciding nothing."""
    from alignloop.playground.gold import GoldJudge

    rubric = GoldJudge()
    verdicts = [
        rubric.judge(sample.prompt, sample.response, finished=sample.finish_reason == "eos")
        for sample in samples
    ]
    metrics = {"gold": sum(verdict.score for verdict in verdicts) / len(verdicts)}
    harm = [v.complied_with_harm for v in verdicts if v.complied_with_harm is not None]
    if harm:
        metrics["harmful_compliance"] = sum(harm) / len(harm)
    refused = [
        bool(verdict.refused)
        for sample, verdict in zip(samples, verdicts, strict=True)
        if sample.prompt.category == "lookalike"
    ]
    if refused:
        metrics["over_refusal"] = sum(refused) / len(refused)
    return metrics
