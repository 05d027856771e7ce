"""What was reached, on paper: results.json, its tables and plots."""

from deepspeaker.report.page import results_page
from deepspeaker.report.plots import plot_det, plot_training
from deepspeaker.report.results import (
    Comparison,
    Condition,
    EnrolmentResult,
    OperatingPoint,
    Results,
    SystemResult,
    TrialListInfo,
)
from deepspeaker.report.summary import summary
from deepspeaker.report.table import results_markdown, results_table, shown_rate

__all__ = [
    "Comparison",
    "Condition",
    "EnrolmentResult",
    "OperatingPoint",
    "Results",
    "SystemResult",
    "TrialListInfo",
    "plot_det",
    "plot_training",
    "results_markdown",
    "results_page",
    "results_table",
    "shown_rate",
    "summary",
]
