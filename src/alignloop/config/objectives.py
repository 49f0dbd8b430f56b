"""The settings of what DPO minimises: a union that `name` tells apart."""

from typing import Annotated, Any, Literal

from pydantic import Field

from alignloop.config.section import Section, named_unless


class ObjectiveSection(Section):
    """What every objective sets."""

    name: Any  # a literal of each objective's own; here, so that it stands first
    beta: float = Field(default=0.1, gt=0, description="price of leaving the reference")


class DpoObjective(ObjectiveSection):
    """Direct preference optimisation (Rafailov et al. 2023; conservative: Mitchell 2023)."""

    name: Literal["dpo"] = "dpo"
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="share of judgements taken to be wrong"
    )


class IpoObjective(ObjectiveSection):
    """IPO: the log ratios are to differ by 1 / (2 beta), and by no more (Azar et al. 2023)."""

    name: Literal["ipo"] = "ipo"


# A new objective is one more class here and one file in dpo/objectives/ with the name's function.
Objective = Annotated[DpoObjective | IpoObjective, Field(discriminator="name"), named_unless("dpo")]
