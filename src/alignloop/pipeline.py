"""The loop: runs the stages in order by their run folder, and goes on where it stopped."""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignloop import judging
from alignloop.config import Recipe, load_recipe
from alignloop.config.model_paths import no_model
from alignloop.config.stages import LABEL, PLAYGROUND
from alignloop.errors import UserError
from alignloop.extras import needs
from alignloop.judging import RewardModels
from alignloop.run import RunFolder, StageFolder, atomic_write, holds_model, say_line
from alignloop.run.machine import available_cores
from alignloop.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Callable

    from alignloop.plan import Plan
    from alignloop.records import PreferencePair

    Read = Callable[[RunFolder], list[PreferencePair]]

Named = str | Path | None


class Pipeline:
    """All stages of one run: `Pipeline("playground").run()`.

    Each stage may be called by itself, with a model directory and record files in place of what
    the recipe says; a stage that is finished is not repeated while its inputs are as they were.
    Where they are not, that is refused, or with `redo` done again. Stages exchange files in the
    run folder, by default runs/<name>.
    """

    def __init__(
        self, config: Recipe | str | Path, folder: Named = None, *, redo: bool = False
    ) -> None:
        self.config = config if isinstance(config, Recipe) else load_recipe(config)
        self.path = Path(folder) if folder is not None else Path("runs") / self.config.name
        self._staging = Staging(self.config, self.path, redo=redo)

    def run(self) -> Path:
        """All stages, then the report; returns the path of report.html.

        Before the first one begins, what every stage will read is looked at. Without the extra
        `report` it ends with summary.json, and says so before and after.
        """
        self._check_compiler("playground", "rl", "evaluate")
        if lacking := _lacking_for_report():
            say_line(lacking)
        with self._staging.opened():
            self._staging.check(self._inputs_of_all())
            self._look_ahead()
            if self.config.sft.demonstrations is not None:
                self.sft()
            if self._has_reward_stage:
                self.reward()
            self.ppo()
            self.evaluate()
            if not lacking:
                return self.report()
            say_line(lacking)
            return self._summarise()

    def sft(self, model: Named = None, demonstrations: Named = None) -> Path:
        """Stage 1; returns the directory of the fine-tuned model."""
        inputs = self._sft_inputs(model, demonstrations)
        with self._staging.stage("sft", inputs) as (folder, stage):
            target = stage.path / "model"
            if stage.finished:
                return target
            from alignloop import sources
            from alignloop.run.stage_run import StageRun
            from alignloop.sft import train_sft

            source = inputs["demonstrations"]
            records, held_out = sources.demonstrations(self.config, source, folder)
            run = StageRun(folder, "sft", self.config.seed)
            model_config = self.config.model.model_copy(update={"path": inputs["model"]})
            splits = sources.split_seed(self.config, source)
            config = self.config.sft
            options = {"lora": self.config.lora, "held_out": held_out, "split_seed": splits}
            train_sft(config, model_config, records, run, **options)
            return target

    def reward(self, model: Named = None, pairs: Named = None) -> Path:
        """Stage 2; returns the directory of the reward model that PPO climbs."""
        config = self.config.reward
        asked = str(pairs or config.pairs)
        inputs = self._reward_inputs(model, asked)
        base = Path(inputs["model"])
        if not self._finished("reward"):
            self._require(base, "sft", "reward.model")
        read = self._pairs_kept("reward.pairs", asked, base)
        for name in self._reward_models():
            with self._staging.stage(name, inputs) as (folder, stage):
                if not stage.finished:
                    self._train_reward(folder, name, base, asked, read(folder))
        return self.path / "reward" / "model"

    def ppo(self, policy: Named = None, reward_model: Named = None, prompts: Named = None) -> Path:
        """Stage 3; returns the directory of the policy that is kept."""
        self._check_compiler("rl")
        inputs = self._rl_inputs(policy, reward_model, prompts)
        if not self._finished("rl"):
            self._require(Path(inputs["policy"]), "sft", "rl.policy")
            if "reward_model" in inputs:
                self._require(Path(inputs["reward_model"]), "reward", "rl.reward_model")
        with self._staging.stage("rl", inputs) as (folder, stage):
            target = stage.path / "model"
            if stage.finished:
                return target
            from alignloop import sources
            from alignloop.rl import train_rl
            from alignloop.rl.build import RlInputs
            from alignloop.run.stage_run import StageRun

            source = inputs["prompts"]
            train, validation = sources.rl_prompts(self.config, source, folder)
            held_out = inputs.get("held_out_reward_model")
            named = RlInputs(
                policy_dir=Path(inputs["policy"]),
                reward_dir=Path(inputs.get("reward_model", self.path / "reward" / "model")),
                held_out_dir=Path(held_out) if held_out else None,
                prompts=train,
                validation_prompts=validation,
                lora=self.config.lora,
            )
            run = StageRun(folder, "rl", self.config.seed)
            if doubts := judging.doubts_about_reward(inputs.get("reward_model")):
                run.say(f"rl: the reward model is not ready to be climbed: {'; '.join(doubts)}")
            if doubt := judging.doubts_about_validation(self.config, train, validation):
                run.say(f"rl: {doubt}")
            observer = sources.gold_observer if source == PLAYGROUND else None
            train_rl(self.config.rl, self.config.model, named, run, observer=observer)
            return target

    def dpo(self, model: Named = None, pairs: Named = None) -> Path:
        """DPO in place of stages 2 and 3, not part of `run`; returns the policy's directory."""
        config = self.config.dpo
        asked = str(pairs or config.pairs)
        base = Path(model or config.model or self._start)
        if not self._finished("dpo"):
            self._require(base, "sft", "dpo.model")
        inputs = {"model": str(base), "pairs": self._file_of("dpo", asked), **self._excluded()}
        read = self._pairs_kept("dpo.pairs", asked, base)
        with self._staging.stage("dpo", inputs) as (folder, stage):
            target = stage.path / "model"
            if stage.finished:
                return target
            from alignloop import sources
            from alignloop.dpo import train_dpo
            from alignloop.run.stage_run import StageRun

            run = StageRun(folder, "dpo", self.config.seed)
            splits = sources.split_seed(self.config, asked)
            options = {"lora": self.config.lora, "split_seed": splits}
            train_dpo(config, self.config.model, base, read(folder), run, **options)
            return target

    def evaluate(self, baseline: Named = None, policy: Named = None, prompts: Named = None) -> Path:
        """The SFT model against the policy on held-out prompts; returns evaluate/results.json."""
        self._check_compiler("evaluate")
        inputs = self._evaluate_inputs(baseline, policy, prompts)
        models = {who: Path(inputs[who]) for who in ("sft", "policy", "base") if who in inputs}
        if not self._finished("evaluate"):
            self._require(models["sft"], "sft", "evaluate.baseline")
            self._require(models["policy"], "rl", "evaluate.policy")
            if "base" in models:
                self._require(models["base"], "sft", "evaluate.base")
            if "judge" in inputs:
                self._require(Path(inputs["judge"]), "reward", "rl.held_out_reward_model")
        with self._staging.stage("evaluate", inputs) as (folder, stage):
            target = stage.path / "results.json"
            if stage.finished:
                return target
            from alignloop import sources
            from alignloop.evaluate.compare import Known, compare_policies
            from alignloop.run.stage_run import StageRun

            source = inputs["prompts"]
            judge, facts = judging.judge_of(self.config, source, self.path)
            known = Known(
                judge=facts,
                rl=_facts_of_rl(self.path, models["policy"]),
                taught=judging.learnt_from(self.config),
                near_duplicate=self.config.data.near_duplicate,
            )
            compare_policies(
                self.config.evaluate,
                self.config.model,
                models,
                sources.evaluation_sets(self.config, source, folder),
                judge,
                known,
                StageRun(folder, "evaluate", self.config.seed),
            )
            return target

    def report(self) -> Path:
        """Write summary.json and report.html from the run folder's files."""
        with needs("report", "report.html"):
            from alignloop.report import write_report
        from alignloop.run.folder import is_run

        if not self.path.is_dir():
            raise UserError("there is no run here", where=str(self.path), fix="run a stage first")
        if not is_run(self.path):
            raise UserError(
                "this folder holds no run, and nothing was written into it",
                where=str(self.path),
                fix="give a folder such as runs/<name> that `alignloop run` has made",
            )
        with self._staging.opened():
            self._summarise()
            return write_report(self.path)

    def _summarise(self) -> Path:
        from alignloop.summary import summarise

        target = self.path / "summary.json"
        atomic_write(target, json.dumps(summarise(self.path), indent=1) + "\n")
        return target

    @property
    def _start(self) -> Path:
        """What all that follows SFT starts from: the SFT model, or without SFT the model itself."""
        if self.config.sft.demonstrations is None:
            return self._base
        return self.path / "sft" / "model"

    @property
    def _base(self) -> Path:
        from alignloop import sources

        return sources.base_model(self.config)

    @property
    def _has_reward_stage(self) -> bool:
        return bool(self.config.rl.reward_model or self.config.rl.uses_reward_stage)

    def _excluded(self) -> dict[str, str]:
        return {f"exclude_{n}": file for n, file in enumerate(self.config.data.exclude, start=1)}

    def _sft_inputs(self, model: Named = None, demonstrations: Named = None) -> dict[str, str]:
        source = demonstrations or self.config.sft.demonstrations
        if source is None:
            raise UserError(
                "these settings leave SFT out",
                where='sft.demonstrations = "none"',
                fix="name a file of demonstrations, or go on with the next stage",
            )
        found = {"model": str(model or self._base), "demonstrations": str(source)}
        return found | self._excluded()

    def _reward_inputs(self, model: Named, asked: str) -> dict[str, str]:
        base = str(model or self.config.reward.model or self._start)
        found = {"model": base, "pairs": self._file_of("reward", asked), **self._excluded()}
        zero = self.config.sft.demonstrations
        if zero is not None and (zero == PLAYGROUND) == (asked == PLAYGROUND):
            found["demonstrations"] = zero
        return found

    def _rl_inputs(
        self, policy: Named = None, reward_model: Named = None, prompts: Named = None
    ) -> dict[str, str]:
        config = self.config.rl
        found = {
            "policy": str(policy or config.policy or self._start),
            "prompts": str(prompts or config.prompts),
            **{f"reward_{i}": text for i, text in enumerate(config.rewards, start=1)},
            **self._excluded(),
        }
        named = reward_model or config.reward_model
        if named or config.uses_reward_stage:
            found["reward_model"] = str(named or self.path / "reward" / "model")
        others = {
            "reward_function": config.reward_function,
            "validation_prompts": config.validation_prompts,
            "held_out_reward_model": RewardModels.of(self.config, self.path).chooser,
        }
        return found | {role: str(one) for role, one in others.items() if one is not None}

    def _evaluate_inputs(
        self, baseline: Named = None, policy: Named = None, prompts: Named = None
    ) -> dict[str, str]:
        from alignloop import sources

        config = self.config.evaluate
        source = str(prompts or config.prompts)
        found = {
            "sft": str(baseline or config.baseline or self._start),
            "policy": str(policy or config.policy or _trained_policy(self.path)),
            "prompts": source,
        }
        if base := sources.base_to_show(self.config, Path(found["sft"])):
            found["base"] = str(base)
        judge = RewardModels.of(self.config, self.path).best
        if judge is not None and not judging.judged_by_gold(self.config, source):
            found["judge"] = str(judge)
        return found

    def _file_of(self, stage: str, asked: str) -> str:
        """The file in which a stage's pairs stand, or will stand once they are kept in the run."""
        if asked == PLAYGROUND:
            return str(self.path / "comparisons" / "pairs.jsonl")
        if asked.startswith(LABEL):
            return str(self.path / _label_stage(stage) / "pairs.jsonl")
        return asked

    def _pairs_kept(self, setting: str, asked: str, base: Path) -> "Read":
        """A function that reads the pairs; the playground's and a project's are kept as a file."""
        from alignloop import sources

        @cache  # both reward models read the same
        def read(folder: RunFolder) -> "list[PreferencePair]":
            return sources.preference_pairs(self.config, setting, asked, base, folder)[0]

        sources.refuse_mixture(self.config, setting, asked)
        for name, inputs in self._part_before(setting.split(".")[0], asked, base).items():
            with self._staging.stage(name, inputs) as (folder, stage):
                if not stage.finished:
                    read(folder)
        return read

    def _part_before(self, stage: str, asked: str, base: Path) -> dict[str, dict[str, str]]:
        """What is made before a stage can read its pairs, where these are no file yet."""
        if asked == PLAYGROUND:
            return {"comparisons": {"model": str(base)}}
        return {_label_stage(stage): {"project": asked}} if asked.startswith(LABEL) else {}

    def _train_reward(
        self, folder: RunFolder, name: str, base: Path, asked: str, pairs: "list[PreferencePair]"
    ) -> None:
        from alignloop import sources
        from alignloop.reward.labels import share_out
        from alignloop.reward.train import train_reward
        from alignloop.run.stage_run import StageRun

        config, splits = self.config.reward, sources.split_seed(self.config, asked)
        labels = share_out(pairs, config, splits, self._reward_models())
        train_reward(
            config,
            self.config.model,
            base,
            labels[name],
            StageRun(folder, name, self.config.seed),
            lora=self.config.lora,
            demonstrations=sources.zero_of_reward(self.config, asked, folder),
        )

    def _reward_models(self) -> tuple[str, ...]:
        """The reward models that the stage trains; the one that RL climbs ends it."""
        return judging.trained(self.config)

    def _inputs_of_all(self) -> dict[str, dict[str, str]]:
        """What each stage of `run` reads, by stage, for a look at the whole chain."""
        found: dict[str, dict[str, str]] = {}
        if self.config.sft.demonstrations is not None:
            found["sft"] = self._sft_inputs()
        rl, evaluate = self._rl_inputs(), self._evaluate_inputs()
        if self._has_reward_stage:
            pairs = self.config.reward.pairs
            reads = self._reward_inputs(None, pairs)
            found |= self._part_before("reward", pairs, Path(reads["model"]))
            found |= dict.fromkeys(self._reward_models(), reads)
            # also before they are there
            models = RewardModels.of(self.config, self.path, planned=self._reward_models())
            if self.config.reward.held_out_model:
                rl.setdefault("held_out_reward_model", str(models.chooser))
            if "judge" in evaluate:
                evaluate["judge"] = str(models.best)
        return found | {"rl": rl, "evaluate": evaluate}

    def _look_ahead(self) -> None:
        from alignloop import ahead

        done = {one for one in ("sft", "reward", "rl", "evaluate") if self._finished(one)}
        if len(done) < 4:
            ahead.look_ahead(self.config, self.path, done)

    def _finished(self, stage: str) -> bool:
        return StageFolder(self.path / stage).finished

    def _check_compiler(self, *sections: str) -> None:
        """Raise UserError where stages that are not done want to compile and cannot."""
        from alignloop import sources

        for name in sections:
            if not self._finished("comparisons" if name == "playground" else name):
                wanted = getattr(self.config, name).sampling.compile
                sources.check_compiler((f"{name}.sampling.compile", wanted))

    def _require(self, folder: Path, stage: str, setting: str) -> None:
        if holds_model(folder):
            return
        if folder.name != "model":  # no stage's own: somebody named it
            raise no_model(folder, setting)
        from alignloop import sources

        if stage == "sft" and self.config.sft.demonstrations == PLAYGROUND:
            sources.refuse_mixture(self.config, "sft.demonstrations", PLAYGROUND)
        raise UserError(
            "there is no model here",
            where=str(folder),
            fix=f"run `alignloop {stage}` first, or name a model directory as {setting}",
        )


