"""Low-rank adapters: train a few million parameters on top of frozen weights."""

from typing import Self

from pydantic import Field, model_validator

from alignloop.config.section import Section, refuse_idle


class LoraConfig(Section):
    """Adapters (LoRA) instead of full fine-tuning, in every training stage.

    A weight matrix W becomes W + alpha / rank * B A; A and B are trained, W is frozen.
    """

    rank: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="columns of B and rows of A; none = train all weights",
    )
    alpha: float | None = Field(
        default=None, gt=0, description="B A is scaled by alpha / rank; none = 2 * rank"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="dropout on A's input; always 0 in RL and in scoring"
    )
    target_modules: tuple[str, ...] = Field(
        default=(),
        description="name endings of the linear layers that get an adapter; [] = all in the trunk",
    )
    load_in_4bit: bool = Field(
        default=False, description="keep W in 4 bits (QLoRA); needs a GPU and bitsandbytes"
    )

    @model_validator(mode="after")
    def _need_a_rank(self) -> Self:
        if self.rank is None:
            names = ("alpha", "dropout", "target_modules", "load_in_4bit")
            refuse_idle(self, names, "lora.rank")
        return self

    @property
    def on(self) -> bool:
        """Whether adapters are trained."""
        return self.rank is not None

    @property
    def scaling(self) -> float:
        """alpha / rank; 2 if alpha is not set."""
        assert self.rank is not None
        return (2 * self.rank if self.alpha is None else self.alpha) / self.rank


ALL_WEIGHTS = LoraConfig()
