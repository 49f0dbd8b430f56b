"""Where a stage's records come from: a file, a labelling project, or a world.

Part of the pipeline.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from alignloop.config import Recipe
from alignloop.config.stages import LABEL, NOT_NAMED
from alignloop.errors import UserError
from alignloop.extras import needs
from alignloop.judging.of_run import has_reward_stage
from alignloop.records import AttributeScores, Demonstration, PreferencePair, Prompt
from alignloop.run import RunFolder
from alignloop.worlds import WORLDS, Observed, world_of

# A tenth: enough for curves, and the rest is needed for training.
VALIDATION_SHARE = 0.1
REFUSED = "refused.jsonl"

Item = TypeVar("Item")


def require_named(named: Mapping[str, str | None]) -> None:
    """Raise UserError if required settings are empty, listing all of them."""
    missing = [setting for setting, source in named.items() if source == NOT_NAMED]
    if missing:
        examples = {"model.path": "DIR", "sft.demonstrations": "FILE (or none: no SFT)"}
        raise UserError(
            f"no data given for: {', '.join(missing)}",
            fix="set them in the recipe or on the command line: "
            + " ".join(f"--{setting} {examples.get(setting, 'FILE')}" for setting in missing)
            + f"; or name a world: {', '.join(WORLDS)}",
        )


def named_in(recipe: Recipe) -> dict[str, str | None]:
    """The data sources that `run` reads, by setting; None for what it does not need."""
    return {
        "model.path": recipe.model.path,
        "sft.demonstrations": recipe.sft.demonstrations,
        "reward.pairs": recipe.reward.pairs if has_reward_stage(recipe) else None,
        "rl.prompts": recipe.rl.prompts,
        "rl.validation_prompts": recipe.rl.validation_prompts,
        "evaluate.prompts": recipe.evaluate.prompts,
    }


def base_model(recipe: Recipe) -> Path:
    """The directory of the model that SFT starts from; raises UserError if none is set."""
    require_named({"model.path": recipe.model.path})
    world = world_of(recipe.model.path)
    return Path(recipe.model.path) if world is None else world.base_model


def split_seed(recipe: Recipe, source: str) -> int:
    """The seed that, with the prompt, decides the splits of a source.

    A prompt from a file falls into the same split in every run, whatever the run's seed. A world's
    results are means over seeds, so each seed draws its own splits.
    """
    return recipe.data.split_seed if world_of(source) is None else recipe.seed


def _records(
    read: Callable[..., list[Item]],
    recipe: Recipe,
    file: str,
    format: str | None,
    folder: RunFolder | None,
) -> list[Item]:
    """The records of a file; skipped rows go to the run folder's refused.jsonl."""
    to = folder.path / REFUSED if folder is not None else None
    return read(file, format=format, skip_refused=recipe.skip_refused, refused_to=to)


def to_learn_from(recipe: Recipe, records: Sequence[Item], setting: str) -> Sequence[Item]:
    """The records whose prompts data.exclude does not hold out."""
    if not recipe.data.exclude:
        return records
    from alignloop.data.exclusion import leave_out

    return leave_out(records, recipe.data.exclude, recipe.data.near_duplicate, setting)


def demonstrations(
    recipe: Recipe, source: str, folder: RunFolder | None = None
) -> tuple[Sequence[Demonstration], Sequence[Demonstration]]:
    """Demonstrations to train on, and held-out ones if the source brings its own."""
    require_named({"sft.demonstrations": source})
    setting = "sft.demonstrations"
    if (world := world_of(source)) is not None:
        train, held_out = world.demonstrations(recipe.seed)
        return to_learn_from(recipe, train, setting), held_out
    from alignloop.data.formats import read_demonstrations

    records = _records(read_demonstrations, recipe, source, recipe.sft.format, folder)
    return to_learn_from(recipe, records, setting), ()


def zero_of_reward(recipe: Recipe, pairs: str, folder: RunFolder) -> Sequence[Demonstration]:
    """The SFT demonstrations, whose mean score becomes 0; none if they are of another world.

    `pairs` is the source of the preference pairs: a user's own pairs do not go with a world's
    demonstrations.
    """
    source = zero_source(recipe, pairs)
    # centring is optional: a missing file must not stop the reward stage
    if source is None or (world_of(source) is None and not Path(source).exists()):
        return ()
    return demonstrations(recipe, source, folder)[0]


def zero_source(recipe: Recipe, pairs: str) -> str | None:
    """The source of those demonstrations, None if none goes with the pairs."""
    source = recipe.sft.demonstrations
    alike = world_of(source) is world_of(pairs)
    return source if alike and source != NOT_NAMED else None


