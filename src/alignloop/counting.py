"""Counts for `alignloop plan`: rows, steps and tokens of a recipe's files. Part of the pipeline.

Files are read as the stages read them, so whatever a stage would refuse is refused here.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignloop import inputs
from alignloop.ahead import look_ahead
from alignloop.config import Recipe
from alignloop.errors import UserError
from alignloop.judging.of_run import has_reward_stage, trained
from alignloop.plan.stages import Rows
from alignloop.records import PreferencePair

if TYPE_CHECKING:
    from alignloop.data.pairs import TextCodes


def count_inputs(recipe: Recipe) -> dict[str, Rows]:
    """Rows by stage, for the files that exist before the run starts.

    For a model directory with its tokenizer. If model.path is a bare config.json (a plan for
    another machine), and for DPO, which `run` does not include, unreadable files are not counted.
    Raises UserError for anything `alignloop run` would refuse.
    """
    from alignloop.models import context_of
    from alignloop.models.loading import require_weights

    if not Path(recipe.model.path).is_file():
        inputs.require_named(inputs.named_in(recipe))
    base = inputs.base_model(recipe)
    if base.is_file():
        counters = _counters(recipe, None, None)
        return {stage: rows for stage, count in counters.items() if (rows := _count_or_none(count))}
    tokenizer = _check_inputs(recipe)
    require_weights(base)
    counters = _counters(recipe, tokenizer, context_of(base))
    dpo = counters.pop("dpo")
    found = {stage: rows for stage, count in counters.items() if (rows := count()) is not None}
    answer = found["sft"].answer if "sft" in found else None
    for stage in ("rl", "evaluate"):  # a fine-tuned policy answers at the demonstrations' length
        found[stage] = replace(found[stage], answer=answer)
    if rows := _count_or_none(dpo):
        found["dpo"] = rows
    return found


def _check_inputs(recipe: Recipe) -> Any:
    """Run the checks that `Pipeline.run` makes before its first stage; return the tokenizer."""
    return look_ahead(recipe, Path("runs") / recipe.name, ())


Count = Callable[[], Rows | None]


def _counters(recipe: Recipe, tokenizer: Any, context: int | None) -> dict[str, Count]:
    """One function per stage, in the order of the run."""

    def pairs(setting: str) -> Rows | None:
        return _pairs(recipe, setting, tokenizer, context)

    # zero steps: the plan lists the stage and gives it no time
    left_out = Rows(count=0, steps=0)
    counters: dict[str, Count] = {"sft": lambda: left_out, "reward": lambda: left_out}
    if (source := recipe.sft.demonstrations) is not None:
        counters["sft"] = lambda: _sft(recipe, source, tokenizer, context)
    if has_reward_stage(recipe):
        counters["reward"] = lambda: pairs("reward.pairs")
    return counters | {
        "rl": lambda: _rl(recipe, tokenizer),
        "dpo": lambda: pairs("dpo.pairs"),
        "evaluate": lambda: _evaluate(recipe, tokenizer, context),
    }


def _count_or_none(count: Count) -> Rows | None:
    try:
        return count()
    except UserError:
        return None


def _sft(recipe: Recipe, source: str, tokenizer: Any, context: int | None) -> Rows:
    from alignloop.sft.train import all_batches, learning_set

    config = recipe.sft
    records, held_out = inputs.demonstrations(recipe, source)
    if tokenizer is None:
        return Rows(count=len(records))
    seed = inputs.split_seed(recipe, source)
    examples, tests = learning_set(config, records, held_out, tokenizer, context, seed)
    steps = len(all_batches(examples, config, recipe.seed))
    times = 2 + (steps // config.eval_every if config.eval_every else 0)
    lengths = [len(example.input_ids) for example in examples]
    read = times * sum(len(test.input_ids) for test in tests)
    answers = [sum(example.response_mask) for example in examples]
    return Rows(
        count=len(examples),
        steps=steps,
        tokens=_mean(lengths),
        answer=_mean(answers),
        read=read,
    )


def _pairs(recipe: Recipe, setting: str, tokenizer: Any, context: int | None) -> Rows | None:
    """The pairs of all reward models together, or of DPO."""
    from alignloop.data.pairs import PairStore, TextCodes, batches_of_epochs
    from alignloop.data.tokenise import LengthLimit

    section = setting.partition(".")[0]
    config = recipe.dpo if section == "dpo" else recipe.reward
    records = inputs.pairs_of_file(recipe, setting, config.pairs)
    if records is None or tokenizer is None:
        return None if records is None else Rows(count=len(records))
    limit = LengthLimit.of(f"{section}.max_tokens", config.max_tokens, context, config.too_long)
    codes = TextCodes(tokenizer=tokenizer, limit=limit)
    fitting = PairStore.of(records, codes).pairs
    trained, tested = _sets_of_pairs(recipe, section, fitting)
    size, epochs, most = config.batch_size, config.num_epochs, config.max_steps
    sets = [
        batches_of_epochs(some, size, recipe.seed, num_epochs=epochs, max_steps=most)
        for some in trained
    ]
    # DPO's reference reads every text once; a reward model reads those of its report card.
    read = _tokens([pair for some in tested for pair in some], codes)
    return Rows(
        count=sum(map(len, trained)),
        steps=sum(map(len, sets)),
        tokens=_tokens(fitting, codes) / (2 * len(fitting)),
        read=read,
    )


def _sets_of_pairs(
    recipe: Recipe, section: str, pairs: Sequence[PreferencePair]
) -> tuple[list[list[PreferencePair]], list[list[PreferencePair]]]:
    """The pairs that each model trains on, and those that are only read."""
    if section == "dpo":
        from alignloop.data.splits import hold_out

        seed = inputs.split_seed(recipe, recipe.dpo.pairs)
        train, test = hold_out(pairs, recipe.dpo.held_out_share, seed, section="dpo")
        # the reference reads train and test; the policy reads test again for its metrics
        return [train], [train, test, test]
    from alignloop.reward.labels import share_out

    splits = inputs.split_seed(recipe, recipe.reward.pairs)
    models = share_out(pairs, recipe.reward, splits, trained(recipe)).values()
    read = [part for labels in models for part in (labels.calibration, labels.test)]
    return [list(labels.train) for labels in models], list(map(list, read))


def _tokens(pairs: Sequence[PreferencePair], codes: "TextCodes") -> int:
    """Total tokens of both texts of all pairs."""
    return sum(len(codes.seen[key].input_ids) for pair in pairs for key in codes.of(pair))


def _rl(recipe: Recipe, tokenizer: Any) -> Rows:
    from alignloop.data.tokenise import LengthLimit, encode_fitting, encode_prompt
    from alignloop.data.truncation import prompt_cutter

    config = recipe.rl
    train, validation = inputs.rl_prompts(recipe, config.prompts)
    if tokenizer is None:
        return Rows(count=len(train), steps=config.num_steps, validation=len(validation))
    most = config.max_prompt_tokens
    limit = LengthLimit.of("rl.max_prompt_tokens", most, None, config.too_long)
    cut = prompt_cutter(tokenizer, limit)
    sets = [
        encode_fitting(some, lambda p: encode_prompt(tokenizer, p, limit.tokens), limit, cut)[1]
        for some in (train, validation)
    ]
    lengths = [len(codes) for codes in sets[0]]
    return Rows(
        count=len(lengths),
        steps=config.num_steps,
        tokens=_mean(lengths),
        validation=len(sets[1]),
    )


def _evaluate(recipe: Recipe, tokenizer: Any, context: int | None) -> Rows:
    from alignloop.data.tokenise import encode_prompt
    from alignloop.evaluate.compare import MAX_PROMPT_TOKENS, prompts_that_fit

    config = recipe.evaluate
    sets = inputs.evaluation_sets(recipe, config.prompts)
    models = 2 + (inputs.base_to_show(recipe, Path("sft/model")) is not None)
    if tokenizer is None:
        count = sum(min(len(prompts), config.max_prompts) for prompts in sets.values())
        return Rows(count=count, steps=1, models=models)
    base = inputs.base_model(recipe)
    fitting = {n: prompts_that_fit(p, base, recipe.model, config) for n, p in sets.items()}
    lengths = [
        len(encode_prompt(tokenizer, prompt, MAX_PROMPT_TOKENS))
        for prompts in fitting.values()
        for prompt in prompts
    ]
    count = sum(min(len(prompts), config.max_prompts) for prompts in fitting.values())
    return Rows(count=count, steps=1, tokens=_mean(lengths), models=models)


def _mean(numbers: Sequence[int]) -> float:
    return sum(numbers) / max(1, len(numbers))
