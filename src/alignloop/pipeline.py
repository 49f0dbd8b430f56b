"""The loop: runs the stages in order by their run folder, and goes on where it stopped."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignloop.config import Recipe, load_recipe, to_toml
from alignloop.config.stages import PLAYGROUND
from alignloop.errors import UserError
from alignloop.run import RunFolder, StageFolder, atomic_write

if TYPE_CHECKING:
    from alignloop.records import Demonstration, PreferencePair, Prompt, Sample

STAGES = ("sft", "reward", "rl", "evaluate")


class Pipeline:
    """All stages of one run: `Pipeline("recipes/playground").run()`.

    Each stage may be called by itself, with a model directory and record files in place of what
    the recipe says; a stage that is finished is not repeated. Stages exchange files in the run
    folder `folder`, by default runs/<name>.
    """

    def __init__(self, config: Recipe | str | Path, folder: str | Path | None = None) -> None:
        self.config = config if isinstance(config, Recipe) else load_recipe(config)
        self.path = Path(folder) if folder is not None else Path("runs") / self.config.name
        self._open: RunFolder | None = None

    def run(self) -> Path:
        """All stages, then the report; returns the path of report.html."""
        with self._opened():
            self.sft()
            self.reward()
            self.ppo()
            self.evaluate()
            return self.report()

    def sft(
        self, model: str | Path | None = None, demonstrations: str | Path | None = None
    ) -> Path:
        """Stage 1; returns the directory of the fine-tuned model."""
        with self._stage("sft") as (folder, stage):
            if not stage.finished:
                from alignloop.run.stage_run import StageRun
                from alignloop.sft import train_sft

                source = str(demonstrations or self.config.sft.demonstrations)
                records, held_out = _read_demonstrations(
                    source, self.config.seed, skip_refused=self.config.skip_refused
                )
                base = self.config.model.model_copy(
                    update={"path": str(model or self._base_model())}
                )
                run = StageRun(folder, "sft", self.config.seed)
                train_sft(self.config.sft, base, records, run, held_out=held_out)
                folder.lineage("sft", {"model": base.path, "demonstrations": source}, inputs=_files(source, base.path), outputs=[stage.path / "model"])  # fmt: skip
            return stage.path / "model"

    def reward(self, model: str | Path | None = None, pairs: str | Path | None = None) -> Path:
        """Stage 2; returns the directory of the reward model that PPO climbs."""
        with self._stage("reward") as (folder, stage):
            if not stage.finished:
                from alignloop.reward.train import split_pairs, train_reward
                from alignloop.run.stage_run import StageRun

                config = self.config.reward
                base = Path(model or config.model or folder.path / "sft" / "model")
                _require(base, "alignloop sft", "reward.model")
                records, source = self._pairs(folder, base, str(pairs or config.pairs))
                demonstrations, _ = self._demonstrations_or_none()
                parts = split_pairs(records, config, self.config.seed)
                common = (config, self.config.model, base, parts)
                if config.held_out_model and not folder.stage("reward_held_out").finished:
                    run = StageRun(folder, "reward_held_out", self.config.seed)
                    train_reward(
                        *common, run, train_on="held_out_model", demonstrations=demonstrations
                    )
                run = StageRun(folder, "reward", self.config.seed)
                train_reward(*common, run, demonstrations=demonstrations)
                folder.lineage("reward", {"model": str(base), "pairs": source}, inputs=_files(source, str(base)), outputs=[stage.path / "model"])  # fmt: skip
            return stage.path / "model"

    def ppo(
        self,
        policy: str | Path | None = None,
        reward_model: str | Path | None = None,
        prompts: str | Path | None = None,
    ) -> Path:
        """Stage 3; returns the directory of the policy that is kept."""
        with self._stage("rl") as (folder, stage):
            if not stage.finished:
                from alignloop.rl import train_rl
                from alignloop.rl.build import RlInputs
                from alignloop.run.stage_run import StageRun

                config = self.config.rl
                policy_dir = Path(policy or config.policy or folder.path / "sft" / "model")
                reward_dir = Path(
                    reward_model or config.reward_model or folder.path / "reward" / "model"
                )
                _require(policy_dir, "alignloop sft", "rl.policy")
                _require(reward_dir, "alignloop reward", "rl.reward_model")
                source = str(prompts or config.prompts)
                train, validation = _read_prompts(
                    source,
                    config.validation_prompts,
                    self.config.seed,
                    skip_refused=self.config.skip_refused,
                )
                inputs = RlInputs(
                    policy_dir=policy_dir,
                    reward_dir=reward_dir,
                    held_out_dir=self._held_out_reward_model(folder),
                    prompts=train,
                    validation_prompts=validation,
                )
                run = StageRun(folder, "rl", self.config.seed)
                observer = _gold_observer if source == PLAYGROUND else None
                train_rl(config, self.config.model, inputs, run, observer=observer)
                folder.lineage("rl", {"policy": str(policy_dir), "reward_model": str(reward_dir), "prompts": source}, inputs=_files(source, str(policy_dir), str(reward_dir)), outputs=[stage.path / "model"])  # fmt: skip
            return stage.path / "model"

    def evaluate(
        self,
        baseline: str | Path | None = None,
        policy: str | Path | None = None,
        prompts: str | Path | None = None,
    ) -> Path:
        """The SFT model against the policy on held-out prompts; returns evaluate/results.json."""
        with self._stage("evaluate") as (folder, stage):
            if not stage.finished:
                from alignloop.evaluate.compare import compare_policies
                from alignloop.run.stage_run import StageRun

                sft_dir = Path(baseline or folder.path / "sft" / "model")
                policy_dir = Path(policy or folder.path / "rl" / "model")
                _require(sft_dir, "alignloop sft", "the baseline")
                _require(policy_dir, "alignloop rl", "the policy")
                source = str(prompts or self.config.evaluate.prompts)
                run = StageRun(folder, "evaluate", self.config.seed)
                judge = self._judge(source, folder)
                compare_policies(self.config.evaluate, self.config.model, sft_dir, policy_dir, _evaluation_sets(source, skip_refused=self.config.skip_refused), judge, run)  # fmt: skip
            return stage.path / "results.json"

    def report(self) -> Path:
        """Write summary.json and report.html from the run folder's files."""
        from alignloop.report import write_report

        if not self.path.is_dir():
            raise UserError("there is no run here", where=str(self.path), fix="run a stage first")
        with self._opened():
            atomic_write(
                self.path / "summary.json", json.dumps(summary(self.path), indent=1) + "\n"
            )
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
                _prepare_torch(self.config)
            yield folder, stage

    def _base_model(self) -> Path:
        if self.config.model.path != PLAYGROUND:
            return Path(self.config.model.path)
        from alignloop.playground import BASE_MODEL

        return BASE_MODEL

    def _demonstrations_or_none(
        self,
    ) -> tuple[Sequence["Demonstration"], Sequence["Demonstration"]]:
        """The SFT demonstrations, which set the reward's zero; none if their file is not there."""
        source = self.config.sft.demonstrations
        if source != PLAYGROUND and not Path(source).exists():
            return (), ()
        return _read_demonstrations(source, self.config.seed, skip_refused=self.config.skip_refused)

    def _pairs(
        self, folder: RunFolder, model: Path, source: str
    ) -> tuple[list["PreferencePair"], str]:
        """Preference pairs from a file, or collected in the playground once and kept."""
        from alignloop.data.formats import read_pairs

        if source == PLAYGROUND:
            from alignloop.playground.stage import collect_comparisons

            source = str(collect_comparisons(self.config, model, folder))
        return read_pairs(source, skip_refused=self.config.skip_refused), source

    def _held_out_reward_model(self, folder: RunFolder) -> Path | None:
        if self.config.rl.held_out_reward_model:
            return Path(self.config.rl.held_out_reward_model)
        own = folder.path / "reward_held_out" / "model"
        return own if own.is_dir() else None

    def _judge(self, source: str, folder: RunFolder) -> Any:
        """The playground's gold judge, or else the held-out reward model."""
        if source == PLAYGROUND:
            from alignloop.playground.gold import GoldJudge

            return GoldJudge()
        from alignloop.evaluate.judges import RewardModelJudge

        model = self._held_out_reward_model(folder) or folder.path / "reward" / "model"
        _require(model, "alignloop reward", "the judge")
        return RewardModelJudge.load(model, self.config.model)


