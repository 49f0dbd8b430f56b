"""Whether a stage stands on what it was made of, and what happens where not. Part of the pipeline.

One rule (decision 0024): nothing that is finished, and no checkpoint, is thrown away or mixed with
what it was not made for unless somebody asks for it by `redo`.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
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
    """The run folder of one command; `redo` lets stages that do not stand any more begin again."""

    def __init__(self, config: Recipe, path: Path, *, redo: bool) -> None:
        self.config, self.path, self.redo = config, path, redo
        self.prints = Fingerprints(path)
        self._open: RunFolder | None = None

    @contextmanager
    def opened(self) -> Iterator[RunFolder]:
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
    ) -> Iterator[tuple[RunFolder, StageFolder]]:
        """A stage's folder, finished and standing on these inputs, or ready to be worked in.

        Raises UserError where it stands on something else, or where what it would read is not
        what its own stage has written.
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
        """Look at the whole chain before anything is done; raises UserError, or discards."""
        found = {name: self.problems(name, inputs) for name, inputs in stages.items()}
        self._refuse_others(tuple(stages))
        if self.redo:
            for name in (name for name in found if found[name]):
                self._discard(name, found[name])
            return
        told = [problem for problems in found.values() for problem in problems]
        if told := told + self._will_not_stand(stages):
            raise _refusal(self.path, told)

    def problems(self, name: str, inputs: Mapping[str, str]) -> list[Problem]:
        """Why what a stage has made, or begun, does not stand on these inputs and settings."""
        now = self.prints.inputs(inputs)
        changed = self.settings_problems(name)
        return changed + chain.problems(self.path, name, now, self.prints)

    def settings_problems(self, name: str) -> list[Problem]:
        """The settings that a stage has begun with and that are others now."""
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
            _log.warning("%s: %s is gone, so that the stage is done again", name, ", ".join(gone))
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
        changes = chain.begin(folder, name, self.prints.inputs(inputs), threads)
        if changes and any_checkpoint(folder.stage(name).checkpoints):
            words = "; ".join(changes)
            _log.warning("%s goes on on another machine (%s): last digits may differ", name, words)

    def _refuse_others(self, but: Sequence[str]) -> None:
        """config.toml holds one set of settings: those of other begun stages must stay."""
        others = [name for name in OWN if name not in but]
        if told := [problem for name in others for problem in self.settings_problems(name)]:
            raise _refusal(self.path, told)

    def _refuse_altered(self, name: str, inputs: Mapping[str, str]) -> None:
        within = {chain.name_in(self.path, text).split("/")[0] for text in inputs.values()}
        for other in (one for one in (*OWN, *chain.LABELS) if one in within and one != name):
            if told := chain.altered(self.path, other, self.prints):
                raise UserError(
                    "; ".join(map(str, told)),
                    where=str(self.path / other),
                    fix=f"put it back, or `alignloop run` with --redo does {other} again; a model"
                    " of your own is named in the settings instead, such as rl.policy",
                )

    def _will_not_stand(self, stages: Mapping[str, Mapping[str, str]]) -> list[Problem]:
        """Finished stages that read what a removed stage will now make of something else."""
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
                text = f"it stands on what {source} had made, and {source} will make"
                found.append(Problem(stage=name, text=f"{text} something else ({anew[source]})"))
                anew[name] = anew[source]
        return found

    def _discard(self, name: str, problems: Sequence[Problem]) -> None:
        _log.warning("done again: %s", "; ".join(map(str, problems)))
        StageFolder(self.path / name).discard()
        self.prints.forget()


def _refusal(path: Path, problems: Sequence[Problem]) -> UserError:
    stages = ", ".join(dict.fromkeys(problem.stage for problem in problems))
    return UserError(
        f"this run does not stand any more on what it was made of: {'; '.join(map(str, problems))}",
        where=str(path),
        fix=f"put back what it was, or name another run folder, or add --redo: what {stages} and"
        " the stages that follow have made is then thrown away and made again",
    )


def _prepare_torch(seed: int, threads: int) -> None:
    """Threads and global seeds, before anything draws or computes."""
    import torch
    import transformers

    from alignloop.run import set_determinism

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    set_determinism(seed)
