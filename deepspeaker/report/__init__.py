"""What was reached, on paper: results.json, its tables, figures and the page."""

from deepspeaker.report.densities import Densities, plot_densities, score_densities
from deepspeaker.report.det import P_TARGETS, plot_det
from deepspeaker.report.drawing import figure_kind
from deepspeaker.report.embedding_map import EmbeddingMap, chosen_utterances, embedding_map, plot_maps
from deepspeaker.report.enrolment import enrolment_curves, plot_enrolment
from deepspeaker.report.intervals import plot_intervals
from deepspeaker.report.page import Findings, results_page
from deepspeaker.report.results import (
    CONDITION_DRAWS,
    Comparison,
    Condition,
    EnrolmentResult,
    OperatingPoint,
    Results,
    SystemResult,
    TrialListInfo,
)
from deepspeaker.report.summary import summary
from deepspeaker.report.tables import Table, shown_rate, whose_speakers
from deepspeaker.report.text import aligned, results_markdown, results_table
from deepspeaker.report.training_curves import plot_training

__all__ = [
    "CONDITION_DRAWS",
    "P_TARGETS",
    "Comparison",
    "Condition",
    "Densities",
    "EmbeddingMap",
    "EnrolmentResult",
    "Findings",
    "OperatingPoint",
    "Results",
    "SystemResult",
    "Table",
    "TrialListInfo",
    "aligned",
    "chosen_utterances",
    "embedding_map",
    "enrolment_curves",
    "figure_kind",
    "plot_densities",
    "plot_det",
    "plot_enrolment",
    "plot_intervals",
    "plot_maps",
    "plot_training",
    "results_markdown",
    "results_page",
    "results_table",
    "score_densities",
    "shown_rate",
    "summary",
    "whose_speakers",
]
