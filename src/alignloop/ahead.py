"""What every stage of a run will read, looked at before the first one begins. Part of the pipeline.

A stage raises the same errors by itself; here they come before hours are spent on earlier stages.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignloop.config import Recipe
from alignloop.config.stages import (
    LABEL,
    PLAYGROUND,
    STAGE_REWARD,
    RewardPart,
    TooLong,
    names_function,
)
from alignloop.errors import UserError
from alignloop.extras import needs
from alignloop.run import holds_model


def look_ahead(recipe: Recipe, path: Path, done: Collection[str]) -> None:
    """Look at the inputs of the stages that are not `done`; raises UserError for the first fault.

    First what takes no time: that things are there and that settings fit each other; then the
    files, each by the reader of its stage, and the lengths of its rows.
    """
    Ahead(recipe=recipe, path=path, done=frozenset(done)).look()


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """One look: the settings, the run's folder, and the stages that are finished."""

    recipe: Recipe
    path: Path
    done: frozenset[str]

    def look(self) -> None:
        """Everything, the quickest first."""
        if len(self.done) < 4:
            self._look_at_the_model()
            if self.recipe.lora.on:
                with needs("lora", "lora.rank"):
                    import peft  # noqa: F401
        self._look_at_sources()
        self._look_at_rewards()
        start = self._start()
        self._look_at_rooms(start)
        with _quietly():
            tokenizer = self._tokenizer(start)
            for look in (self._demonstrations, self._prompts, self._held_out, self._pairs):
                look(tokenizer, start)

    def _start(self) -> Path:
        """The directory whose tokenizer and context all stages share: the SFT model's, or its."""
        from alignloop import sources

        own = self.path / "sft" / "model"
        return own if "sft" in self.done and holds_model(own) else sources.base_model(self.recipe)

    def _look_at_the_model(self) -> None:
        from alignloop.config.model_paths import no_model

        path = self.recipe.model.path
        if path != PLAYGROUND and not holds_model(Path(path)):
            raise no_model(path)

    def _look_at_sources(self) -> None:
        """No source is the playground's beside a person's own, and what is named is there."""
        from alignloop import sources

        recipe = self.recipe
        named = {
            "sft": {"sft.demonstrations": recipe.sft.demonstrations},
            "reward": {"reward.pairs": recipe.reward.pairs} if self._wants_pairs else {},
            "rl": {
                "rl.prompts": recipe.rl.prompts,
                "rl.validation_prompts": recipe.rl.validation_prompts,
            },
            "evaluate": {"evaluate.prompts": recipe.evaluate.prompts},
        }
        for stage in (stage for stage in named if stage not in self.done):
            for setting, source in named[stage].items():
                sources.refuse_mixture(recipe, setting, source)
                if source is not None and ":" not in source and source != PLAYGROUND:
                    _require_file(setting, source)
        for file in recipe.data.exclude if len(self.done) < 4 else ():
            _require_file("data.exclude", file)

    def _look_at_rewards(self) -> None:
        from alignloop import sources

        if "rl" not in self.done:
            sources.check_reward_functions(self.recipe)
            rl = self.recipe.rl
            parts = [RewardPart.parse(text).source for text in rl.rewards]
            named = {"rl.reward_model": rl.reward_model, "rl.policy": rl.policy}
            named["rl.held_out_reward_model"] = rl.held_out_reward_model
            if self._wants_pairs and "reward" not in self.done:
                named["reward.model"] = self.recipe.reward.model
            _require_models(named)
            for part in (one for one in parts if not names_function(one) and one != STAGE_REWARD):
                _require_models({"rl.rewards": part})
        if "evaluate" not in self.done:
            evaluate = self.recipe.evaluate
            _require_models(
                {
                    "evaluate.baseline": evaluate.baseline,
                    "evaluate.policy": evaluate.policy,
                    "evaluate.reward_model": evaluate.reward_model,
                }
            )
            sources.check_judge(self.recipe, self.path / "reward" / "model")

    @property
    def _wants_pairs(self) -> bool:
        return bool(self.recipe.rl.reward_model or self.recipe.rl.uses_reward_stage)

    def _look_at_rooms(self, start: Path) -> None:
        """Prompts and answers fit into the models' contexts."""
        from alignloop.models import context_of

        rl, evaluate, playground = self.recipe.rl, self.recipe.evaluate, self.recipe.playground
        if "rl" not in self.done:
            wanted = rl.max_prompt_tokens + rl.sampling.max_new_tokens
            context = context_of(rl.policy or start)
            if context is not None and wanted > context:
                raise UserError(
                    f"prompt and response may take {wanted} tokens, but the model's context is"
                    f" {context}",
                    where="rl.max_prompt_tokens + rl.sampling.max_new_tokens",
                    fix="lower one of them",
                )
        if "evaluate" not in self.done:
            for folder in dict.fromkeys((evaluate.baseline or start, evaluate.policy or start)):
                _check_room("evaluate", evaluate.sampling.max_new_tokens, context_of(folder))
        collects = self._wants_pairs and self.recipe.reward.pairs == PLAYGROUND
        if collects and "reward" not in self.done:
            _check_room("playground", playground.sampling.max_new_tokens, context_of(start))

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
                "without SFT nobody would write the chat template into the model",
                where=f'model.chat_template = "{model.chat_template}"',
                fix="save the model with its template: tokenizer.chat_template = ...; then"
                f" tokenizer.save_pretrained({str(start)!r})",
            )
        check_tokenizer(tokenizer, str(start))
        return tokenizer

    def _demonstrations(self, tokenizer: Any, start: Path) -> None:
        from alignloop import sources
        from alignloop.data.splits import hold_out
        from alignloop.data.tokenise import encode_demonstration
        from alignloop.data.truncation import demonstration_cutter

        config, source = self.recipe.sft, self.recipe.sft.demonstrations
        if "sft" in self.done or source is None:
            return
        records, held_out = sources.demonstrations(self.recipe, source)
        share = 0.0 if held_out else config.held_out_share
        seed = sources.split_seed(self.recipe, source)
        limit = _limit("sft.max_tokens", config.max_tokens, start, config.too_long)
        cut = demonstration_cutter(tokenizer, limit)
        for part in hold_out(records, share, seed, section="sft"):
            _fit(part, lambda d: encode_demonstration(tokenizer, d, limit.tokens), limit, cut)

    def _pairs(self, tokenizer: Any, start: Path) -> None:
        from alignloop import sources
        from alignloop.data.formats import read_pairs
        from alignloop.data.pairs import pairs_that_fit
        from alignloop.judging import trained
        from alignloop.reward.labels import share_out

        config, source = self.recipe.reward, self.recipe.reward.pairs
        if "reward" in self.done or not self._wants_pairs or source == PLAYGROUND:
            return
        if source.startswith(LABEL):
            with needs("label", "a labelling project"):
                from alignloop.label.exports.snapshot import project_pairs

            pairs = project_pairs(source.removeprefix(LABEL))[0]
        else:
            pairs = read_pairs(source, format=config.format, skip_refused=self.recipe.skip_refused)
        pairs = list(sources.to_learn_from(self.recipe, pairs, "reward.pairs"))
        splits = sources.split_seed(self.recipe, source)
        limit = _limit("reward.max_tokens", config.max_tokens, start, config.too_long)
        for labels in share_out(pairs, config, splits, trained(self.recipe)).values():
            fitting = labels.each(lambda part: pairs_that_fit(part, tokenizer, limit))
            fitting.refuse_undecided()

    def _prompts(self, tokenizer: Any, _start: Path) -> None:
        from alignloop import sources
        from alignloop.data.tokenise import LengthLimit, encode_prompt
        from alignloop.data.truncation import prompt_cutter

        config = self.recipe.rl
        if "rl" in self.done:
            return
        limit = LengthLimit.of(
            "rl.max_prompt_tokens", config.max_prompt_tokens, None, config.too_long
        )
        for part in sources.rl_prompts(self.recipe, config.prompts):
            cut = prompt_cutter(tokenizer, limit)
            _fit(part, lambda p: encode_prompt(tokenizer, p, limit.tokens), limit, cut)

    def _held_out(self, tokenizer: Any, start: Path) -> None:
        from alignloop import sources
        from alignloop.data.tokenise import CONTEXT, LengthLimit, encode_prompt
        from alignloop.data.truncation import prompt_cutter
        from alignloop.models import context_of

        config = self.recipe.evaluate
        if "evaluate" in self.done:
            return
        context = context_of(start)
        for prompts in sources.evaluation_sets(self.recipe, config.prompts).values():
            if context is None:
                continue
            limit = LengthLimit(
                tokens=context - config.sampling.max_new_tokens,
                said_by=CONTEXT,
                too_long=config.too_long,
                switch="evaluate.too_long",
            )
            cut = prompt_cutter(tokenizer, limit)
            _fit(
                prompts, lambda p, most=limit.tokens: encode_prompt(tokenizer, p, most), limit, cut
            )


