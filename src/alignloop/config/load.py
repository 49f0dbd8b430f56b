"""From a TOML file and command-line overrides to a checked `Recipe`, with readable errors."""

import difflib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from alignloop.config.packaged import recipe_file
from alignloop.config.recipe import Recipe
from alignloop.config.section import Section, tables_in, variants_in
from alignloop.errors import UserError


def load_recipe(path: str | Path, overrides: dict[str, str] | None = None) -> Recipe:
    """Read `path` and apply dotted overrides; see `packaged.recipe_file` for what a path may be.

    `overrides` maps "rl.learning_rate" to its text as typed. Raises UserError for a missing file,
    broken TOML, an unknown setting (suggesting the nearest known one) and a value out of range.
    """
    file = recipe_file(path)
    settings = read_toml(file)
    # runs of a copied folder do not mix with those of the original
    settings.setdefault("name", file.parent.name if file.name == "recipe.toml" else file.stem)
    for key, text in (overrides or {}).items():
        _set_dotted(settings, key, _parse_value(text))
    return check_recipe(settings, where=str(file))


def read_toml(file: Path) -> dict[str, Any]:
    """The tables of a TOML file; raises UserError if it cannot be parsed."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"not valid UTF-8: {error}", where=str(file)) from None
    except ValueError as error:  # also an integer of thousands of digits, which Python rejects
        raise UserError(f"not valid TOML: {error}", where=str(file)) from None
    except RecursionError:
        problem = "not a recipe: values are nested too deep"
        raise UserError(problem, where=str(file), fix="settings are one table deep") from None


def kept_recipe(file: Path) -> Recipe | None:
    """The settings saved in a run folder; settings newer than its release get their defaults.

    Settings that no longer exist are ignored. None if there is no such file.
    """
    if not file.is_file():
        return None
    settings = read_toml(file)
    if settings.get("reward"):  # releases before this setting used each label only once
        settings["reward"] = {"labels": "shares", **settings["reward"]}
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        for item in error.errors():
            if item["type"] == "extra_forbidden":
                _remove(settings, item["loc"])
    return check_recipe(settings, where=str(file))


def _remove(settings: dict[str, Any], location: tuple[str | int, ...]) -> None:
    """Remove one setting; pydantic adds the union member's name to the location, TOML does not."""
    *tables, last = location
    found = settings
    for table in map(str, tables):
        inner = found.get(table)
        found = cast("dict[str, Any]", inner) if isinstance(inner, dict) else found
    found.pop(str(last), None)


def check_recipe(settings: dict[str, Any], *, where: str = "settings") -> Recipe:
    """A `Recipe` from nested dictionaries; raises UserError naming every bad key and value."""
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        problems = [_explain(dict(item)) for item in error.errors()]
        raise UserError("; ".join(problems), where=where) from None


def to_toml(recipe: Recipe) -> str:
    """The whole recipe as TOML text, defaults included; unset values are written "none"."""
    lines: list[str] = []
    _write_table(recipe.model_dump(mode="json"), (), lines)
    return "\n".join(lines).strip() + "\n"