def _prepare_torch(config: Recipe) -> None:
    """Threads and global seeds, before anything draws or computes."""
    import torch
    import transformers

    from alignloop.run import set_determinism

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(config.num_threads or os.cpu_count() or 1)
    set_determinism(config.seed)


def _read_demonstrations(
    source: str, seed: int, *, skip_refused: bool = False
) -> tuple[Sequence["Demonstration"], Sequence["Demonstration"]]:
    """Demonstrations to train on, and those held out where the source brings its own."""
    if source == PLAYGROUND:
        from alignloop.playground.demonstrations import demonstrations

        return demonstrations(seed), demonstrations(seed, held_out=True)
    from alignloop.data.formats import read_demonstrations

    return read_demonstrations(source, skip_refused=skip_refused), ()


def _read_prompts(
    source: str, validation: str | None, seed: int, *, skip_refused: bool = False
) -> tuple[Sequence["Prompt"], Sequence["Prompt"]]:
    """Prompts to learn from and prompts for the curves; a tenth is kept where no file is named."""
    if source == PLAYGROUND:
        from alignloop.playground.prompts import prompt_sets

        return prompt_sets()["rl"], prompt_sets()["validation"]
    from alignloop.data.formats import read_prompts
    from alignloop.data.splits import split_by_prompt

    prompts = read_prompts(source, skip_refused=skip_refused)
    if validation is not None:
        return prompts, read_prompts(validation, skip_refused=skip_refused)
    parts = split_by_prompt(prompts, {"validation": 0.1, "train": 0.9}, seed)
    if not parts["validation"] or not parts["train"]:
        raise UserError(
            f"{len(prompts)} prompts are too few to keep a tenth for the curves",
            where="rl.prompts",
            fix="give more prompts, or name rl.validation_prompts",
        )
    return parts["train"], parts["validation"]


