"""Column types of `datasets`: values stored as JSON texts, and classes stored as numbers."""

import json
from collections.abc import Mapping
from typing import cast

from alignloop.data.containers.limits import MAX_NESTING, nests_too_deep
from alignloop.data.narrow import Json

Features = dict[str, Json]
_KEPT_OTHERWISE = ("Json", "ClassLabel")


def features_of(metadata: Mapping[bytes, bytes] | None) -> Features:
    """The columns whose stored values need decoding, with their features.

    `datasets` types a column as Json if its values are of several kinds, also within lists and
    objects, and as ClassLabel if they are names. The schema of a Parquet or Arrow file records
    this; files from other programs have no such record.
    """
    try:
        stored = json.loads((metadata or {})[b"huggingface"])
        return kept_otherwise(stored["info"]["features"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def kept_otherwise(features: Features) -> Features:
    """The features that need decoding."""
    return {name: feature for name, feature in features.items() if _is_kept_otherwise(feature)}


def _is_kept_otherwise(feature: Json) -> bool:
    if isinstance(feature, dict):
        kind = feature.get("_type")
        return (isinstance(kind, str) and kind in _KEPT_OTHERWISE) or any(
            _is_kept_otherwise(inner) for inner in feature.values()
        )
    return isinstance(feature, list) and any(_is_kept_otherwise(inner) for inner in feature)


def as_meant(row: dict[str, Json], features: Features) -> dict[str, Json]:
    """The row with decoded values; raises ValueError for broken JSON."""
    if not features:
        return row
    return row | {key: _meant(row.get(key), feature) for key, feature in features.items()}


def _meant(value: Json, feature: Json) -> Json:
    named = isinstance(feature, dict | list)
    if value is None or not named or not _is_kept_otherwise(feature):
        return value
    if isinstance(feature, list):  # [feature]: a list, as older versions write it
        items = cast("list[Json]", value)  # what is no list there is damage, and an error
        return [_meant(item, feature[0]) for item in items] if len(feature) == 1 else value
    kind = feature.get("_type")
    if isinstance(kind, str) and kind in _KEPT_OTHERWISE:
        if isinstance(value, list):  # a list of objects, stored as an object of lists
            return [_meant(item, feature) for item in value]
        return _of_json(value) if kind == "Json" else _name_of(value, feature.get("names"))
    inner = feature["feature"] if isinstance(kind, str) and "feature" in feature else feature
    if isinstance(value, list):
        return [_meant(item, inner) for item in value]
    if isinstance(value, dict) and isinstance(inner, dict):
        return {key: _meant(item, inner.get(key)) for key, item in value.items()}
    return value


def _of_json(value: Json) -> Json:
    found: Json = json.loads(value) if isinstance(value, str | bytes) else value
    if nests_too_deep(found):
        raise ValueError(f"nested more than {MAX_NESTING} deep")
    return found


def _name_of(value: Json, names: Json) -> Json:
    """The name of a class; `datasets` writes -1 for none."""
    if not isinstance(names, list) or isinstance(value, bool) or not isinstance(value, int):
        return value
    # a missing class must not become the last name of the list
    if value == -1:
        return None
    return names[value] if 0 <= value < len(names) else value
