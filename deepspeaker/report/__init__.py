"""Stage 7: tables, plots and the HTML page from results.json."""

from deepspeaker.report.degradation import degradation_curves, degradation_svg, plot_degradation
from deepspeaker.report.densities import Densities, density_svg, plot_densities, score_densities
from deepspeaker.report.det import det_svg, plot_det, thin_curve
from deepspeaker.report.drawing import figure_kind
from deepspeaker.report.embedding_map import (
    MAX_SPEAKERS,
    MAX_UTTERANCES,
    EmbeddingMap,
    embedding_map,
    map_speakers,
    plot_maps,
    sample_utterances,
)
from deepspeaker.report.enrolment import enrolment_curves, enrolment_svg, plot_enrolment
from deepspeaker.report.intervals import intervals_svg, plot_intervals
from deepspeaker.report.page import ReportData, results_page
from deepspeaker.report.stage import draw_training, write_report
from deepspeaker.report.tables import (
    Table,
    comparison_table,
    condition_tables,
    degradation_table,
    describe_speakers,
    enrolment_tables,
    notes,
    result_tables,
    threshold_table,
    trial_list_table,
)
from deepspeaker.report.text import aligned, results_markdown, results_table, summary
from deepspeaker.report.training_curves import plot_training, training_svgs

__all__ = [
    "MAX_SPEAKERS",
    "MAX_UTTERANCES",
    "Densities",
    "EmbeddingMap",
    "ReportData",
    "Table",
    "aligned",
    "comparison_table",
    "condition_tables",
    "degradation_curves",
    "degradation_svg",
    "degradation_table",
    "density_svg",
    "describe_speakers",
    "det_svg",
    "draw_training",
    "embedding_map",
    "enrolment_curves",
    "enrolment_svg",
    "enrolment_tables",
    "figure_kind",
    "intervals_svg",
    "map_speakers",
    "notes",
    "plot_degradation",
    "plot_densities",
    "plot_det",
    "plot_enrolment",
    "plot_intervals",
    "plot_maps",
    "plot_training",
    "result_tables",
    "results_markdown",
    "results_page",
    "results_table",
    "sample_utterances",
    "score_densities",
    "summary",
    "thin_curve",
    "threshold_table",
    "training_svgs",
    "trial_list_table",
    "write_report",
]