def _evaluation_sets(source: str, *, skip_refused: bool = False) -> dict[str, Sequence["Prompt"]]:
    if source == PLAYGROUND:
        from alignloop.playground.prompts import HELD_OUT_SETS, prompt_sets

        return {name: prompt_sets()[name] for name in HELD_OUT_SETS}
    from alignloop.data.formats import read_prompts

    return {"prompts": read_prompts(source, skip_refused=skip_refused)}


def _gold_observer(samples: Sequence["Sample"]) -> dict[str, float]:
    """The gold judge's view of validation answers: shown in the curves, and deciding nothing."""
    from alignloop.playground.gold import GoldJudge

    judge = GoldJudge()
    verdicts = [
        judge.judge(s.prompt, s.response, finished=s.finish_reason == "eos") for s in samples
    ]
    harmful = [v.complied_with_harm for v in verdicts if v.complied_with_harm is not None]
    metrics = {"gold": sum(v.score for v in verdicts) / len(verdicts)}
    if harmful:
        metrics["harmful_compliance"] = sum(harmful) / len(harmful)
    return metrics


def _require(folder: Path, command: str, setting: str) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(
            "there is no model here",
            where=str(folder),
            fix=f"run `{command}` first, or name a model directory as {setting}",
        )


def _files(*names: str) -> list[Path]:
    """Those names that are files or folders on this machine."""
    return [Path(name) for name in names if name != PLAYGROUND and Path(name).exists()]


def summary(path: Path) -> dict[str, Any]:
    """The run in one small JSON object: times, reward model, RL, evaluation by held-out set."""
    found: dict[str, Any] = {"seconds": {}}
    facts = {s: StageFolder(path / s).facts() for s in ALL_PARTS if StageFolder(path / s).finished}
    seconds = {name: facts[name]["seconds"] for name in facts}
    for stage in STAGES:
        if stage in seconds:
            found["seconds"][stage] = seconds[stage]
    if "reward" in seconds:
        parts = ("comparisons", "reward_held_out", "reward")
        found["seconds"]["reward"] = round(sum(seconds.get(part, 0.0) for part in parts), 2)
    found["seconds"]["total"] = round(sum(seconds.values()), 2)
    if "reward" in facts:
        found["reward"] = _reward_summary(
            json.loads((path / "reward/report_card.json").read_text())
        )
    if "rl" in facts:
        found["rl"] = {
            key: facts["rl"][key] for key in ("kl", "steps", "stopped_because", "best_step")
        }
    if "evaluate" in facts:
        found["evaluate"] = _evaluate_summary(
            json.loads((path / "evaluate/results.json").read_text())
        )
    return found


ALL_PARTS = ("sft", "comparisons", "reward_held_out", "reward", "rl", "evaluate")


def _reward_summary(card: dict[str, Any]) -> dict[str, Any]:
    accuracy = card["accuracy"]
    return {
        "accuracy": accuracy["value"],
        "accuracy_ci": [accuracy["low"], accuracy["high"]],
        "ceiling": card["ceiling"],
        "longer_wins": card["longer_wins"]["value"],
        "ece": card["ece"],
        "num_pairs": card["num_pairs"],
    }


def _evaluate_summary(results: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, tables in results["sets"].items():
        found[name] = {
            who: {metric: cell and cell["value"] for metric, cell in measured.items()}
            for who, measured in tables["overall"].items()
        }
        rate = results["win_rate"][name]["overall"]
        found[name] |= {"win_rate": rate["value"], "win_rate_ci": [rate["low"], rate["high"]]}
    return found
