"""The loop: runs the stages in order by their run folder, and goes on where it stopped."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alignloop.config import Recipe, load_recipe, to_toml
from alignloop.config.model_paths import no_model
from alignloop.config.stages import PLAYGROUND
from alignloop.errors import UserError
from alignloop.run import RunFolder, StageFolder, atomic_write, holds_model, say_line

if TYPE_CHECKING:
    from alignloop.plan import Plan


class Pipeline:
    """All stages of one run: `Pipeline("recipes/playground").run()`.

    Each stage may be called by itself, with a model directory and record files in place of what
    the recipe says; a stage that is finished is not repeated. Stages exchange files in the run
    folder, by default runs/<name>.
    """

    def __init__(self, config: Recipe | str | Path, folder: str | Path | None = None) -> None:
        self.config = config if isinstance(config, Recipe) else load_recipe(config)
        self.path = Path(folder) if folder is not None else Path("runs") / self.config.name
        self._open: RunFolder | None = None

    def run(self) -> Path:
        """All stages, then the report; returns the path of report.html."""
        self._check_compiler("playground", "rl", "evaluate")
        with self._opened():
            if not (self.path / "rl" / "model").is_dir():
                from alignloop import sources

                sources.check_reward_functions(self.config)
                sources.check_judge(self.config, self.path / "reward" / "model")
            self.sft()
            if self.config.rl.reward_model or self.config.rl.uses_reward_stage:
                self.reward()
            self.ppo()
            self.evaluate()
            return self.report()

    def sft(
        self, model: str | Path | None = None, demonstrations: str | Path | None = None
    ) -> Path:
        """Stage 1; returns the directory of the fine-tuned model."""
        with self._stage("sft") as (folder, stage):
            target = stage.path / "model"
            if stage.finished:
                return target
            from alignloop import sources
            from alignloop.run.stage_run import StageRun
            from alignloop.sft import train_sft

            source = str(demonstrations or self.config.sft.demonstrations)
            base = str(model or sources.base_model(self.config))
            records, held_out = sources.demonstrations(self.config, source, folder)
            run = StageRun(folder, "sft", self.config.seed)
            model_config = self.config.model.model_copy(update={"path": base})
            splits = sources.split_seed(self.config, source)
            config = self.config.sft
            options = {"lora": self.config.lora, "held_out": held_out, "split_seed": splits}
            train_sft(config, model_config, records, run, **options)
            _record(folder, "sft", target, model=base, demonstrations=source)
            return target

    def reward(self, model: str | Path | None = None, pairs: str | Path | None = None) -> Path:
        """Stage 2; returns the directory of the reward model that PPO climbs."""
        with self._stage("reward") as (folder, stage):
            target = stage.path / "model"
            if stage.finished:
                return target
            from alignloop import sources
            from alignloop.reward.train import split_pairs, train_reward
            from alignloop.run.stage_run import StageRun

            config, seed = self.config.reward, self.config.seed
            base = Path(model or config.model or folder.path / "sft" / "model")
            _require(base, "alignloop sft", "reward.model")
            asked = str(pairs or config.pairs)
            records, source = sources.preference_pairs(
                self.config, "reward.pairs", asked, base, folder
            )
            parts = split_pairs(records, config, sources.split_seed(self.config, asked))
            inputs = (config, self.config.model, base, parts)
            zero = sources.zero_of_reward(self.config, asked, folder)
            options = {"lora": self.config.lora, "demonstrations": zero}
            if config.held_out_model and not folder.stage("reward_held_out").finished:
                run = StageRun(folder, "reward_held_out", seed)
                train_reward(*inputs, run, train_on="held_out_model", **options)
            train_reward(*inputs, StageRun(folder, "reward", seed), **options)
            _record(folder, "reward", target, model=str(base), pairs=source)
            return target

    def ppo(
        self,
        policy: str | Path | None = None,
        reward_model: str | Path | None = None,
        prompts: str | Path | None = None,
    ) -> Path:
        """Stage 3; returns the directory of the policy that is kept."""
        self._check_compiler("rl")
        with self._stage("rl") as (folder, stage):
            target = stage.path / "model"
            if stage.finished:
                return target
            from alignloop import sources
            from alignloop.rl import train_rl
            from alignloop.rl.build import RlInputs
            from alignloop.run.stage_run import StageRun

            config = self.config.rl
            policy_dir = Path(policy or config.policy or folder.path / "sft" / "model")
            named = reward_model or config.reward_model
            reward_dir = Path(named or folder.path / "reward" / "model")
            _require(policy_dir, "alignloop sft", "rl.policy")
            if named or config.uses_reward_stage:
                _require(reward_dir, "alignloop reward", "rl.reward_model")
            source = str(prompts or config.prompts)
            train, validation = sources.rl_prompts(self.config, source, folder)
            inputs = RlInputs(
                policy_dir=policy_dir,
                reward_dir=reward_dir,
                held_out_dir=self._held_out_reward_model(folder),
                prompts=train,
                validation_prompts=validation,
                lora=self.config.lora,
            )
            run = StageRun(folder, "rl", self.config.seed)
            observer = sources.gold_observer if source == PLAYGROUND else None
            train_rl(config, self.config.model, inputs, run, observer=observer)
            rewards = {f"reward_{i}": text for i, text in enumerate(config.rewards, start=1)}
            if config.reward_function:
                rewards["reward_function"] = config.reward_function
            if named or config.uses_reward_stage:
                rewards["reward_model"] = str(reward_dir)
            models = {"policy": str(policy_dir), **rewards}
            _record(folder, "rl", target, **models, prompts=source)
            return target

    def dpo(self, model: str | Path | None = None, pairs: str | Path | None = None) -> Path:
        """DPO in place of stages 2 and 3, not part of `run`; returns the policy's directory."""
        with self._stage("dpo") as (folder, stage):
            target = stage.path / "model"
            if stage.finished:
                return target
            from alignloop import sources
            from alignloop.dpo import train_dpo
            from alignloop.run.stage_run import StageRun

            config = self.config.dpo
            base = Path(model or config.model or folder.path / "sft" / "model")
            _require(base, "alignloop sft", "dpo.model")
            asked = str(pairs or config.pairs)
            records, source = sources.preference_pairs(
                self.config, "dpo.pairs", asked, base, folder
            )
            run = StageRun(folder, "dpo", self.config.seed)
            splits = sources.split_seed(self.config, asked)
            options = {"lora": self.config.lora, "split_seed": splits}
            train_dpo(config, self.config.model, base, records, run, **options)
            _record(folder, "dpo", target, model=str(base), pairs=source)
            return target

    def evaluate(
        self,
        baseline: str | Path | None = None,
        policy: str | Path | None = None,
        prompts: str | Path | None = None,
    ) -> Path:
        """The SFT model against the policy on held-out prompts; returns evaluate/results.json."""
        self._check_compiler("evaluate")
        with self._stage("evaluate") as (folder, stage):
            target = stage.path / "results.json"
            if stage.finished:
                return target
            from alignloop import sources
            from alignloop.evaluate.compare import compare_policies
            from alignloop.run.stage_run import StageRun

            config = self.config.evaluate
            sft_dir = Path(baseline or config.baseline or folder.path / "sft" / "model")
            policy_dir = Path(policy or config.policy or _trained_policy(folder))
            _require(sft_dir, "alignloop sft", "evaluate.baseline")
            _require(policy_dir, "alignloop rl", "evaluate.policy")
            source = str(prompts or config.prompts)
            models = {"sft": sft_dir, "policy": policy_dir}
            if base := sources.base_to_show(self.config, sft_dir):
                _require(base, "alignloop sft", "evaluate.base")
                models["base"] = base
            judge_dir = self._held_out_reward_model(folder) or folder.path / "reward" / "model"
            if source != PLAYGROUND and not sources.judged_by_function(self.config, judge_dir):
                _require(judge_dir, "alignloop reward", "rl.held_out_reward_model")
            compare_policies(
                config,
                self.config.model,
                models,
                sources.evaluation_sets(self.config, source, folder),
                sources.judge(self.config, source, judge_dir),
                StageRun(folder, "evaluate", self.config.seed),
            )
            named = {who: str(path) for who, path in models.items()}
            _record(folder, "evaluate", target, **named, prompts=source)
            return target

    def report(self) -> Path:
        """Write summary.json and report.html from the run folder's files."""
        from alignloop.report import write_report
        from alignloop.summary import summarise

        if not self.path.is_dir():
            raise UserError("there is no run here", where=str(self.path), fix="run a stage first")
        with self._opened():
            text = json.dumps(summarise(self.path), indent=1)
            atomic_write(self.path / "summary.json", text + "\n")
            return write_report(self.path)

    @contextmanager
    def _opened(self) -> Iterator[RunFolder]:
        """The run folder, locked for this process; stages inside `run` share one lock."""
        if self._open is not None:
            yield self._open
            return
        with RunFolder.create(self.path) as folder:
            folder.write_config(to_toml(self.config))
            self._open = folder
            try:
                yield folder
            finally:
                self._open = None

    @contextmanager
    def _stage(self, name: str) -> Iterator[tuple[RunFolder, StageFolder]]:
        with self._opened() as folder:
            stage = folder.stage(name)
            if not stage.finished:
                say_line(f"{name}: loading libraries, then reading its files")
                _prepare_torch(self.config)
            yield folder, stage

    def _check_compiler(self, *sections: str) -> None:
        """Raise UserError where stages that are not done want to compile and cannot.

        Before the run folder keeps the setting for its life.
        """
        from alignloop import sources

        for name in sections:
            stage = "comparisons" if name == "playground" else name
            if not (self.path / stage / "done.json").exists():
                wanted = getattr(self.config, name).sampling.compile
                sources.check_compiler((f"{name}.sampling.compile", wanted))

    def _held_out_reward_model(self, folder: RunFolder) -> Path | None:
        if self.config.rl.held_out_reward_model:
            return Path(self.config.rl.held_out_reward_model)
        if not (self.config.rl.reward_model or self.config.rl.uses_reward_stage):
            return None  # what an earlier reward stage learnt has nothing to do with this reward
        own = folder.path / "reward_held_out" / "model"
        return own if own.is_dir() else None


