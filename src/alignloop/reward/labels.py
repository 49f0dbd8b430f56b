"""Which reward model learns from which labels: three models, none tested on its training data."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from alignloop.config import RewardConfig
from alignloop.data.splits import split_by_prompt
from alignloop.errors import UserError
from alignloop.judging.of_run import CHOOSER, CLIMBED, JUDGE
from alignloop.records import PreferencePair

# The purpose of each model, and with reward.labels = "shares" the part that trains it.
PURPOSES = {
    CLIMBED: "is climbed by RL",
    CHOOSER: "chooses the checkpoint",
    JUDGE: "judges the evaluation",
}
_PARTS = {CLIMBED: "train", CHOOSER: "held_out_model", JUDGE: "judge"}


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The pairs one reward model learns from, and pairs it never sees.

    `calibration` fits the temperature, `test` makes the report card; they may be the same pairs, in
    which case each half is calibrated by the other. `shared` counts the training pairs that the
    climbed model also learns from.
    """

    train: Sequence[PreferencePair]
    calibration: Sequence[PreferencePair]
    test: Sequence[PreferencePair]
    of: int
    shared: int = 0

    def each(self, change: Callable[[Sequence[PreferencePair]], list[PreferencePair]]) -> "Labels":
        """The labels after `change`; if calibration and test are one list they stay one."""
        test = change(self.test)
        return replace(
            self,
            train=change(self.train),
            calibration=test if self.one_test else change(self.calibration),
            test=test,
        )

    @property
    def one_test(self) -> bool:
        """Whether calibration and report card use the same pairs."""
        return self.calibration is self.test

    def refuse_undecided(self) -> None:
        """Raise UserError if all pairs for the report card are ties."""
        if all(pair.preference == 0.5 for pair in self.test):
            raise UserError(
                f"all {len(self.test)} pairs for the report card are ties",
                where="reward.pairs",
                fix="add pairs that are decided",
            )

    def in_words(self, purpose: str) -> str:
        """What the model sees, for the console."""
        what = f"this model {purpose}; it learns from" if purpose else "learns from"
        return (
            f"{what} {len(self.train)} of {self.of} pairs and is tested on {len(self.test)}"
            " unseen ones"
        )

    @property
    def seen(self) -> dict[str, int]:
        """Counts for the report card: training pairs and unseen pairs."""
        return {
            "learnt": len(self.train),
            "tested": len(self.test),
            "all": self.of,
            "shared_with_climbed": self.shared,
        }


def share_out(
    pairs: Sequence[PreferencePair], config: RewardConfig, seed: int, wanted: Collection[str]
) -> dict[str, Labels]:
    """The labels of each reward model in `wanted`, by the name of its part of the run.

    "folds": prompts fall into three folds; each model learns from two of them and is tested on the
    third. "shares": a label trains one model, or calibrates, or tests. Either way no prompt is both
    in training and test of one model. Raises UserError if a part is empty.
    """
    share = _by_folds if config.labels == "folds" else _by_shares
    return share(list(pairs), config, seed, wanted)


def _by_folds(
    pairs: list[PreferencePair], config: RewardConfig, seed: int, wanted: Collection[str]
) -> dict[str, Labels]:
    """Always three folds: training another model in a later run must not change the first."""
    folds = split_by_prompt(pairs, dict.fromkeys(PURPOSES, 1 / 3), seed)
    _refuse_empty(folds, pairs)
    found: dict[str, Labels] = {}
    for name in wanted:
        train = [pair for other, fold in folds.items() if other != name for pair in fold]
        # two models trained on two of three folds each share exactly one
        third = [other for other in folds if other not in (name, CLIMBED)]
        shared = 0 if name == CLIMBED else sum(len(folds[other]) for other in third)
        unseen = folds[name]
        found[name] = Labels(
            train=train, calibration=unseen, test=unseen, of=len(pairs), shared=shared
        )
    return found


def _by_shares(
    pairs: list[PreferencePair], config: RewardConfig, seed: int, wanted: Collection[str]
) -> dict[str, Labels]:
    shares = {"test": config.test_share, "calibration": config.calibration_share}
    if CHOOSER in wanted:
        shares["held_out_model"] = config.held_out_model_share
    if JUDGE in wanted:
        shares["judge"] = config.judge_share
    shares["train"] = 1 - sum(shares.values())
    parts = split_by_prompt(pairs, shares, seed)
    _refuse_empty(parts, pairs)
    return {
        name: Labels(
            train=parts[_PARTS[name]],
            calibration=parts["calibration"],
            test=parts["test"],
            of=len(pairs),
        )
        for name in wanted
    }


def _refuse_empty(parts: Mapping[str, Sequence[PreferencePair]], pairs: Sequence[object]) -> None:
    if empty := [name for name, found in parts.items() if not found]:
        raise UserError(
            f"{len(pairs)} pairs leave none for: {', '.join(empty)}",
            where="reward.pairs",
            fix='add pairs, or change the shares of reward.labels = "shares"',
        )
