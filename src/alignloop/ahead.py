"""Checks of what every stage will read, before the first one starts. Part of the pipeline.

A stage raises the same errors itself; raised here, they do not come hours into a run.
"""

import logging
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignloop.config import Recipe
from alignloop.config.stages import LABEL, REWARD_MODEL, TooLong, names_function
from alignloop.errors import UserError
from alignloop.extras import needs
from alignloop.judging.of_run import has_reward_stage, trained
from alignloop.judging.registry import kind_of
from alignloop.run import holds_model
from alignloop.worlds import refuse_gold, world_of

if TYPE_CHECKING:
    from alignloop.scoring import RewardFunction


def look_ahead(recipe: Recipe, path: Path, done: Collection[str]) -> Any:
    """Check the inputs of the stages that are not `done`; raises UserError for the first fault.

    Returns the tokenizer, prepared as the first stage will. The checks that take no time come first
    (files exist, settings fit each other), then each file is read by its stage's own reader and the
    lengths of its rows are checked.
    """
    return Ahead(recipe=recipe, path=path, done=frozenset(done)).check()


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """One check: the settings, the run's folder, and the finished stages."""

    recipe: Recipe
    path: Path
    done: frozenset[str]

    def check(self) -> Any:
        """Check everything, the quickest first; return the tokenizer."""
        # Four stages count: sft, reward, rl, evaluate. With all of them done, no model is loaded.
        if len(self.done) < 4:
            self._check_model()
            if self.recipe.lora.on:
                with needs("lora", "lora.rank"):
                    import peft  # noqa: F401  # pyright: ignore[reportUnusedImport] -- is it there?
        self._check_sources()
        self._check_rewards()
        start = self._start()
        self._check_context_lengths(start)
        with _without_row_warnings():
            tokenizer = self._tokenizer(start)
            for check in (self._demonstrations, self._prompts, self._held_out, self._pairs):
                check(tokenizer, start)
            return tokenizer

    def _start(self) -> Path:
        """The directory whose tokenizer and context all stages use: SFT model or base."""
        from alignloop import inputs

        own = self.path / "sft" / "model"
        return own if "sft" in self.done and holds_model(own) else inputs.base_model(self.recipe)

    def _check_model(self) -> None:
        from alignloop.config.model_paths import no_model

        path = self.recipe.model.path
        if world_of(path) is None and not holds_model(Path(path)):
            raise no_model(path)

    def _check_sources(self) -> None:
        """Every named source exists."""
        from alignloop import inputs

        for setting, source in inputs.named_in(self.recipe).items():
            stage = setting.partition(".")[0]
            if source is None or stage == "model" or stage in self.done:
                continue
            if ":" not in source and world_of(source) is None:
                _require_file(setting, source)
        for file in self.recipe.data.exclude if len(self.done) < 4 else ():
            _require_file("data.exclude", file)

    def _check_rewards(self) -> None:
        from alignloop import judge_choice

        if "rl" not in self.done:
            rl = self.recipe.rl
            refuse_gold(rl.reward_sources)
            named = {"rl.policy": rl.policy, "rl.held_out_reward_model": rl.held_out_reward_model}
            if self._trains_reward_model and "reward" not in self.done:
                named["reward.model"] = self.recipe.reward.model
            _require_models(named)
            for source in rl.reward_sources:
                if source != REWARD_MODEL:
                    with _naming("rl.rewards"):
                        kind_of(source).check(source)
        if "evaluate" not in self.done:
            evaluate = self.recipe.evaluate
            named = {"evaluate.baseline": evaluate.baseline, "evaluate.policy": evaluate.policy}
            _require_models(named)
            with _naming("evaluate.judge"):
                judge_choice.check_judge(self.recipe, self.path)

    @property
    def _trains_reward_model(self) -> bool:
        return has_reward_stage(self.recipe)

    def _check_context_lengths(self, start: Path) -> None:
        """Prompts and answers fit into the models' contexts."""
        from alignloop.models import context_of

        rl, evaluate, collected = self.recipe.rl, self.recipe.evaluate, self.recipe.comparisons
        if "rl" not in self.done:
            needed = rl.max_prompt_tokens + rl.sampling.max_new_tokens
            context = context_of(rl.policy or start)
            if context is not None and needed > context:
                raise UserError(
                    f"prompt and response may take {needed} tokens, but the model's context is"
                    f" {context}",
                    where="rl.max_prompt_tokens + rl.sampling.max_new_tokens",
                    fix="lower one of them",
                )
        if "evaluate" not in self.done:
            for folder in dict.fromkeys((evaluate.baseline or start, evaluate.policy or start)):
                _check_length("evaluate", evaluate.sampling.max_new_tokens, context_of(folder))
        collects = self._trains_reward_model and world_of(self.recipe.reward.pairs) is not None
        if collects and "reward" not in self.done:
            _check_length("comparisons", collected.sampling.max_new_tokens, context_of(start))

    def _tokenizer(self, start: Path) -> Any:
        from alignloop.data.templates import install_template
        from alignloop.data.tokenise import check_tokenizer
        from alignloop.models import load_tokenizer

        model = self.recipe.model
        tokenizer = load_tokenizer(start, model)
        if model.chat_template and self.recipe.sft.demonstrations is not None:
            install_template(tokenizer, model.chat_template)
        elif model.chat_template and not tokenizer.chat_template:
            raise UserError(
                "SFT writes the chat template into the model, but this recipe has no SFT",
                where=f'model.chat_template = "{model.chat_template}"',
                fix="save the model with its template: tokenizer.chat_template = ...; then"
                f" tokenizer.save_pretrained({str(start)!r})",
            )
        check_tokenizer(tokenizer, str(start))
        return tokenizer

    def _demonstrations(self, tokenizer: Any, start: Path) -> None:
        from alignloop import inputs
        from alignloop.data.splits import hold_out
        from alignloop.data.tokenise import encode_demonstration
        from alignloop.data.truncation import demonstration_cutter

        config, source = self.recipe.sft, self.recipe.sft.demonstrations
        if "sft" in self.done or source is None:
            return
        records, held_out = inputs.demonstrations(self.recipe, source)
        # a source with its own held-out set needs no split
        share = 0.0 if held_out else config.held_out_share
        seed = inputs.split_seed(self.recipe, source)
        limit = _limit("sft.max_tokens", config.max_tokens, start, config.too_long)
        cut = demonstration_cutter(tokenizer, limit)
        for part in hold_out(records, share, seed, section="sft"):
            _fit(part, lambda d: encode_demonstration(tokenizer, d, limit.tokens), limit, cut)

    def _pairs(self, tokenizer: Any, start: Path) -> None:
        from alignloop import inputs
        from alignloop.data.formats import read_pairs
        from alignloop.data.pairs import PairStore, TextCodes
        from alignloop.reward.labels import share_out

        config, source = self.recipe.reward, self.recipe.reward.pairs
        if "reward" in self.done or not self._trains_reward_model or world_of(source) is not None:
            return
        if source.startswith(LABEL):
            with needs("label", "a labelling project"):
                from alignloop.label.training_pairs import project_pairs

            pairs = project_pairs(source.removeprefix(LABEL))[0]
        else:
            pairs = read_pairs(source, format=config.format, skip_refused=self.recipe.skip_refused)
        pairs = list(inputs.to_learn_from(self.recipe, pairs, "reward.pairs"))
        splits = inputs.split_seed(self.recipe, source)
        limit = _limit("reward.max_tokens", config.max_tokens, start, config.too_long)
        codes = TextCodes(tokenizer=tokenizer, limit=limit)
        for labels in share_out(pairs, config, splits, trained(self.recipe)).values():
            fitting = labels.each(lambda part: list(PairStore.of(part, codes).pairs))
            fitting.refuse_undecided()

    def _prompts(self, tokenizer: Any, _start: Path) -> None:
        from alignloop import inputs
        from alignloop.data.tokenise import LengthLimit, encode_prompt
        from alignloop.data.truncation import prompt_cutter

        config = self.recipe.rl
        if "rl" in self.done:
            return
        limit = LengthLimit.of(
            "rl.max_prompt_tokens", config.max_prompt_tokens, None, config.too_long
        )
        functions = _functions(config.reward_sources)
        for part in inputs.rl_prompts(self.recipe, config.prompts):
            for function in functions:
                function.check(part)
            cut = prompt_cutter(tokenizer, limit)
            _fit(part, lambda p: encode_prompt(tokenizer, p, limit.tokens), limit, cut)

    def _held_out(self, tokenizer: Any, start: Path) -> None:
        from alignloop import inputs, judge_choice
        from alignloop.data.tokenise import CONTEXT, LengthLimit, encode_prompt
        from alignloop.data.truncation import prompt_cutter
        from alignloop.models import context_of

        config = self.recipe.evaluate
        if "evaluate" in self.done:
            return
        judge = judge_choice.function_of(self.recipe, self.path)
        functions = _functions(() if judge is None else (judge,))
        context = context_of(start)
        for prompts in inputs.evaluation_sets(self.recipe, config.prompts).values():
            for function in functions:
                function.check(prompts)
            if context is None:
                continue
            limit = LengthLimit(
                tokens=context - config.sampling.max_new_tokens,
                set_by=CONTEXT,
                too_long=config.too_long,
                switch="evaluate.too_long",
            )
            cut = prompt_cutter(tokenizer, limit)
            _fit(
                prompts, lambda p, most=limit.tokens: encode_prompt(tokenizer, p, most), limit, cut
            )


