"""Tables, figures and the HTML page made of results.json (stage 7)."""

from deepspeaker.report.densities import Densities, plot_densities, score_densities
from deepspeaker.report.det import plot_det
from deepspeaker.report.drawing import figure_kind
from deepspeaker.report.embedding_map import EmbeddingMap, chosen_utterances, embedding_map, plot_maps
from deepspeaker.report.enrolment import enrolment_curves, plot_enrolment
from deepspeaker.report.intervals import plot_intervals
from deepspeaker.report.page import Findings, results_page
from deepspeaker.report.stage import draw_training, write_report
from deepspeaker.report.summary import summary
from deepspeaker.report.tables import Table, whose_speakers
from deepspeaker.report.text import aligned, results_markdown, results_table
from deepspeaker.report.training_curves import plot_training

__all__ = [
    "Densities",
    "EmbeddingMap",
    "Findings",
    "Table",
    "aligned",
    "chosen_utterances",
    "draw_training",
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
    "summary",
    "whose_speakers",
    "write_report",
]
