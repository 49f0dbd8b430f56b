"""Who learns from which labels: three reward models, none tested on what it has learnt."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from alignloop.config import RewardConfig
from alignloop.data.splits import split_by_prompt
from alignloop.errors import UserError
from alignloop.judging.of_run import CHOOSER, CLIMBED, JUDGE
from alignloop.records import PreferencePair

# What each is for, and the share that trains it where every label has one use.
PURPOSES = {
    CLIMBED: "is climbed by RL",
    CHOOSER: "chooses the checkpoint",
    JUDGE: "judges the evaluation",
}
_PARTS = {CLIMBED: "train", CHOOSER: "held_out_model", JUDGE: "judge"}


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What one reward model learns from, and the pairs that it has never seen.

    `calibration` fits the temperature, `test` makes the report card; they may be the same pairs,
    and then each half is calibrated by the other. `shared` counts the training pairs that the
    climbed model learns from, too.
    """

    train: Sequence[PreferencePair]
    calibration: Sequence[PreferencePair]
    test: Sequence[PreferencePair]
    of: int
    shared: int = 0

    def each(self, change: Callable[[Sequence[PreferencePair]], list[PreferencePair]]) -> "Labels":
        """The same labels after `change`, the same pairs still being the same."""
        test = change(self.test)
        return replace(
            self,
            train=change(self.train),
            calibration=test if self.one_test else change(self.calibration),
            test=test,
        )

    @property
    def one_test(self) -> bool:
        """Whether the pairs that calibrate are those of the report card."""
        return self.calibration is self.test

    def refuse_undecided(self) -> None:
        """Raise UserError where the report card would have ties alone to go by."""
        if all(pair.preference == 0.5 for pair in self.test):
            raise UserError(
                f"all {len(self.test)} pairs for the report card are ties",
                where="reward.pairs",
                fix="give more pairs that are decided",
            )

    def in_words(self, purpose: str) -> str:
        """What the model sees, for the person who watches."""
        what = f"this model {purpose}; it learns" if purpose else "learns"
        return (
            f"{what} {len(self.train)} of {self.of} pairs and is tested on {len(self.test)}"
            " that it never sees"
        )

    @property
    def seen(self) -> dict[str, int]:
        """The counts for the report card: what was learnt from, and what was kept from it."""
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

    "folds": prompts fall into three folds; each model learns two of them and is tested on the
    third, to which it is blind. "shares": a label trains one model, or calibrates, or tests. Either
    way a prompt is never on both sides of one model. Raises UserError where a part is left empty.
    """
    share = _by_folds if config.labels == "folds" else _by_shares
    return share(list(pairs), config, seed, wanted)


def _by_folds(
    pairs: list[PreferencePair], config: RewardConfig, seed: int, wanted: Collection[str]
) -> dict[str, Labels]:
    """Three folds whoever is wanted: a second model in a later run leaves the first as it is."""
    folds = split_by_prompt(pairs, dict.fromkeys(PURPOSES, 1 / 3), seed)
    _refuse_empty(folds, pairs)
    found: dict[str, Labels] = {}
    for name in wanted:
        train = [pair for other, fold in folds.items() if other != name for pair in fold]
        third = [other for other in folds if other not in (name, CLIMBED)]
        shared = 0 if name == CLIMBED else sum(len(folds[other]) for other in third)
        blind = folds[name]
        found[name] = Labels(
            train=train, calibration=blind, test=blind, of=len(pairs), shared=shared
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
            fix='give more pairs, or change reward.labels = "shares" and its shares',
        )
