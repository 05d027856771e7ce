"""Stage 7: tables, plots and the HTML page from results.json."""

from deepspeaker.report.degradation import degradation_curves, degradation_svg, plot_degradation
from deepspeaker.report.densities import Densities, density_svg, plot_densities, score_densities
from deepspeaker.report.det import det_svg, plot_det, thin_curve
from deepspeaker.report.drawing import (
    blank_figure,
    figure_kind,
    inline_svg,
    legend_line,
    line_style,
    save_figure,
    style_axes,
)
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
from deepspeaker.report.page import ReportData, render, results_page
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
from deepspeaker.report.text import aligned, escaped, markdown, results_markdown, results_table, summary
from deepspeaker.report.training_curves import plot_training, training_svgs

__all__ = [
    "MAX_SPEAKERS",
    "MAX_UTTERANCES",
    "Densities",
    "EmbeddingMap",
    "ReportData",
    "Table",
    "aligned",
    "blank_figure",
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
    "escaped",
    "figure_kind",
    "inline_svg",
    "intervals_svg",
    "legend_line",
    "line_style",
    "map_speakers",
    "markdown",
    "notes",
    "plot_degradation",
    "plot_densities",
    "plot_det",
    "plot_enrolment",
    "plot_intervals",
    "plot_maps",
    "plot_training",
    "render",
    "result_tables",
    "results_markdown",
    "results_page",
    "results_table",
    "sample_utterances",
    "save_figure",
    "score_densities",
    "style_axes",
    "summary",
    "thin_curve",
    "threshold_table",
    "training_svgs",
    "trial_list_table",
    "write_report",
]