def plan_of(recipe: Recipe, *, measure: bool) -> "Plan":
    """What a recipe needs; with `measure` an estimate of the time on this machine.

    Of a model directory the files of the recipe are read and counted too, and what `run` would
    refuse is refused; of a config.json alone they are counted where they are there.
    """
    from alignloop import counting, sources
    from alignloop.plan import plan_recipe

    counted = counting.count_inputs(recipe)
    base, threads = sources.base_model(recipe), threads_of(recipe)
    return plan_recipe(recipe, base, with_speed=measure, counted=counted, threads=threads)


def threads_of(config: Recipe) -> int:
    """The CPU threads of a run."""
    return config.num_threads or os.cpu_count() or 1


def _trained_policy(folder: RunFolder) -> Path:
    """What stage 3 made, or DPO in its place."""
    ours, dpo = (folder.path / stage / "model" for stage in ("rl", "dpo"))
    return dpo if dpo.is_dir() and not ours.is_dir() else ours


def _prepare_torch(config: Recipe) -> None:
    """Threads and global seeds, before anything draws or computes."""
    import torch
    import transformers

    from alignloop.run import set_determinism

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(threads_of(config))
    set_determinism(config.seed)


def _require(folder: Path, command: str, setting: str) -> None:
    if not holds_model(folder):
        if folder.name != "model":  # no stage's own: somebody named it
            raise no_model(folder, setting)
        raise UserError(
            "there is no model here",
            where=str(folder),
            fix=f"run `{command}` first, or name a model directory as {setting}",
        )


def _record(folder: RunFolder, stage: str, output: Path, **inputs: str) -> None:
    """The stage's line in lineage.json, with a checksum of every input that is a file or folder."""
    files = [Path(name) for name in inputs.values() if name != PLAYGROUND and Path(name).exists()]
    folder.lineage(stage, inputs, inputs=files, outputs=[output])
