"""The settings of each stage. The defaults are the published textbook values for a real model."""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from alignloop.config.algorithms import Algorithm, PpoConfig
from alignloop.config.objectives import DpoObjective, Objective
from alignloop.config.section import LARGEST, Section, refuse_idle

LABEL = "label:"  # prefix of a labelling project: "label:" and its folder or database URL
NOT_NAMED = ""  # the default of a required setting
MOST_EPOCHS, MOST_AT_ONCE = 10_000, 1_000_000
TooLong = Literal["refuse", "skip", "cut"]  # rows with more tokens than allowed


class ModelConfig(Section):
    """The base model."""

    path: str = Field(default=NOT_NAMED, description="a Hugging Face model directory, or a world")
    chat_template: Literal["chatml"] | None = Field(
        default=None, description="template to install if the model has none"
    )
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="'cpu', 'cuda', 'cuda:1', or 'auto': a GPU if there is one",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="recompute layers in the backward pass to save memory"
    )
    trust_remote_code: bool = Field(default=False, description="run code that comes with the model")


class DataConfig(Section):
    """Settings for every training file."""

    exclude: tuple[str, ...] = Field(
        default=(),
        description="files of held-out prompts: neither they nor near duplicates are trained on",
    )
    near_duplicate: float = Field(
        default=0.8, gt=0, le=1, description="share of common trigrams that makes a near duplicate"
    )
    split_seed: int = Field(
        default=0,
        ge=0,
        description="with the prompt, decides the splits of files; a world's splits use seed",
    )

    @field_validator("exclude", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        """One file may be given without brackets; "none" means no file."""
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else value


def _format() -> Any:
    return Field(
        default=None,
        description="format of every row, such as 'alpaca'; none = recognised by content",
    )


class OptimizerSection(Section):
    """The settings of every training stage."""

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
        description="keep float32 copies, gradients and AdamW's state in host memory",
    )


class LearningSection(OptimizerSection):
    """The settings of every stage that trains on a file."""

    warmup_share: float = Field(ge=0, lt=1, description="share of steps for warm-up")


class SftConfig(LearningSection):
    """Stage 1: supervised fine-tuning on demonstrations."""

    demonstrations: str | None = Field(
        default=NOT_NAMED,
        description="file of demonstrations, or a world; none = no SFT: later stages start from"
        " model.path",
    )
    format: str | None = _format()
    learning_rate: float = Field(default=2e-5, gt=0)
    batch_size: int = Field(default=32, ge=1, le=MOST_AT_ONCE)
    num_epochs: float = Field(default=3.0, gt=0, le=MOST_EPOCHS)
    warmup_share: float = Field(default=0.03, ge=0, lt=1, description="share of steps for warm-up")
    max_tokens: int = Field(default=1024, ge=8, description="longest prompt + response")
    too_long: TooLong = Field(
        default="refuse", description="longer demonstrations: 'refuse', 'skip' or 'cut' them"
    )
    held_out_share: float = Field(
        default=0.05, ge=0, lt=1, description="share of prompts held out for perplexity"
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
        description="pairs per step; pairs of one prompt stay together",
    )
    num_epochs: float = Field(default=1.0, gt=0, le=MOST_EPOCHS)
    warmup_share: float = Field(default=0.03, ge=0, lt=1)
    max_tokens: int = Field(default=1024, ge=8)
    too_long: TooLong = Field(
        default="refuse", description="longer pairs: 'refuse', 'skip', or 'cut' the prompt"
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
        " judges the evaluation if no other judge is set",
    )
    labels: Literal["folds", "shares"] = Field(
        default="folds",
        description="'folds': each model trains on two thirds of the prompts and is tested on the"
        " other third; 'shares': every label has one use (for tens of thousands)",
    )
    held_out_model_share: float = Field(
        default=0.3, gt=0, lt=1, description="shares: prompts for the second model"
    )
    judge_share: float = Field(
        default=0.2, gt=0, lt=1, description="shares: prompts for the third model, if needed"
    )
    calibration_share: float = Field(
        default=0.08, gt=0, lt=1, description="shares: prompts to fit the temperature on"
    )
    test_share: float = Field(
        default=0.25, gt=0, lt=1, description="shares: prompts for the report card"
    )
    max_steps: int | None = Field(default=None, ge=1)
    criteria: tuple[str, ...] = Field(
        default=(), description="one head for each of these criteria, trained on their scores"
    )
    criteria_weights: tuple[float, ...] = Field(
        default=(), description="weight of each criterion in the reward; none = equal, sum 1"
    )
    attributes: str | None = Field(
        default=None,
        description="file of answers with scores by criterion; none = those of the project in"
        " reward.pairs",
    )
    criteria_coef: float = Field(
        default=1.0, gt=0, description="weight of the squared error of the criteria's scores"
    )
    pair_loss: bool = Field(
        default=True, description="false: learn from the criteria's scores only, not from pairs"
    )

    @model_validator(mode="after")
    def _criteria_fit_together(self) -> Self:
        if not self.criteria:
            others = ("criteria_weights", "attributes", "criteria_coef", "pair_loss")
            refuse_idle(self, others, "reward.criteria")
        if len(set(self.criteria)) < len(self.criteria):
            raise ValueError("criteria: each is named once")
        if self.criteria_weights and len(self.criteria_weights) != len(self.criteria):
            raise ValueError("criteria_weights: give one weight for each of the criteria")
        if self.criteria_weights and not any(self.criteria_weights):
            raise ValueError("criteria_weights: at least one is not 0")
        return self

    @model_validator(mode="after")
    def _shares_leave_training_pairs(self) -> Self:
        of_others = ("held_out_model_share", "judge_share")
        names = (*of_others, "calibration_share", "test_share")
        if self.labels == "folds":
            refuse_idle(self, names, 'reward.labels = "shares"')
            return self
        used = names if self.held_out_model else names[2:]
        if sum(getattr(self, name) for name in used) >= 0.9:
            used_names = " + ".join(used)
            raise ValueError(f"{used_names} leave less than a tenth of the pairs for training")
        return self