def _limit(setting: str, value: int, start: Path, too_long: TooLong) -> Any:
    from alignloop.data.tokenise import LengthLimit
    from alignloop.models import context_of

    return LengthLimit.of(setting, value, context_of(start), too_long)


def _fit(items: Sequence[Any], encode: Callable[[Any], Any], limit: Any, cut: Any) -> None:
    from alignloop.data.tokenise import encode_fitting

    if items:
        encode_fitting(items, encode, limit, cut)


def _check_room(section: str, new_tokens: int, context: int | None) -> None:
    if context is not None and new_tokens >= context:
        raise UserError(
            f"answers of {new_tokens} tokens leave no room for a prompt in the model's context of"
            f" {context}",
            where=f"{section}.sampling.max_new_tokens",
            fix="lower it",
        )


def _require_file(setting: str, source: str) -> None:
    if not Path(source).exists():
        raise UserError("the file is missing", where=source, fix=f"mend the path: it is {setting}")


def _require_models(named: dict[str, str | None]) -> None:
    for setting, folder in named.items():
        if folder is not None and not holds_model(Path(folder)):
            raise UserError(
                "there is no model here", where=folder, fix=f"name a model directory as {setting}"
            )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings about rows: the stage itself will give them."""
    logger = logging.getLogger("alignloop")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