def _parse_value(text: str) -> Any:
    """Plain text for the setting's own type to parse; "none" is None, tables and lists are TOML."""
    if text.lower() == "none":
        return None
    if text[:1] not in ("{", "[", '"', "'"):
        return text  # `--name 2026-01-05` is a name, not a date
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _set_dotted(settings: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for depth, table in enumerate(tables):
        inner: object = settings.setdefault(table, {})
        if not isinstance(inner, dict):
            known = ".".join(tables[: depth + 1])
            raise UserError(f"{known} is a single value, so {key} cannot be set")
        settings = cast("dict[str, Any]", inner)
    settings[last] = value


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """The union member that a recipe names: "grpo" at "rl.algorithm"."""

    path: str
    name: str
    variants: dict[str, type[Section]]

    def settings(self, name: str) -> list[str]:
        """The dotted setting names of one member."""
        return known_settings(self.variants[name], f"{self.path}.")

    def elsewhere(self, key: str) -> list[str]:
        """The members that do have this setting."""
        return [name for name in self.variants if key in self.settings(name)]


def _explain(error: dict[str, Any]) -> str:
    """One pydantic error in plain words."""
    key, choice = _place(error["loc"])
    if error["type"] == "extra_forbidden":
        if choice and (owners := choice.elsewhere(key)):
            wanted = " or ".join(f'"{name}"' for name in owners)
            return f'{key} is a setting of {wanted}, but {choice.path}.name = "{choice.name}"'
        return f"unknown setting {key!r}{_suggest(key, choice)}"
    if error["type"] == "union_tag_invalid":
        allowed = error["ctx"]["expected_tags"].replace(", ", " or ")
        return f"{key}.name = {_shown(error['ctx']['tag'])}: input should be {allowed}"
    value = error.get("input")
    shown = "" if isinstance(value, dict) else f" = {_shown(value)}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}{shown}: {message[0].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    """A value as given, shortened to fit on a screen."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; lists in lists
        return "this value"
    return text if len(text) <= 200 else f"{text[:100]}... ({len(text)} characters)"


def _place(location: tuple[str | int, ...]) -> tuple[str, _Choice | None]:
    """The key as written in TOML: pydantic inserts the name of a union's member."""
    keys: list[str] = []
    choice: _Choice | None = None
    section: type[Section] | None = Recipe
    variants: dict[str, type[Section]] = {}
    for part in map(str, location):
        if part in variants:
            choice = _Choice(path=".".join(keys), name=part, variants=variants)
            section, variants = variants[part], {}
            continue
        keys.append(part)
        field = section.model_fields.get(part) if section else None
        section = next(iter(tables_in(field)), None) if field else None
        variants = variants_in(field) if field else {}
    return ".".join(keys), choice


def _suggest(key: str, choice: _Choice | None) -> str:
    known = known_settings(Recipe)
    if choice is not None:  # what another member has would be refused again
        own, below = choice.settings(choice.name), f"{choice.path}."
        known = [name for name in known if name in own or not name.startswith(below)]
    section, last = key.split(".")[0], key.rsplit(".", 1)[-1]
    tails = {name.rsplit(".", 1)[-1]: name for name in known}
    elsewhere = [name for name in known if name.endswith(f".{last}")]  # right name, wrong place
    close_by = [name for name in elsewhere if key == last or name.startswith(f"{section}.")]
    # a near name in the right section beats the same name elsewhere, which beats a like last word
    near = (
        difflib.get_close_matches(key, close_by, n=1, cutoff=0)
        or difflib.get_close_matches(key, known, n=1)
        or difflib.get_close_matches(key, elsewhere, n=1, cutoff=0)
        or [tails[tail] for tail in difflib.get_close_matches(last, list(tails), n=1)]
    )
    return f"; did you mean {near[0]!r}?" if near else "; see `alignloop settings`"


def known_settings(section: type[Section], prefix: str = "") -> list[str]:
    """The dotted names of all settings in a section."""
    names: list[str] = []
    for name, field in section.model_fields.items():
        names.append(prefix + name)
        for table in tables_in(field):
            names += known_settings(table, f"{prefix}{name}.")
    return list(dict.fromkeys(names))  # members of a union share some settings


def describe_settings() -> str:
    """All settings with default and meaning, one per line, for `alignloop settings`."""
    lines: list[str] = []
    _describe(Recipe(), "", lines)
    return "\n".join(lines)


def _describe(section: BaseModel, prefix: str, lines: list[str]) -> None:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            others = [t() for t in variants_in(field).values() if not isinstance(value, t)]
            for table in (value, *others):
                lines.append("")
                _describe(table, f"{prefix}{name}.", lines)
        else:
            meaning = f"  # {field.description}" if field.description else ""
            lines.append(f"{prefix}{name} = {_toml_value(value)}{meaning}")


def _write_table(table: dict[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    if path:
        lines += ["", f"[{'.'.join(path)}]"]
    inner: dict[str, dict[str, Any]] = {k: v for k, v in table.items() if isinstance(v, dict)}
    for key, value in table.items():
        # plain values first: TOML has no way back to an outer table
        if key not in inner:
            lines.append(f"{key} = {_toml_value(value)}")
    for key, value in inner.items():
        _write_table(value, (*path, key), lines)


def _toml_value(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # JSON escapes like TOML, except for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_value, cast('list[Any]', value)))}]"
    return repr(value)