class DpoConfig(LearningSection):
    """DPO instead of stages 2 and 3: the policy is trained on the preference pairs directly."""

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
        description="pairs per step; pairs of one prompt stay together",
    )
    num_epochs: float = Field(default=1.0, gt=0, le=MOST_EPOCHS)
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    max_tokens: int = Field(default=1024, ge=8)
    too_long: TooLong = Field(
        default="refuse", description="longer pairs: 'refuse', 'skip', or 'cut' the prompt"
    )
    held_out_share: float = Field(
        default=0.1, ge=0, lt=1, description="share of prompts held out for accuracy and margin"
    )
    eval_every: int = Field(default=50, ge=0)
    max_steps: int | None = Field(default=None, ge=1)


class SamplingConfig(Section):
    """How responses are drawn: by default from the full distribution, which RL requires."""

    temperature: float = Field(
        default=1.0, ge=0, description="divides logits; 0 = greedy, not allowed in rl"
    )
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="sample from the likeliest tokens with this total probability; 1 in rl",
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


# The reward models that the reward stage trains: their names in rl.rewards and evaluate.judge, and
# the part of the run folder that holds each.
REWARD_MODEL, HELD_OUT = "reward_model", "held_out_reward_model"
OF_REWARD_STAGE = {
    REWARD_MODEL: "reward",
    HELD_OUT: "reward_held_out",
    "judge_reward_model": "reward_judge",
}


