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

# No setting makes sense beyond these; a larger loop would never end, or run out of memory.
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
        """Numbers must be finite and bounded; texts must be UTF-8 and usable as file names."""
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
        """TOML has no null: the text "none" is used instead."""
        if isinstance(values, dict):
            given = cast("dict[str, Any]", values)
            return {key: None if value == "none" else value for key, value in given.items()}
        return values


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("a setting cannot contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not valid UTF-8") from None


def refuse_idle(section: Section, names: tuple[str, ...], without: str) -> None:
    """Raise ValueError if a setting that differs from its default has no effect.

    For settings of a feature that was never turned on. Not for details of one that a switch turned
    off (reward.held_out_model = false): a recipe may well have set them before.
    """
    # a setting without effect is a misunderstanding: say so before hours of training
    for name in names:
        if getattr(section, name) != type(section).model_fields[name].get_default():
            raise ValueError(f"{name} = {getattr(section, name)} has no effect without {without}")


def named_unless(default: str) -> BeforeValidator:
    """The default member of a union discriminated by `name`, for a recipe that names none."""

    def name_it(given: Any) -> Any:
        if isinstance(given, dict):
            return {"name": default, **cast("dict[str, Any]", given)}
        return given

    return BeforeValidator(name_it)


def tables_in(field: FieldInfo) -> list[type[Section]]:
    """The sections that a field may hold: one, an optional one, or all members of a union."""
    parts = (field.annotation, *get_args(field.annotation))
    return [part for part in parts if isinstance(part, type) and issubclass(part, Section)]


def variants_in(field: FieldInfo) -> dict[str, type[Section]]:
    """The sections of a union by `name`; {} if the field is not a union."""
    if field.discriminator is None:
        return {}
    return {table.model_fields["name"].default: table for table in tables_in(field)}
