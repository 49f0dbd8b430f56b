"""What `datasets` says of its columns: values kept as JSON texts, and classes kept as numbers."""

import json
from typing import Any

from alignloop.data.containers.limits import MAX_NESTING, nests_too_deep

Features = dict[str, Any]
_KEPT_OTHERWISE = ("Json", "ClassLabel")


def features_of(metadata: Any) -> Features:
    """The columns whose values are kept otherwise than they are meant, with their features.

    `datasets` types columns as Json where values are of several kinds, also within lists and
    objects, and as ClassLabel where they are names. The schema of a Parquet or Arrow file says so;
    one that another program wrote says nothing.
    """
    try:
        told = json.loads((metadata or {})[b"huggingface"])
        return kept_otherwise(told["info"]["features"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def kept_otherwise(features: Features) -> Features:
    """Those of all features in which something is to be done."""
    return {name: feature for name, feature in features.items() if _is_kept_otherwise(feature)}


def _is_kept_otherwise(feature: Any) -> bool:
    if isinstance(feature, dict):
        told = feature.get("_type")
        return (isinstance(told, str) and told in _KEPT_OTHERWISE) or any(
            _is_kept_otherwise(inner) for inner in feature.values()
        )
    return isinstance(feature, list) and any(_is_kept_otherwise(inner) for inner in feature)


def as_meant(row: dict[str, Any], features: Features) -> dict[str, Any]:
    """The row with the values that are meant; raises ValueError for broken JSON."""
    if not features:
        return row
    return row | {key: _meant(row.get(key), feature) for key, feature in features.items()}


def _meant(value: Any, feature: Any) -> Any:
    if value is None or not _is_kept_otherwise(feature):
        return value
    if isinstance(feature, list):  # [feature]: a list, as older versions write it
        return [_meant(item, feature[0]) for item in value] if len(feature) == 1 else value
    kind = feature.get("_type")
    if isinstance(kind, str) and kind in _KEPT_OTHERWISE:
        if isinstance(value, list):  # a list of objects, kept as an object of lists
            return [_meant(item, feature) for item in value]
        return _of_json(value) if kind == "Json" else _name_of(value, feature.get("names"))
    inner = feature["feature"] if isinstance(kind, str) and "feature" in feature else feature
    if isinstance(value, list):
        return [_meant(item, inner) for item in value]
    if isinstance(value, dict) and isinstance(inner, dict):
        return {key: _meant(item, inner.get(key)) for key, item in value.items()}
    return value


def _of_json(value: Any) -> Any:
    found = json.loads(value) if isinstance(value, str | bytes) else value
    if nests_too_deep(found):
        raise ValueError(f"nested more than {MAX_NESTING} deep")
    return found


def _name_of(value: Any, names: Any) -> Any:
    """The name of a class; -1 is how `datasets` writes that there is none."""
    if not isinstance(names, list) or isinstance(value, bool) or not isinstance(value, int):
        return value
    if value == -1:
        return None
    return names[value] if 0 <= value < len(names) else value