@dataclass(frozen=True, kw_only=True)
class RewardPart:
    """One of several rewards: `source` names a judge, as in `evaluate.judge`."""

    weight: float
    source: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "0.5 * models/helpful", or "models/helpful" alone. Raises ValueError."""
        weight, star, source = text.partition("*")
        if not star or names_function(text.strip()):  # a function's argument may contain a star
            weight, star, source = "", "", text
        if not source.strip():
            raise ValueError(f"{text!r} is not of the form 'SOURCE' or 'WEIGHT * SOURCE'")
        value = float(weight) if star else 1.0
        if not math.isfinite(value) or value == 0:
            raise ValueError(f"{text!r} needs a finite weight other than 0")
        if abs(value) > LARGEST:
            raise ValueError(f"{text!r} has a weight beyond {LARGEST:,}")
        return cls(weight=value, source=source.strip())


def names_function(source: str) -> bool:
    """Whether it reads "package.module:function", optionally followed by (TEXT).

    Directory names with a colon are not supported.
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
        description="what RL maximises, each 'SOURCE' or 'WEIGHT * SOURCE': 'reward_model' is the"
        " reward stage's model; others are model directories, 'module:function', and built-in"
        " functions such as 'verifiable:numeric_answer'; several are added up",
    )
    reward_time_limit: float | None = Field(
        default=None, gt=0, description="most seconds a reward function may take for a batch"
    )
    held_out_reward_model: str | None = Field(
        default=None,
        description="model that chooses the checkpoint; none = the reward stage's second model, or"
        " the reward itself if that stage is not used",
    )
    prompts: str = Field(default=NOT_NAMED, description="file of prompts, or a world")
    format: str | None = _format()
    validation_prompts: str | None = Field(
        default=None, description="file of validation prompts; none = a share of the prompts"
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
        default="refuse", description="longer prompts: 'refuse', 'skip' or 'cut' them"
    )
    missing_eos: Literal["replace", "subtract", "off"] = Field(
        default="replace", description="what happens to the score of a response that was cut off"
    )
    missing_eos_penalty: float = Field(
        default=-1.0,
        description="the replacing score (lowered if it would be a prize), or the amount added",
    )
    kl_budget: float | None = Field(
        default=None, gt=0, description="stop at this KL (nats per sequence)"
    )
    choice_kl_coef: float = Field(
        default=0.02,
        ge=0,
        description="price of a nat of KL when the checkpoint is chosen, in standard deviations of"
        " the held-out score at step 0 (InstructGPT's 0.02); 0 = by the held-out score alone",
    )
    patience: int = Field(default=3, ge=1, description="evaluations without a better checkpoint")
    eval_every: int = Field(default=10, ge=1)
    num_printed_samples: int = Field(
        default=8, ge=1, description="validation answers saved per evaluation"
    )

    @field_validator("rewards", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        """One reward may be given without brackets."""
        return (value,) if isinstance(value, str) else value

    @field_validator("rewards")
    @classmethod
    def _know_each_reward(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for source in (RewardPart.parse(text).source for text in value):
            if source in OF_REWARD_STAGE and source != REWARD_MODEL:
                raise ValueError(
                    f"RL must not use {source}: it chooses the checkpoint or judges the run, and"
                    " must stay independent"
                )
        return value

    @model_validator(mode="after")
    def _limit_functions_alone(self) -> Self:
        if not any(map(names_function, self.reward_sources)):
            refuse_idle(self, ("reward_time_limit",), "a reward function")
        return self

    @model_validator(mode="after")
    def _draw_from_the_whole_distribution(self) -> Self:
        """Updates use full probabilities, which a cut changes: docs/algorithms.md#ppo-12."""
        if self.sampling.temperature == 0 or self.sampling.top_p < 1:
            raise ValueError(
                "RL samples from the full distribution: rl.sampling.temperature must be above 0 and"
                " rl.sampling.top_p must be 1 (evaluate.sampling may differ)"
            )
        return self

    @property
    def reward_sources(self) -> tuple[str, ...]:
        """The sources of the rewards, without their weights."""
        return tuple(RewardPart.parse(text).source for text in self.rewards)

    @property
    def uses_reward_stage(self) -> bool:
        """Whether this run's own reward model is part of the reward."""
        return REWARD_MODEL in self.reward_sources


class EvaluateConfig(Section):
    """The honest comparison of the SFT model with the policy, on held-out prompts."""

    base: str | None = Field(
        default="model",
        description="model directory for a third column of answers; 'model' = model.path, unless it"
        " is a world's; none = no third column",
    )
    baseline: str | None = Field(
        default=None, description="model directory; none = the SFT stage's model"
    )
    policy: str | None = Field(
        default=None,
        description="model directory; none = the RL stage's model, or the DPO stage's if only that"
        " has run",
    )
    prompts: str = Field(default=NOT_NAMED, description="file of prompts, or a world")
    format: str | None = _format()
    judge: str | None = Field(
        default=None,
        description="a judge, named as in rl.rewards, or a world for its gold judge; none = the"
        " most independent reward model of the run: 'judge_reward_model', 'held_out_reward_model',"
        " 'reward_model'",
    )
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    max_prompts: int = Field(default=300, ge=1, description="prompts per held-out set")
    too_long: TooLong = Field(
        default="refuse",
        description="prompts that leave no room for an answer: 'refuse', 'skip' or 'cut' them",
    )
    num_samples_shown: int = Field(
        default=20, ge=1, description="side-by-side answers in the report"
    )


class ComparisonsConfig(Section):
    """How a world's annotators compare the answers of the SFT model."""

    num_prompts: int = Field(
        default=1200, ge=8, le=MOST_AT_ONCE, description="prompts whose answers are compared"
    )
    responses_per_prompt: int = Field(default=4, ge=2, le=9)
    pairs_per_prompt: int = Field(default=4, ge=1, le=1000)
    overlap_share: float = Field(
        default=0.2, ge=0, le=1, description="share of pairs judged by all annotators"
    )
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)

    @model_validator(mode="after")
    def _draw_answers_that_differ(self) -> Self:
        if self.sampling.temperature == 0:
            raise ValueError(
                "comparisons.sampling.temperature = 0 gives equal answers: nothing to compare"
            )
        return self
