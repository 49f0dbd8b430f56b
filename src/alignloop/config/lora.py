"""Low-rank adapters: train a few million numbers beside weights that stay as they are."""

from typing import Self

from pydantic import Field, model_validator

from alignloop.config.section import Section, refuse_idle


class LoraConfig(Section):
    """Adapters (LoRA) in place of full fine-tuning, in every training stage.

    A layer's matrix W becomes W + alpha / rank * B A, where A and B are trained and W is not.
    """

    rank: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="columns of B and rows of A; none = train all weights",
    )
    alpha: float | None = Field(
        default=None, gt=0, description="their product counts alpha / rank; none = 2 * rank"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="of what A reads; always 0 in RL and in scoring"
    )
    target_modules: tuple[str, ...] = Field(
        default=(),
        description="linear layers that get an adapter, by the end of their name; [] = all in the"
        " trunk",
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
        """Whether adapters are trained at all."""
        return self.rank is not None

    @property
    def scaling(self) -> float:
        """What alpha / rank is; 2 where no alpha is given."""
        assert self.rank is not None
        return (2 * self.rank if self.alpha is None else self.alpha) / self.rank


ALL_WEIGHTS = LoraConfig()
