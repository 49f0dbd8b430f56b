"""What all settings share: frozen, unknown keys refused, every field described."""

from typing import Any, cast

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A group of settings: one table of the recipe's TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _none_by_name(cls, values: Any) -> Any:
        """TOML has no null: the text "none" stands for it."""
        if isinstance(values, dict):
            given = cast("dict[str, Any]", values)
            return {key: None if value == "none" else value for key, value in given.items()}
        return values
