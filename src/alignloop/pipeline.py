"""Runs the stages in order in a run folder, and resumes where it stopped."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignloop import inputs as files
from alignloop import judge_choice
from alignloop.config import Recipe, load_recipe
from alignloop.config.model_paths import no_model
from alignloop.config.stages import LABEL, REWARD_MODEL
from alignloop.errors import UserError
from alignloop.extras import needs
from alignloop.judging.of_run import RewardModels, has_reward_stage, trained
from alignloop.judging.registry import kind_of
from alignloop.run import RunFolder, StageFolder, atomic_write, holds_model, say_line
from alignloop.run.machine import available_cores
from alignloop.staging import Staging
from alignloop.worlds import refuse_gold, world_of

if TYPE_CHECKING:
    from alignloop.data.pairs import TextKey
    from alignloop.data.tokenise import Encoded
    from alignloop.plan import Plan
    from alignloop.records import PreferencePair
    from alignloop.run.stage_run import StageRun

    Read = Callable[[RunFolder], list[PreferencePair]]
    Work = Callable[[RunFolder, StageRun], object]

OBSERVER = "observer.json"  # name and metric of the validation observer, for the report

Named = str | Path | None
Inputs = dict[str, str]


class Pipeline:
    """All stages of one run: `Pipeline("playground").run()`.

    Each stage can be called on its own, with a model directory and record files in place of the
    recipe's. A finished stage is not repeated while its inputs are unchanged; if they have changed,
    the stage is refused, or redone with `redo`. Stages exchange files in the run folder, by default
    runs/<name>.
    """

    def __init__(
        self, config: Recipe | str | Path, folder: Named = None, *, redo: bool = False
    ) -> None:
        self.config = config if isinstance(config, Recipe) else load_recipe(config)
        self.path = Path(folder) if folder is not None else Path("runs") / self.config.name
        self._staging = Staging(self.config, self.path, redo=redo)

    def run(self) -> Path:
        """Run all stages, then the report; returns the path of report.html.

        Checks what every stage will read before the first one starts. Without the extra `report` it
        ends with summary.json, with a warning before and after.
        """
        files.require_named(files.named_in(self.config))
        if lacking := _lacking_for_report():
            say_line(lacking)
        with self._staging.opened():
            self._staging.check(self._inputs_of_all())
            self._look_ahead()
            if self.config.sft.demonstrations is not None:
                self.sft()
            if has_reward_stage(self.config):
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

        def work(folder: RunFolder, run: "StageRun") -> None:
            from alignloop.sft import train_sft

            source = inputs["demonstrations"]
            records, held_out = files.demonstrations(self.config, source, folder)
            train_sft(
                self.config.sft,
                self.config.model.model_copy(update={"path": inputs["model"]}),
                records,
                run,
                lora=self.config.lora,
                held_out=held_out,
                split_seed=files.split_seed(self.config, source),
            )

        return self._do("sft", inputs, work)

    def reward(self, model: Named = None, pairs: Named = None) -> Path:
        """Stage 2; returns the directory of the reward model that PPO climbs."""
        source = str(pairs or self.config.reward.pairs)
        inputs = self._reward_inputs(model, source)
        base = Path(inputs["model"])
        if not self._finished("reward"):
            self._require(base, "sft", "reward.model")
        read = self._pair_reader("reward.pairs", source, base)
        seen: dict[TextKey, Encoded] = {}  # one base, one tokenizer: a text is encoded once

        def work(folder: RunFolder, run: "StageRun") -> None:
            from alignloop.reward.labels import share_out
            from alignloop.reward.train import train_reward

            config, splits = self.config.reward, files.split_seed(self.config, source)
            labels = share_out(read(folder), config, splits, trained(self.config))
            train_reward(
                config,
                self.config.model,
                base,
                labels[run.name],
                run,
                lora=self.config.lora,
                demonstrations=files.zero_of_reward(self.config, source, folder),
                seen=seen,
            )

        for name in trained(self.config):  # the model that RL optimises comes last
            self._do(name, inputs, work)
        return self.path / "reward" / "model"

    def ppo(self, policy: Named = None, reward_model: Named = None, prompts: Named = None) -> Path:
        """Stage 3; returns the directory of the policy of the chosen checkpoint."""
        refuse_gold(self.config.rl.reward_sources)
        inputs = self._rl_inputs(policy, reward_model, prompts)
        if not self._finished("rl"):
            self._require(Path(inputs["policy"]), "sft", "rl.policy")
            if "reward_model" in inputs:
                self._require(Path(inputs["reward_model"]), "reward", "rl.rewards")
            for source in self.config.rl.reward_sources:
                if source != REWARD_MODEL:
                    kind_of(source).check(source)

        def work(folder: RunFolder, run: "StageRun") -> None:
            from alignloop.rl import train_rl
            from alignloop.rl.build import RlInputs

            source, config = inputs["prompts"], self.config
            train, validation = files.rl_prompts(config, source, folder)
            climbed, held_out = inputs.get("reward_model"), inputs.get("held_out_reward_model")
            named = RlInputs(
                policy_dir=Path(inputs["policy"]),
                reward_dir=Path(climbed) if climbed else None,
                held_out_dir=Path(held_out) if held_out else None,
                prompts=train,
                validation_prompts=validation,
                lora=config.lora,
            )
            if doubts := judge_choice.doubts_about_reward(climbed):
                run.say(f"rl: warning: the reward model is not ready for RL: {'; '.join(doubts)}")
            if doubt := judge_choice.doubts_about_validation(config, train, validation):
                run.say(f"rl: {doubt}")
            observer = files.observer_of(source)
            if observer is not None:
                seen_by = {"name": observer.name, "metric": f"validation_{observer.key}"}
                atomic_write(run.path / OBSERVER, json.dumps(seen_by) + "\n")
            train_rl(config.rl, config.model, named, run, observer=observer)

        return self._do("rl", inputs, work)

    def dpo(self, model: Named = None, pairs: Named = None) -> Path:
        """DPO in place of stages 2 and 3, not part of `run`; returns the policy's directory."""
        source = str(pairs or self.config.dpo.pairs)
        base = Path(model or self.config.dpo.model or self._start)
        if not self._finished("dpo"):
            self._require(base, "sft", "dpo.model")
        inputs = {"model": str(base), "pairs": self._file_of("dpo", source), **self._excluded()}
        read = self._pair_reader("dpo.pairs", source, base)

        def work(folder: RunFolder, run: "StageRun") -> None:
            from alignloop.dpo import train_dpo

            train_dpo(
                self.config.dpo,
                self.config.model,
                base,
                read(folder),
                run,
                lora=self.config.lora,
                split_seed=files.split_seed(self.config, source),
            )

        return self._do("dpo", inputs, work)

    def evaluate(self, baseline: Named = None, policy: Named = None, prompts: Named = None) -> Path:
        """Compare SFT model and policy on held-out prompts; returns evaluate/results.json."""
        inputs = self._evaluate_inputs(baseline, policy, prompts)
        models = {who: Path(inputs[who]) for who in ("sft", "policy", "base") if who in inputs}
        if not self._finished("evaluate"):
            made_by = {"sft": "sft", "policy": "rl", "base": "sft"}
            settings = {"sft": "evaluate.baseline", "policy": "evaluate.policy"}
            for who, model in models.items():
                self._require(model, made_by[who], settings.get(who, "evaluate.base"))
            if (judge := judge_choice.model_of(self.config, self.path)) is not None:
                self._require(judge, "reward", "evaluate.judge")

        def work(folder: RunFolder, run: "StageRun") -> None:
            from alignloop.evaluate.compare import Known, compare_policies

            make_judge, facts = judge_choice.judge_of(self.config, self.path)
            known = Known(
                judge=facts,
                rl=_facts_of_rl(self.path, models["policy"]),
                taught=judge_choice.learnt_from(self.config),
                near_duplicate=self.config.data.near_duplicate,
                set_names=files.set_names(inputs["prompts"]),
            )
            sets = files.evaluation_sets(self.config, inputs["prompts"], folder)
            compare_policies(
                self.config.evaluate, self.config.model, models, sets, make_judge, known, run
            )

        self._do("evaluate", inputs, work)
        return self.path / "evaluate" / "results.json"

    def report(self) -> Path:
        """Write summary.json and report.html from the run folder's files."""
        with needs("report", "report.html"):
            from alignloop.report import write_report
        from alignloop.run.folder import is_run

        if not self.path.is_dir():
            raise UserError("no such run folder", where=str(self.path), fix="run a stage first")
        if not is_run(self.path):
            raise UserError(
                "this folder is not a run folder, and nothing was written into it",
                where=str(self.path),
                fix="give a folder such as runs/<name> that `alignloop run` created",
            )
        with self._staging.opened():
            self._summarise()
            return write_report(self.path)

    def _do(self, name: str, inputs: Inputs, work: "Work") -> Path:
        """Do a stage's work unless it is finished on these inputs; returns its model directory."""
        with self._staging.stage(name, inputs) as (folder, stage):
            if not stage.finished:
                from alignloop.run.stage_run import StageRun

                work(folder, StageRun(folder, name, self.config.seed))
            return stage.path / "model"

    def _summarise(self) -> Path:
        from alignloop.summary import summarise

        target = self.path / "summary.json"
        atomic_write(target, json.dumps(summarise(self.path), indent=1) + "\n")
        return target

    @property
    def _start(self) -> Path:
        """The model that later stages start from: the SFT model, or model.path without SFT."""
        if self.config.sft.demonstrations is None:
            return files.base_model(self.config)
        return self.path / "sft" / "model"

    def _excluded(self) -> Inputs:
        return {f"exclude_{n}": file for n, file in enumerate(self.config.data.exclude, start=1)}

    def _sft_inputs(self, model: Named = None, demonstrations: Named = None) -> Inputs:
        source = demonstrations or self.config.sft.demonstrations
        if source is None:
            raise UserError(
                "these settings turn SFT off",
                where='sft.demonstrations = "none"',
                fix="set a file of demonstrations, or run the next stage",
            )
        files.require_named(
            {"model.path": str(model or self.config.model.path), "sft.demonstrations": str(source)}
        )
        base = model or files.base_model(self.config)
        return {"model": str(base), "demonstrations": str(source)} | self._excluded()

    def _reward_inputs(self, model: Named, source: str) -> Inputs:
        files.require_named({"reward.pairs": source})
        base = str(model or self.config.reward.model or self._start)
        found = {"model": base, "pairs": self._file_of("reward", source), **self._excluded()}
        zero = files.zero_source(self.config, source)
        return found if zero is None else found | {"demonstrations": zero}

    def _rl_inputs(
        self, policy: Named = None, reward_model: Named = None, prompts: Named = None
    ) -> Inputs:
        config = self.config.rl
        found = {
            "policy": str(policy or config.policy or self._start),
            "prompts": str(prompts or config.prompts),
            **self._excluded(),
        }
        files.require_named({"rl.prompts": found["prompts"]})
        others = [source for source in config.reward_sources if source != REWARD_MODEL]
        found |= {f"reward_{i}": text for i, text in enumerate(others, start=1)}
        if config.uses_reward_stage:
            found["reward_model"] = str(reward_model or self.path / "reward" / "model")
        more = {
            "validation_prompts": config.validation_prompts,
            "held_out_reward_model": RewardModels.of(self.config, self.path).chooser,
        }
        return found | {role: str(one) for role, one in more.items() if one is not None}

    def _evaluate_inputs(
        self, baseline: Named = None, policy: Named = None, prompts: Named = None
    ) -> Inputs:
        config = self.config.evaluate
        found = {
            "sft": str(baseline or config.baseline or self._start),
            "policy": str(policy or config.policy or _trained_policy(self.path)),
            "prompts": str(prompts or config.prompts),
        }
        files.require_named({"evaluate.prompts": found["prompts"]})
        if base := files.base_to_show(self.config, Path(found["sft"])):
            found["base"] = str(base)
        # a judge that is a model is an input, compared by content; others by name
        judge = judge_choice.model_of(self.config, self.path) or config.judge
        return found if judge is None else found | {"judge": str(judge)}

    def _file_of(self, stage: str, source: str) -> str:
        """The file that holds a stage's pairs, or will hold them once the run has saved them."""
        if world_of(source) is not None:
            return str(self.path / "comparisons" / "pairs.jsonl")
        if source.startswith(LABEL):
            return str(self.path / _label_stage(stage) / "pairs.jsonl")
        return source

    def _pair_reader(self, setting: str, source: str, base: Path) -> "Read":
        """A function that reads the pairs; a world's and a project's are first saved as a file."""

        @cache  # both reward models read the same
        def read(folder: RunFolder) -> "list[PreferencePair]":
            return files.preference_pairs(self.config, setting, source, base, folder)[0]

        files.require_named({setting: source})
        for name, inputs in self._part_before(setting.split(".")[0], source, base).items():
            with self._staging.stage(name, inputs) as (folder, stage):
                if not stage.finished:
                    read(folder)
        return read

    def _part_before(self, stage: str, source: str, base: Path) -> dict[str, Inputs]:
        """The part that has to run before a stage can read its pairs, if any."""
        if world_of(source) is not None:
            return {"comparisons": {"model": str(base)}}
        return {_label_stage(stage): {"project": source}} if source.startswith(LABEL) else {}

    def _inputs_of_all(self) -> dict[str, Inputs]:
        """The inputs of each stage of `run`, to check the whole chain at once."""
        found: dict[str, Inputs] = {}
        if self.config.sft.demonstrations is not None:
            found["sft"] = self._sft_inputs()
        rl, evaluate = self._rl_inputs(), self._evaluate_inputs()
        if has_reward_stage(self.config):
            pairs, names = self.config.reward.pairs, trained(self.config)
            reads = self._reward_inputs(None, pairs)
            found |= self._part_before("reward", pairs, Path(reads["model"]))
            found |= dict.fromkeys(names, reads)
            # `planned`: these models do not exist before the reward stage has run
            chooser = RewardModels.of(self.config, self.path, planned=names).chooser
            if chooser is not None:
                rl.setdefault("held_out_reward_model", str(chooser))
            judge = judge_choice.model_of(self.config, self.path, planned=names)
            if judge is not None:
                evaluate["judge"] = str(judge)
        return found | {"rl": rl, "evaluate": evaluate}

    def _look_ahead(self) -> None:
        from alignloop import ahead

        done = {one for one in ("sft", "reward", "rl", "evaluate") if self._finished(one)}
        if len(done) < 4:
            ahead.look_ahead(self.config, self.path, done)

    def _finished(self, stage: str) -> bool:
        return StageFolder(self.path / stage).finished

    def _require(self, folder: Path, stage: str, setting: str) -> None:
        if holds_model(folder):
            return
        if folder.name != "model":  # not a stage's own folder: a setting named it
            raise no_model(folder, setting)
        raise UserError(
            "no model found here",
            where=str(folder),
            fix=f"run `alignloop {stage}` first, or set {setting} to a model directory",
        )


