"""What all settings share: frozen, unknown keys refused, every field described."""

from typing import Any, cast, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

# No setting means anything beyond these; a loop over more would never end, or run out of memory.
LARGEST, LARGEST_SEED = 1_000_000_000, 2**63 - 1
_SEEDS = ("seed", "split_seed")


class Section(BaseModel):
    """A group of settings: one table of the recipe's TOML file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @field_validator("*")
    @classmethod
    def _within_reason(cls, value: Any, info: ValidationInfo) -> Any:
        """Numbers are finite and bounded; texts can be file names and be written as UTF-8."""
        several = cast("tuple[Any, ...]", value if isinstance(value, tuple) else (value,))
        for one in several:
            if isinstance(one, str):
                _check_text(one)
            elif isinstance(one, int | float):
                limit = LARGEST_SEED if info.field_name in _SEEDS else LARGEST
                if abs(one) > limit:
                    raise ValueError(f"a number beyond {limit:,} has no meaning here")
        return cast("Any", value)

    @model_validator(mode="before")
    @classmethod
    def _none_by_name(cls, values: Any) -> Any:
        """TOML has no null: the text "none" stands for it."""
        if isinstance(values, dict):
            given = cast("dict[str, Any]", values)
            return {key: None if value == "none" else value for key, value in given.items()}
        return values


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("a NUL character cannot stand in a setting")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("this is no UTF-8 text") from None


def refuse_idle(section: Section, names: tuple[str, ...], without: str) -> None:
    """Raise ValueError where a setting that is not at its default changes nothing as things are.

    For settings of what was never asked for. Not for details of what somebody has turned off by its
    switch (reward.held_out_model = false): a recipe may well have named them before.
    """
    for name in names:
        if getattr(section, name) != type(section).model_fields[name].get_default():
            raise ValueError(f"{name} = {getattr(section, name)} changes nothing without {without}")


def named_unless(default: str) -> BeforeValidator:
    """Of a union that `name` tells apart: the member of a recipe that names none."""

    def name_it(given: Any) -> Any:
        if isinstance(given, dict):
            return {"name": default, **cast("dict[str, Any]", given)}
        return given

    return BeforeValidator(name_it)


def tables_in(field: FieldInfo) -> list[type[Section]]:
    """The sections that a field may hold: one, one that may be none, or all of a union."""
    parts = (field.annotation, *get_args(field.annotation))
    return [part for part in parts if isinstance(part, type) and issubclass(part, Section)]


def variants_in(field: FieldInfo) -> dict[str, type[Section]]:
    """The sections of a union by the `name` that tells them apart; {} where there is no union."""
    if field.discriminator is None:
        return {}
    return {table.model_fields["name"].default: table for table in tables_in(field)}
