"""The settings of DPO's objectives: a union, discriminated by `name`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from alignloop.config.section import Section, named_unless


class ObjectiveSection(Section):
    """The settings of every objective."""

    name: Any  # each objective has its own literal; declared here to come first in the tables
    beta: float = Field(default=0.1, gt=0, description="penalty for leaving the reference")


class DpoObjective(ObjectiveSection):
    """Direct preference optimisation (Rafailov et al. 2023; conservative: Mitchell 2023)."""

    name: Literal["dpo"] = "dpo"
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="assumed share of wrong judgements"
    )


class IpoObjective(ObjectiveSection):
    """IPO: log ratios should differ by 1 / (2 beta) and no more (Azar et al. 2023)."""

    name: Literal["ipo"] = "ipo"


# A new objective is one more class here and one file in dpo/objectives/ with its function.
Objective = Annotated[DpoObjective | IpoObjective, Field(discriminator="name"), named_unless("dpo")]