def preference_pairs(
    recipe: Recipe, setting: str, source: str, model: Path, folder: RunFolder
) -> tuple[list[PreferencePair], str]:
    """Pairs and the file they come from; a world's pairs are collected once and saved.

    The same holds for a labelling project ("label:" and its folder or database): judgements made
    later do not change a run that has started. `setting` is the one that named the source:
    "reward.pairs" or "dpo.pairs".
    """
    from alignloop.data.formats import read_pairs

    require_named({setting: source})
    form = recipe.dpo.format if setting == "dpo.pairs" else recipe.reward.format
    if source.startswith(LABEL):
        with needs("label", "a labelling project"):
            from alignloop.label.training_pairs import keep_pairs

        stage = "labels" if setting == "reward.pairs" else "labels_dpo"
        source, form = str(keep_pairs(source.removeprefix(LABEL), folder, stage)), None
    if (world := world_of(source)) is not None:
        source = str(world.comparisons(recipe, model, folder))
        form = None  # a world writes our own format
    pairs = _records(read_pairs, recipe, source, form, folder)
    return list(to_learn_from(recipe, pairs, setting)), source


def attribute_scores(recipe: Recipe, pairs: str, folder: RunFolder) -> list[AttributeScores]:
    """The answers with scores by criterion that the reward stage learns from.

    `pairs` is the source of the pairs: a labelling project brings its own scores, which the run
    keeps next to its pairs.
    """
    from alignloop.data.formats import read_attributes

    source = attributes_source(recipe, pairs)
    if source.startswith(LABEL):
        with needs("label", "a labelling project"):
            from alignloop.label.training_pairs import keep_attributes

        source = str(keep_attributes(source.removeprefix(LABEL), folder, "labels"))
    rows = _records(read_attributes, recipe, source, None, folder)
    return list(to_learn_from(recipe, rows, "reward.attributes"))


def attributes_source(recipe: Recipe, pairs: str) -> str:
    """The file of scores, or the project of the pairs; raises UserError if there is neither."""
    named = recipe.reward.attributes
    if named is not None and not named.startswith(LABEL):
        return named
    if pairs.startswith(LABEL) and named in (None, pairs):
        return pairs
    raise UserError(
        "reward.criteria need scores to learn from",
        where="reward.attributes",
        fix="name a file of scores, or leave it out if reward.pairs is a labelling project",
    )


def pairs_of_file(recipe: Recipe, setting: str, source: str) -> list[PreferencePair] | None:
    """The pairs that a run would read from a file; None if the run makes them itself.

    A run makes them from a world or a labelling project.
    """
    if world_of(source) is not None or source.startswith(LABEL):
        return None
    require_named({setting: source})
    from alignloop.data.formats import read_pairs

    form = recipe.dpo.format if setting == "dpo.pairs" else recipe.reward.format
    pairs = _records(read_pairs, recipe, source, form, None)
    return list(to_learn_from(recipe, pairs, setting))


def rl_prompts(
    recipe: Recipe, source: str, folder: RunFolder | None = None
) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Training prompts and validation prompts; a tenth is held back if no file is named."""
    require_named({"rl.prompts": source})
    if (world := world_of(source)) is not None:
        train, validation = world.prompts()
        return to_learn_from(recipe, train, "rl.prompts"), validation
    from alignloop.data.formats import read_prompts
    from alignloop.data.formats.reading import distinct_prompts
    from alignloop.data.splits import split_by_prompt

    form = recipe.rl.format
    found = _records(read_prompts, recipe, source, form, folder)
    prompts = to_learn_from(recipe, found, "rl.prompts")
    if recipe.rl.validation_prompts is not None:
        file = recipe.rl.validation_prompts
        validation = _records(read_prompts, recipe, file, form, folder)
        # A text-based reward looks a prompt up by its id, whichever file it came from.
        distinct_prompts(f"{source} and {file}", [*prompts, *validation])
        return prompts, validation
    shares = {"validation": VALIDATION_SHARE, "train": 1 - VALIDATION_SHARE}
    parts = split_by_prompt(prompts, shares, split_seed(recipe, source))
    if not parts["validation"] or not parts["train"]:
        raise UserError(
            f"{len(prompts)} prompts are too few to hold back a tenth for validation",
            where="rl.prompts",
            fix="give more prompts, or set rl.validation_prompts",
        )
    return parts["train"], parts["validation"]


def base_to_show(recipe: Recipe, baseline: Path) -> Path | None:
    """The user's model before SFT, for a third column; None if there is none to show.

    A world's base model is not the user's; if it is the baseline, it already has a column.
    """
    named = recipe.evaluate.base
    if named is None or (named == "model" and world_of(recipe.model.path) is not None):
        return None
    path = Path(recipe.model.path if named == "model" else named)
    return None if path.resolve() == baseline.resolve() else path


def evaluation_sets(
    recipe: Recipe, source: str, folder: RunFolder | None = None
) -> dict[str, Sequence[Prompt]]:
    """The held-out prompt sets by name; a user's file is one set, "prompts"."""
    require_named({"evaluate.prompts": source})
    if (world := world_of(source)) is not None:
        return dict(world.evaluation_sets())
    from alignloop.data.formats import read_prompts

    return {"prompts": _records(read_prompts, recipe, source, recipe.evaluate.format, folder)}


def set_names(source: str) -> Mapping[str, tuple[str, str]]:
    """What reports call the held-out sets of a world, in English and Chinese, by key."""
    world = world_of(source)
    return {} if world is None else world.set_names


def observer_of(source: str) -> Observed | None:
    """The world's observer of validation answers to `source`, for the curves; None for a file."""
    world = world_of(source)
    return None if world is None else world.observer()
