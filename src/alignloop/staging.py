"""Whether a stage still matches its inputs, and what to do if not. Part of the pipeline.

One rule (decision 0024): no finished stage and no checkpoint is deleted, or mixed with other
inputs, unless the user asks for it with `redo`.
"""

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from alignloop.config import Recipe, to_toml
from alignloop.config.frozen import OWN, changed_settings
from alignloop.config.load import kept_recipe
from alignloop.errors import UserError
from alignloop.run import RunFolder, StageFolder, chain, say_line
from alignloop.run.chain import Fingerprints, Problem
from alignloop.run.machine import available_cores

_log = logging.getLogger(__name__)


class Staging:
    """The run folder of one command; with `redo`, stages that are out of date start over."""

    def __init__(self, config: Recipe, path: Path, *, redo: bool) -> None:
        self.config, self.path, self.redo = config, path, redo
        self.prints = Fingerprints(path)
        self._open: RunFolder | None = None

    @contextmanager
    def opened(self) -> Generator[RunFolder]:
        """The run folder, locked for this process; stages inside `run` share one lock."""
        if self._open is not None:
            yield self._open
            return
        with RunFolder.create(self.path) as folder:
            self._open = folder
            try:
                chain.write_lineage(folder)
                yield folder
            finally:
                self._open = None

    @contextmanager
    def stage(
        self, name: str, inputs: Mapping[str, str]
    ) -> Generator[tuple[RunFolder, StageFolder]]:
        """A stage's folder: finished and up to date with these inputs, or ready to be worked in.

        Raises UserError if it was made from other inputs, or if a stage's output that it would read
        has been altered.
        """
        with self.opened() as folder:
            stage = folder.stage(name)
            self._settle(name, stage, inputs)
            if not stage.finished:
                self._begin(folder, name, inputs)
            worked = not stage.finished
            yield folder, stage
            if worked:
                self.prints.forget()
                chain.write_lineage(folder)

    def check(self, stages: Mapping[str, Mapping[str, str]]) -> None:
        """Check the whole chain before any work; raises UserError, or discards with `redo`."""
        found = {name: self.problems(name, inputs) for name, inputs in stages.items()}
        self._refuse_others(tuple(stages))
        if self.redo:
            for name in (name for name in found if found[name]):
                self._discard(name, found[name])
            return
        problems = [problem for some in found.values() for problem in some]
        if problems := problems + self._outdated_by_removal(stages):
            raise _refusal(self.path, problems)

    def problems(self, name: str, inputs: Mapping[str, str]) -> list[Problem]:
        """Why a stage's output, or begun work, is out of date with these inputs and settings."""
        now = self.prints.inputs(inputs)
        changed = self.settings_problems(name)
        return changed + chain.problems(self.path, name, now, self.prints)

    def settings_problems(self, name: str) -> list[Problem]:
        """The settings that have changed since the stage began."""
        stage = StageFolder(self.path / name)
        kept = kept_recipe(self.path / "config.toml") if stage.begun else None
        if kept is None:
            return []
        by_content = bool(chain.inputs_of(self.path, name))
        changes = changed_settings(name, kept, self.config, by_content=by_content)
        return [Problem(stage=name, text=str(change)) for change in changes]

    def _settle(self, name: str, stage: StageFolder, inputs: Mapping[str, str]) -> None:
        gone = chain.lost(self.path, name)
        if gone:
            _log.warning("%s: redoing the stage because %s is gone", name, ", ".join(gone))
            # the record names files that are gone: nothing is lost by making them again
            stage.discard()
        problems = self.problems(name, inputs)
        if problems and not self.redo:
            raise _refusal(self.path, problems)
        if problems:
            self._discard(name, problems)
        if not stage.finished:
            self._refuse_others((name,))
            self._refuse_altered(name, inputs)

    def _begin(self, folder: RunFolder, name: str, inputs: Mapping[str, str]) -> None:
        from alignloop.run.checkpoints import any_checkpoint

        say_line(f"{name}: loading libraries, then reading its files")
        threads = self.config.num_threads or available_cores()
        _prepare_torch(self.config.seed, threads)
        folder.write_config(to_toml(self.config))
        # config and inputs are on disk before any work, so that a kill leaves a truthful record
        changes = chain.begin(folder, name, self.prints.inputs(inputs), threads)
        if changes and any_checkpoint(folder.stage(name).checkpoints):
            words = "; ".join(changes)
            _log.warning("%s resumes on another machine (%s): last digits may differ", name, words)

    def _refuse_others(self, but: Sequence[str]) -> None:
        """config.toml holds one set of settings, so those of other begun stages must stay."""
        others = [name for name in OWN if name not in but]
        if problems := [problem for name in others for problem in self.settings_problems(name)]:
            raise _refusal(self.path, problems)

    def _refuse_altered(self, name: str, inputs: Mapping[str, str]) -> None:
        within = {chain.name_in(self.path, text).split("/")[0] for text in inputs.values()}
        for other in (one for one in (*OWN, *chain.LABELS) if one in within and one != name):
            if problems := chain.altered(self.path, other, self.prints):
                raise UserError(
                    "; ".join(map(str, problems)),
                    where=str(self.path / other),
                    fix=f"restore it, or run with --redo to redo {other}; to use a model of your"
                    " own, name it in a setting such as rl.policy",
                )

    def _outdated_by_removal(self, stages: Mapping[str, Mapping[str, str]]) -> list[Problem]:
        """Finished stages that read a removed stage's output, which will now come out different."""
        kept = kept_recipe(self.path / "config.toml")
        anew: dict[str, str] = {}
        found: list[Problem] = []
        for name, inputs in stages.items():
            if not StageFolder(self.path / name).begun:
                now = self.prints.inputs(inputs)
                why = chain.unlike_before(self.path, name, now)
                if kept is not None and chain.inputs_in_lineage(self.path, name):
                    why += [str(one) for one in changed_settings(name, kept, self.config)]
                if why:
                    anew[name] = why[0]
                continue
            within = (chain.name_in(self.path, text).split("/")[0] for text in inputs.values())
            if source := next((one for one in within if one in anew), None):
                text = f"it was made from {source}, which will now come out different"
                found.append(Problem(stage=name, text=f"{text} ({anew[source]})"))
                anew[name] = anew[source]
        return found

    def _discard(self, name: str, problems: Sequence[Problem]) -> None:
        _log.warning("redoing: %s", "; ".join(map(str, problems)))
        StageFolder(self.path / name).discard()
        self.prints.forget()


def _refusal(path: Path, problems: Sequence[Problem]) -> UserError:
    stages = ", ".join(dict.fromkeys(problem.stage for problem in problems))
    return UserError(
        f"this run is out of date with its inputs or settings: {'; '.join(map(str, problems))}",
        where=str(path),
        fix=f"restore them, use another run folder, or add --redo, which deletes what {stages} and"
        " the stages after it have made and makes it again",
    )


def _prepare_torch(seed: int, threads: int) -> None:
    """Set threads and global seeds before anything draws or computes."""
    import torch
    import transformers

    from alignloop.run import set_determinism

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    set_determinism(seed)
