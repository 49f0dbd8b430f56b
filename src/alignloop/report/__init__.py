"""From a run's folder to one HTML page. Only reads files; no torch."""

from alignloop.report.page import write_report
from alignloop.report.plots import save_curves_png

__all__ = ["save_curves_png", "write_report"]
