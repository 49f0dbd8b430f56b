"""All figures of the lead's screens, computed together and ready for JSON."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from alignloop.label.labels.project_labels import ProjectLabels
from alignloop.label.labels.votes import votes_of
from alignloop.label.quality.agreement import (
    Agreement,
    Confusion,
    agreement,
    by_annotator,
    by_category,
    by_models,
    by_pair,
    confusions,
)
from alignloop.label.quality.annotators import Quality, annotator_quality
from alignloop.label.quality.forecast import Forecast, forecast
from alignloop.label.quality.models import Standing, model_ranking


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """Agreement overall and by slice, annotators, models, and the forecast."""

    overall: Agreement
    by_annotator: list[Agreement]
    by_category: list[Agreement]
    by_models: list[Agreement]
    by_pair: list[Agreement]
    confusions: list[Confusion]
    annotators: list[Quality]
    models: list[Standing]
    forecast: Forecast


def quality_report(labels: ProjectLabels, now: datetime) -> QualityReport:
    """The full report. Gold questions and repeats count only in `annotators`."""
    votes = votes_of(labels.about_answers)
    return QualityReport(
        overall=agreement("", votes),
        by_annotator=by_annotator(votes),
        by_category=by_category(votes),
        by_models=by_models(votes),
        by_pair=by_pair(votes),
        confusions=confusions(votes),
        annotators=annotator_quality(labels),
        models=model_ranking(labels),
        forecast=forecast(labels, now),
    )


def to_json(value: Any) -> Any:
    """A frozen row, or a value in one, as JSON; a non-finite number becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(one) for one in cast("Sequence[Any]", value)]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
