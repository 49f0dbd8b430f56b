"""A recipe: all settings of a run."""

from pydantic import Field

from alignloop.config.lora import LoraConfig
from alignloop.config.section import Section
from alignloop.config.stages import (
    ComparisonsConfig,
    DataConfig,
    DpoConfig,
    EvaluateConfig,
    ModelConfig,
    RewardConfig,
    RlConfig,
    SftConfig,
)


class Recipe(Section):
    """All settings of a run; a recipe's TOML file has those that differ from the defaults."""

    name: str = Field(
        default="run", pattern=r"^\.*[\w-][\w.-]*$", description="the run folder is runs/<name>"
    )
    seed: int = Field(default=0, ge=0)
    skip_refused: bool = Field(
        default=False,
        description="skip rows that cannot be read, and write them to refused.jsonl",
    )
    num_threads: int | None = Field(default=None, ge=1, description="CPU threads; none = all cores")
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    lora: LoraConfig = Field(default_factory=LoraConfig)
    sft: SftConfig = Field(default_factory=SftConfig)
    reward: RewardConfig = Field(default_factory=RewardConfig)
    dpo: DpoConfig = Field(default_factory=DpoConfig)
    rl: RlConfig = Field(default_factory=RlConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    comparisons: ComparisonsConfig = Field(default_factory=ComparisonsConfig)
