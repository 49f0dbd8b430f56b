"""The settings of each stage. The defaults are the published textbook settings for a real model."""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from alignloop.config.algorithms import Algorithm, PpoConfig
from alignloop.config.objectives import DpoObjective, Objective
from alignloop.config.section import LARGEST, Section, refuse_idle

LABEL = "label:"  # a labelling project as a source: "label:DIR", or a database's URL after it
NOT_NAMED = ""  # the default of what every recipe has to name
MOST_EPOCHS, MOST_AT_ONCE = 10_000, 1_000_000
TooLong = Literal["refuse", "skip", "cut"]  # rows with more tokens than allowed


class ModelConfig(Section):
    """The model that everything starts from."""

    path: str = Field(default=NOT_NAMED, description="a Hugging Face model directory, or a world")
    chat_template: Literal["chatml"] | None = Field(
        default=None, description="template to install where the model has none"
    )
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="where models live: 'cpu', 'cuda', 'cuda:1', or 'auto': a GPU if there is one",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="compute layers twice in training, to keep less in memory"
    )
    trust_remote_code: bool = Field(default=False, description="run code that comes with the model")


class DataConfig(Section):
    """What holds for every file that is learnt from."""

    exclude: tuple[str, ...] = Field(
        default=(),
        description="files of held-out prompts: no stage learns from them or near duplicates",
    )
    near_duplicate: float = Field(
        default=0.8, gt=0, le=1, description="share of common trigrams that makes a near duplicate"
    )
    split_seed: int = Field(
        default=0,
        ge=0,
        description="splits of files go by it and the prompt alone; a world's by seed",
    )

    @field_validator("exclude", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        """One file may be named without brackets; "none" is none."""
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else value


def _format() -> Any:
    return Field(
        default=None,
        description="the one format of all rows, such as 'alpaca'; none = recognised by content",
    )


class OptimizerSection(Section):
    """What every training stage sets."""

    learning_rate: float = Field(gt=0)
    batch_size: int = Field(
        ge=1, le=MOST_AT_ONCE, description="sequences (pairs, prompts) per optimiser step"
    )
    micro_batch_tokens: int = Field(
        default=4096, ge=1, description="padded tokens per forward pass"
    )
    weight_decay: float = Field(default=0.0, ge=0)
    adam_eps: float = Field(default=1e-5, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    save_every: int = Field(
        default=50, ge=0, description="steps between checkpoints; 0 = only at the end"
    )
    offload_optimizer: bool = Field(
        default=False,
        description="keep float32 copies, gradients and AdamW's state in the host's memory",
    )


class LearningSection(OptimizerSection):
    """What every stage sets that learns from a file."""

    warmup_share: float = Field(ge=0, lt=1, description="share of steps that warm up")


class SftConfig(LearningSection):
    """Stage 1: supervised fine-tuning on demonstrations."""

    demonstrations: str | None = Field(
        default=NOT_NAMED,
        description="file of demonstrations, or a world; none = no SFT: all that follows starts"
        " from model.path as it is",
    )
    format: str | None = _format()
    learning_rate: float = Field(default=2e-5, gt=0)
    batch_size: int = Field(default=32, ge=1, le=MOST_AT_ONCE)
    num_epochs: float = Field(default=3.0, gt=0, le=MOST_EPOCHS)
    warmup_share: float = Field(default=0.03, ge=0, lt=1, description="share of steps that warm up")
    max_tokens: int = Field(default=1024, ge=8, description="longest prompt + response")
    too_long: TooLong = Field(
        default="refuse", description="demonstrations over max_tokens: or 'skip' or 'cut' them"
    )
    held_out_share: float = Field(
        default=0.05, ge=0, lt=1, description="prompts kept for perplexity"
    )
    eval_every: int = Field(default=50, ge=0)
    max_steps: int | None = Field(default=None, ge=1, description="stop after this many steps")


class RewardConfig(LearningSection):
    """Stage 2: the reward model on preference pairs."""

    model: str | None = Field(
        default=None, description="model directory; none = the SFT stage's model"
    )
    pairs: str = Field(
        default=NOT_NAMED,
        description="file of preference pairs, a world, or 'label:' and a project's folder",
    )
    format: str | None = _format()
    learning_rate: float = Field(default=1e-5, gt=0)
    batch_size: int = Field(
        default=64,
        ge=1,
        le=MOST_AT_ONCE,
        description="pairs per step; those of one prompt stay together",
    )
    num_epochs: float = Field(default=1.0, gt=0, le=MOST_EPOCHS)
    warmup_share: float = Field(default=0.03, ge=0, lt=1)
    max_tokens: int = Field(default=1024, ge=8)
    too_long: TooLong = Field(
        default="refuse", description="pairs over max_tokens: or 'skip' them, or 'cut' prompts"
    )
    centring_coef: float = Field(
        default=0.0, ge=0, description="weight of (r_chosen + r_rejected)^2"
    )
    use_margin: bool = Field(
        default=False, description="subtract the strength of preference in the loss"
    )
    normalise_variance: bool = Field(
        default=False, description="scale scores of demonstrations to variance 1"
    )
    held_out_model: bool = Field(
        default=True,
        description="also train a second model, which chooses RL's checkpoint, and a third, which"
        " judges the evaluation where nobody else does",
    )
    labels: Literal["folds", "shares"] = Field(
        default="folds",
        description="'folds': each model learns two thirds of the prompts and is tested on the"
        " third that it has not seen; 'shares': every label has one use (for tens of thousands)",
    )
    held_out_model_share: float = Field(
        default=0.3, gt=0, lt=1, description="shares: prompts for the second model"
    )
    judge_share: float = Field(
        default=0.2, gt=0, lt=1, description="shares: prompts for the third, where it is needed"
    )
    calibration_share: float = Field(
        default=0.08, gt=0, lt=1, description="shares: prompts to fit the temperature on"
    )
    test_share: float = Field(
        default=0.25, gt=0, lt=1, description="shares: prompts for the report card"
    )
    max_steps: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _shares_leave_training_pairs(self) -> Self:
        of_others = ("held_out_model_share", "judge_share")
        names = (*of_others, "calibration_share", "test_share")
        if self.labels == "folds":
            refuse_idle(self, names, 'reward.labels = "shares"')
            return self
        used = names if self.held_out_model else names[2:]
        if sum(getattr(self, name) for name in used) >= 0.9:
            told = " + ".join(used)
            raise ValueError(f"{told} leave less than a tenth of the pairs to train on")
        return self


class DpoConfig(LearningSection):
    """DPO, in place of stages 2 and 3: the policy learns from the preference pairs themselves."""

    model: str | None = Field(
        default=None,
        description="model directory: start and reference; none = the SFT stage's model",
    )
    pairs: str = Field(
        default=NOT_NAMED,
        description="file of preference pairs, a world, or 'label:' and a project's folder",
    )
    format: str | None = _format()
    objective: Objective = Field(default_factory=DpoObjective)
    learning_rate: float = Field(default=1e-6, gt=0)
    batch_size: int = Field(
        default=64,
        ge=1,
        le=MOST_AT_ONCE,
        description="pairs per step; those of one prompt stay together",
    )
    num_epochs: float = Field(default=1.0, gt=0, le=MOST_EPOCHS)
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    max_tokens: int = Field(default=1024, ge=8)
    too_long: TooLong = Field(
        default="refuse", description="pairs over max_tokens: or 'skip' them, or 'cut' prompts"
    )
    held_out_share: float = Field(
        default=0.1, ge=0, lt=1, description="prompts kept for accuracy and margin"
    )
    eval_every: int = Field(default=50, ge=0)
    max_steps: int | None = Field(default=None, ge=1)


class SamplingConfig(Section):
    """How responses are drawn: by default from the whole distribution, as RL has to."""

    temperature: float = Field(
        default=1.0, ge=0, description="divides logits; 0 = always the likeliest token, not in rl"
    )
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="draw among the likeliest tokens that have this share together; in rl 1",
    )
    max_new_tokens: int = Field(default=256, ge=1)
    batch_size: int = Field(
        default=128, ge=1, le=MOST_AT_ONCE, description="sequences decoded together"
    )

    @model_validator(mode="after")
    def _choose_one_way(self) -> Self:
        if self.temperature == 0:
            refuse_idle(self, ("top_p",), "a temperature above 0")
        return self


# The reward models that the reward stage trains: by which name rl.rewards and evaluate.judge ask
# for one, and the part of the run folder that holds it.
REWARD_MODEL, HELD_OUT = "reward_model", "held_out_reward_model"
OF_REWARD_STAGE = {
    REWARD_MODEL: "reward",
    HELD_OUT: "reward_held_out",
    "judge_reward_model": "reward_judge",
}


@dataclass(frozen=True, kw_only=True)
class RewardPart:
    """One of several rewards: `source` names a judge, as `evaluate.judge` does."""

    weight: float
    source: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "0.5 * models/helpful", or "models/helpful" alone. Raises ValueError."""
        weight, star, source = text.partition("*")
        if not star or names_function(text.strip()):  # a function's own text may have a star in it
            weight, star, source = "", "", text
        if not source.strip():
            raise ValueError(f"{text!r} is not of the form 'SOURCE' or 'WEIGHT * SOURCE'")
        value = float(weight) if star else 1.0
        if not math.isfinite(value) or value == 0:
            raise ValueError(f"{text!r} has no weight other than 0")
        if abs(value) > LARGEST:
            raise ValueError(f"{text!r} has a weight beyond {LARGEST:,}")
        return cls(weight=value, source=source.strip())


def names_function(source: str) -> bool:
    """Whether it reads "package.module:function", maybe with (TEXT) behind it.

    A directory's name has no colon here.
    """
    return re.fullmatch(r"[\w.]+:[\w.]+(?:\(.*\))?", source, re.S) is not None


class RlConfig(OptimizerSection):
    """Stage 3: reinforcement learning on prompts."""

    policy: str | None = Field(
        default=None, description="model directory; none = the SFT stage's model"
    )
    rewards: tuple[str, ...] = Field(
        default=(REWARD_MODEL,),
        min_length=1,
        description="what is climbed, each 'SOURCE' or 'WEIGHT * SOURCE': 'reward_model' is the"
        " reward stage's, others are model directories, 'module:function' and ours, such as"
        " 'verifiable:numeric_answer'; several are added up",
    )
    reward_time_limit: float | None = Field(
        default=None, gt=0, description="seconds that a reward function may take for a batch"
    )
    held_out_reward_model: str | None = Field(
        default=None,
        description="judges which checkpoint is kept; none = the reward stage's second model, or"
        " the reward itself where that stage has no part in it",
    )
    prompts: str = Field(default=NOT_NAMED, description="file of prompts, or a world")
    format: str | None = _format()
    validation_prompts: str | None = Field(
        default=None, description="file of prompts for the curves; none = a share of the prompts"
    )
    validation_size: int = Field(default=128, ge=1, description="validation prompts per evaluation")
    algorithm: Algorithm = Field(default_factory=PpoConfig)
    learning_rate: float = Field(default=1e-6, gt=0)
    critic_learning_rate: float | None = Field(
        default=None, gt=0, description="none = learning_rate"
    )
    batch_size: int = Field(default=64, ge=1, le=MOST_AT_ONCE, description="prompts per step")
    num_steps: int = Field(default=200, ge=1)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    max_prompt_tokens: int = Field(default=512, ge=1)
    too_long: TooLong = Field(
        default="refuse", description="prompts over max_prompt_tokens: or 'skip' or 'cut' them"
    )
    missing_eos: Literal["replace", "subtract", "off"] = Field(
        default="replace", description="what happens to the score of a response that was cut off"
    )
    missing_eos_penalty: float = Field(
        default=-1.0,
        description="the score put there, or a lower one where it would pay; or added",
    )
    kl_budget: float | None = Field(
        default=None, gt=0, description="stop at this KL (nats per sequence)"
    )
    choice_kl_coef: float = Field(
        default=0.02,
        ge=0,
        description="price of a nat of KL in the choice of the checkpoint, in standard deviations"
        " of the held-out score at step 0 (InstructGPT's 0.02); 0 = by the held-out score alone",
    )
    patience: int = Field(default=3, ge=1, description="evaluations without a better checkpoint")
    eval_every: int = Field(default=10, ge=1)
    num_printed_samples: int = Field(
        default=8, ge=1, description="validation answers kept per evaluation"
    )

    @field_validator("rewards", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        """One reward may be named without brackets."""
        return (value,) if isinstance(value, str) else value

    @field_validator("rewards")
    @classmethod
    def _know_each_reward(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for source in (RewardPart.parse(text).source for text in value):
            if source in OF_REWARD_STAGE and source != REWARD_MODEL:
                raise ValueError(
                    f"RL never climbs {source}: it chooses the checkpoint or judges, and would be"
                    " independent no more"
                )
        return value

    @model_validator(mode="after")
    def _limit_functions_alone(self) -> Self:
        if not any(map(names_function, self.reward_sources)):
            refuse_idle(self, ("reward_time_limit",), "a reward function")
        return self

    @model_validator(mode="after")
    def _draw_from_the_whole_distribution(self) -> Self:
        """An update needs the whole distribution's probabilities: docs/algorithms.md#ppo-12."""
        if self.sampling.temperature == 0 or self.sampling.top_p < 1:
            raise ValueError(
                "RL draws from the whole distribution: rl.sampling.temperature must be above 0 and"
                " rl.sampling.top_p 1 (evaluate.sampling may have others)"
            )
        return self

    @property
    def reward_sources(self) -> tuple[str, ...]:
        """The names of what is climbed, without their weights."""
        return tuple(RewardPart.parse(text).source for text in self.rewards)

    @property
    def uses_reward_stage(self) -> bool:
        """Whether the model of this run's reward stage has a part in the reward."""
        return REWARD_MODEL in self.reward_sources


class EvaluateConfig(Section):
    """The honest comparison of the SFT model with the policy, on held-out prompts."""

    base: str | None = Field(
        default="model",
        description="model directory whose answers stand beside both; 'model' = the one that SFT"
        " began with, unless it is a world's; none = no third column",
    )
    baseline: str | None = Field(
        default=None, description="model directory; none = the SFT stage's model"
    )
    policy: str | None = Field(
        default=None,
        description="model directory; none = the RL stage's model, or the DPO stage's where only"
        " that is there",
    )
    prompts: str = Field(default=NOT_NAMED, description="file of prompts, or a world")
    format: str | None = _format()
    judge: str | None = Field(
        default=None,
        description="who judges, by the names of rl.rewards, or a world, whose gold judge it is;"
        " none = the most independent of the run's reward models: 'judge_reward_model',"
        " 'held_out_reward_model', 'reward_model'",
    )
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    max_prompts: int = Field(default=300, ge=1, description="prompts per held-out set")
    too_long: TooLong = Field(
        default="refuse",
        description="prompts that leave the model no room to answer: or 'skip' or 'cut' them",
    )
    num_samples_shown: int = Field(
        default=20, ge=1, description="side-by-side answers in the report"
    )


class ComparisonsConfig(Section):
    """How a world has its annotators compare the answers of the SFT model."""

    num_prompts: int = Field(
        default=1200, ge=8, le=MOST_AT_ONCE, description="prompts whose answers are compared"
    )
    responses_per_prompt: int = Field(default=4, ge=2, le=9)
    pairs_per_prompt: int = Field(default=4, ge=1, le=1000)
    overlap_share: float = Field(
        default=0.2, ge=0, le=1, description="pairs judged by all annotators"
    )
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)

    @model_validator(mode="after")
    def _draw_answers_that_differ(self) -> Self:
        if self.sampling.temperature == 0:
            raise ValueError(
                "comparisons.sampling.temperature = 0 gives equal answers: nothing to compare"
            )
        return self
