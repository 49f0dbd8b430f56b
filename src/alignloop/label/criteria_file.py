"""A project's criteria from a file: `alignloop label project add NAME --criteria FILE.json`."""

import argparse
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alignloop.data.files import explain
from alignloop.errors import UserError
from alignloop.label.store.criteria import Asked
from alignloop.label.store.tasks import LabelSchema


def read_criteria(path: str | Path) -> dict[str, Any]:
    """The fields of a file: a list of criteria, or an object with the keys of `Asked`.

    Raises UserError for a file that is missing or not JSON, and for unknown keys.
    """
    try:
        found: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:  # also text that is not UTF-8
        problem = f"this is not JSON: {error}"
        raise UserError(problem, where=str(path), fix="write it as UTF-8 JSON") from error
    fields: dict[str, Any] = {"criteria": found} if isinstance(found, list) else found
    if not isinstance(found, list | dict) or not set(fields) <= set(Asked.model_fields):
        problem = "this is neither a list of criteria nor an object of known keys"
        raise UserError(problem, where=str(path), fix=f"use {', '.join(Asked.model_fields)}")
    return fields


def schema_of_options(options: argparse.Namespace) -> LabelSchema:
    """What a new project asks for, from the options of `project add`; raises UserError."""
    fields: dict[str, Any] = read_criteria(options.criteria) if options.criteria else {}
    fields |= {"kind": options.kind, "ratings": options.ratings}
    fields |= {"strength": not options.no_strength}
    given = {"rationale": options.rationale, "rationale_min": options.rationale_min}
    fields |= {key: value for key, value in given.items() if value is not None}
    if options.guideline_first:
        fields["guideline_first"] = True
    try:
        return LabelSchema.model_validate(fields)
    except ValidationError as error:
        known = "key, name_en, name_zh, hint_en, hint_zh, levels (5 or 10) and required"
        fix = f"a criterion has {known}"
        raise UserError(explain(error), where=options.criteria or "--rationale", fix=fix) from error