def plan_of(recipe: Recipe, *, measure: bool) -> "Plan":
    """What a recipe needs; with `measure` an estimate of the time on this machine.

    Of a model directory the files of the recipe are read and counted too, and what `run` would
    refuse is refused; of a config.json alone they are counted where they are there.
    """
    from alignloop import counting, sources
    from alignloop.plan import plan_recipe

    counted = counting.count_inputs(recipe)
    base, threads = sources.base_model(recipe), recipe.num_threads or available_cores()
    return plan_recipe(recipe, base, with_speed=measure, counted=counted, threads=threads)


def _lacking_for_report() -> str:
    """Why no report can be written on this machine; "" if one can."""
    try:
        with needs("report", "report.html"):
            import alignloop.report  # noqa: F401
    except UserError as error:
        return str(error)
    return ""


def _facts_of_rl(path: Path, policy: Path) -> dict[str, Any]:
    """What the RL stage says of the policy, where it made it."""
    stage = StageFolder(path / "rl")
    ours = stage.finished and policy.resolve() == (stage.path / "model").resolve()
    return stage.facts() if ours else {}


def _trained_policy(path: Path) -> Path:
    """What stage 3 made, or DPO in its place."""
    ours, dpo = (path / stage / "model" for stage in ("rl", "dpo"))
    return dpo if dpo.is_dir() and not ours.is_dir() else ours


def _label_stage(stage: str) -> str:
    return "labels" if stage == "reward" else "labels_dpo"
