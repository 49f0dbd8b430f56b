"""From a name in the settings to a judge: rl.rewards and evaluate.judge take the same names.

A new kind of judge is one entry of `KINDS`. No torch until a judge is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignloop.config import ModelConfig
from alignloop.config.stages import names_function
from alignloop.errors import UserError
from alignloop.judging.protocol import Judge
from alignloop.run import holds_model

MICRO_BATCH_TOKENS = 4096


@dataclass(frozen=True, kw_only=True)
class Making:
    """The context in which judges are made.

    `own` has the directories of the run's reward models by name. With `policy` and its `tokenizer`,
    a reward model that is an adapter of the same base shares it, and one trained here with the same
    vocabulary reads the policy's sampled tokens.
    """

    model_config: ModelConfig
    own: Mapping[str, Path] = field(default_factory=dict[str, Path])
    micro_batch_tokens: int = MICRO_BATCH_TOKENS
    time_limit: float | None = None
    policy: Any = None
    tokenizer: Any = None

    def folder(self, name: str) -> Path:
        """The directory of a reward model."""
        return self.own.get(name, Path(name))

    def called(self, name: str) -> str:
        """A reward model's name in reports: "held-out reward model", or by its directory."""
        own = name.replace("held_out", "held-out").replace("_", " ")
        return own if name in self.own else f"reward model {name}"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of judge: which names it matches, how to make one, how to check it can be made.

    `check` raises UserError early, before hours of training. `learnt`: trained on labels, so
    unreliable on answers unlike them.
    """

    fits: Callable[[str], bool]
    make: Callable[[str, Making], Judge]
    check: Callable[[str], None]
    learnt: bool = False


def kind_of(name: str) -> Kind:
    """The kind of judge for a name."""
    return next(kind for kind in KINDS if kind.fits(name))


def make_judge(name: str, making: Making) -> Judge:
    """The judge for a name; raises UserError if it cannot be made."""
    return kind_of(name).make(name, making)


def _function(name: str, making: Making) -> Judge:
    from alignloop.judging.judges import FunctionJudge
    from alignloop.scoring.functions import load_function

    return FunctionJudge(function=load_function(name, making.time_limit))


def _check_function(name: str) -> None:
    from alignloop.scoring.functions import load_function

    load_function(name)


def _reward_model(name: str, making: Making) -> Judge:
    from alignloop.judging.judges import TokenJudge
    from alignloop.judging.reward_models import RewardModel, reads_tokens_of
    from alignloop.models import read_reward_scale
    from alignloop.models.initialise import load_frozen_reward_model

    folder, called, tokens = making.folder(name), making.called(name), making.micro_batch_tokens
    if making.policy is not None and reads_tokens_of(making.tokenizer, folder, making.model_config):
        return TokenJudge(
            model=load_frozen_reward_model(
                folder, making.tokenizer, making.model_config, policy=making.policy
            ),
            scale=read_reward_scale(folder),
            name=called,
            pad_id=making.tokenizer.pad_token_id,
            micro_batch_tokens=tokens,
        )
    return RewardModel.load(
        folder,
        making.model_config,
        micro_batch_tokens=tokens,
        policy=making.policy,
        name=called,
    )


def _check_model(name: str) -> None:
    if not holds_model(Path(name)):
        raise UserError("no model found here", where=name, fix="name a model directory")


# the first that fits wins, so the catch-all comes last
KINDS: tuple[Kind, ...] = (
    Kind(fits=names_function, make=_function, check=_check_function),
    Kind(fits=lambda _: True, make=_reward_model, check=_check_model, learnt=True),
)