def plan_of(recipe: Recipe, *, measure: bool) -> "Plan":
    """What a recipe needs; with `measure`, a time estimate for this machine.

    For a model directory the recipe's files are read and counted too, and anything `run` would
    refuse is refused; for a bare config.json they are counted if they exist.
    """
    from alignloop import counting
    from alignloop.plan import plan_recipe

    counted = counting.count_inputs(recipe)
    base, threads = files.base_model(recipe), recipe.num_threads or available_cores()
    return plan_recipe(recipe, base, with_speed=measure, counted=counted, threads=threads)


def _lacking_for_report() -> str:
    """Why no report can be written on this machine; "" if it can."""
    try:
        with needs("report", "report.html"):
            import alignloop.report  # noqa: F401  # pyright: ignore[reportUnusedImport] -- is it there?
    except UserError as error:
        return str(error)
    return ""


def _facts_of_rl(path: Path, policy: Path) -> dict[str, Any]:
    """The RL stage's own results for this policy; {} if it did not train it."""
    stage = StageFolder(path / "rl")
    ours = stage.finished and policy.resolve() == (stage.path / "model").resolve()
    return stage.facts() if ours else {}


def _trained_policy(path: Path) -> Path:
    """The policy of stage 3, or of DPO if only that has run."""
    ours, dpo = (path / stage / "model" for stage in ("rl", "dpo"))
    return dpo if dpo.is_dir() and not ours.is_dir() else ours


def _label_stage(stage: str) -> str:
    return "labels" if stage == "reward" else "labels_dpo"