def _functions(names: Iterable[str]) -> "list[RewardFunction]":
    """The judges that are functions: they may require fields of a prompt."""
    from alignloop.scoring import load_function

    return [load_function(name) for name in names if names_function(name)]


def _limit(setting: str, value: int, start: Path, too_long: TooLong) -> Any:
    from alignloop.data.tokenise import LengthLimit
    from alignloop.models import context_of

    return LengthLimit.of(setting, value, context_of(start), too_long)


def _fit(items: Sequence[Any], encode: Callable[[Any], Any], limit: Any, cut: Any) -> None:
    from alignloop.data.tokenise import encode_fitting

    if items:
        encode_fitting(items, encode, limit, cut)


def _check_length(section: str, new_tokens: int, context: int | None) -> None:
    if context is not None and new_tokens >= context:
        raise UserError(
            f"answers of {new_tokens} tokens leave no room for a prompt in the model's context of"
            f" {context}",
            where=f"{section}.sampling.max_new_tokens",
            fix="lower it",
        )


def _require_file(setting: str, source: str) -> None:
    if not Path(source).exists():
        raise UserError("file not found", where=source, fix=f"correct the path in {setting}")


def _require_models(named: dict[str, str | None]) -> None:
    for setting, folder in named.items():
        if folder is not None and not holds_model(Path(folder)):
            raise UserError(
                "no model found here", where=folder, fix=f"set {setting} to a model directory"
            )


@contextmanager
def _naming(setting: str) -> Generator[None]:
    """Name the setting in an error about the judge that it names."""
    try:
        yield
    except UserError as error:
        if setting in str(error):
            raise
        raise UserError(error.problem, where=f"{setting}: {error.where}", fix=error.fix) from None


@contextmanager
def _without_row_warnings() -> Generator[None]:
    """Mute the warnings about rows: the stage itself will print them."""
    logger = logging.getLogger("alignloop")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
