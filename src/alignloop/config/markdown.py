"""docs/configuration.md, generated from the settings: `alignloop settings --markdown`."""

import json
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from alignloop.config.recipe import Recipe
from alignloop.config.section import tables_in, variants_in
from alignloop.config.stages import NOT_NAMED

HEAD = """\
# Configuration

This file is printed by `alignloop settings --markdown`, and a test compares the two. Edit the
descriptions in `src/alignloop/config/` and print it again.

A recipe is a TOML file with the settings that differ from the defaults below.
`alignloop run my-recipe` reads `my-recipe/recipe.toml`; `alignloop run my.toml` reads that file.
Settings on the command line override it: `--rl.num_steps 20` or `--rl.num_steps=20`. "none" means
no value. Tables are written as TOML: `--rl.algorithm.adaptive_kl '{target = 6.0}'`. If a table has
several variants, `name` selects one: `--rl.algorithm.name grpo`. A setting marked "required" has
no default, and a stage that reads it does not start without it. A data source can be a world,
by its name, such as `playground`. An unknown setting is an error that suggests the nearest known
one. The run folder keeps the resolved settings in config.toml, and the settings of a run folder
are fixed once a stage has begun. Paths are relative to the folder in which the command runs."""

LIMITS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def settings_markdown() -> str:
    """All settings as Markdown, one table per section of a recipe."""
    lines = [HEAD]
    _document(Recipe.model_validate({}), "", lines)
    return "\n".join(lines)


def _document(section: BaseModel, path: str, lines: list[str], choice: str = "") -> None:
    lines += ["", f"## {path or 'The recipe itself'}{choice}", "", type(section).__doc__ or "", ""]
    lines += ["| setting | value | default | meaning |", "|---|---|---|---|"]
    below: list[tuple[BaseModel, str, str]] = []
    for name, field in type(section).model_fields.items():
        key, value = f"{path}.{name}".lstrip("."), getattr(section, name)
        variants = variants_in(field)
        if variants:
            below += [(t(), key, f', name = "{name}"') for name, t in variants.items()]
        else:
            below += [(table(), key, "") for table in tables_in(field)]
        if not isinstance(value, BaseModel):
            meaning = (field.description or "").replace("<", "\\<")  # Markdown is no HTML
            lines.append(f"| `{key}` | {_allowed(field)} | {_default(value)} | {meaning} |")
    for table, key, which in below:
        _document(table, key, lines, which)


def _allowed(field: FieldInfo) -> str:
    """The allowed values: "integer >= 1, or none"."""
    found = [
        f"{sign} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in LIMITS.items()
        if getattr(limit, name, None) is not None
    ]
    options = get_args(field.annotation)
    optional = NoneType in options
    kind = _kind(options[0] if optional else field.annotation)
    return " ".join([kind, " and ".join(found)]).strip() + ", or none" * optional


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{json.dumps(value)}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"a list of {_kind(get_args(annotation)[0])}s"
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(annotation, "a table")


def _default(value: Any) -> str:
    if value == NOT_NAMED:
        return "required"
    return "none" if value is None else f"`{json.dumps(value)}`"
