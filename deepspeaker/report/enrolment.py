"""Plot of the EER against the number of enrolment utterances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deepspeaker.report.drawing import (
    add_tooltip,
    blank_figure,
    inline_svg,
    line_style,
    rate_axis,
    save_figure,
    style_axes,
)
from deepspeaker.results import EnrolmentResult, Results, format_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = dict[str, list[EnrolmentResult]]


def enrolment_curves(results: Results) -> Curves:
    """Return the rows of the enrolment table with each system's first back end and averaged enrolment, by system."""
    curves: Curves = {}
    for row in results.enrolment_table:
        if results.is_leading(row):
            curves.setdefault(results.label(row), []).append(row)
    return {name: sorted(rows, key=lambda row: row.utterances) for name, rows in curves.items()}


def plot_enrolment(curves: Curves, path: str | Path, title: str) -> None:
    """Draw each EER with its interval to a PNG, SVG or PDF that is written atomically."""
    with blank_figure(width=7.2, height=4.4) as figure:
        axes = figure.add_subplot()
        _draw(axes, curves, [])
        axes.set_title(title, loc="left", fontsize=12, pad=10)
        figure.legend(loc="outside lower center", ncols=len(curves), frameon=False, fontsize=9, handlelength=3)
        save_figure(figure, path)


def enrolment_svg(curves: Curves) -> str:
    """Return the same plot for the page, with tooltips and without a legend."""
    tips: list[str] = []
    description = "EER by number of enrolment utterances: " + "; ".join(
        f"{name}: " + ", ".join(f"{100 * row.eer:.2f} % with {row.utterances}" for row in rows)
        for name, rows in curves.items()
    )
    with blank_figure(width=4.6, height=3.0) as figure:
        _draw(figure.add_subplot(), curves, tips)
        return inline_svg(figure, "enrolment", description, tips)


def _draw(axes: Axes, curves: Curves, tips: list[str]) -> None:
    all_rows = [row for rows in curves.values() for row in rows]
    style_axes(axes, "Enrolment utterances", "EER (%)")
    low = rate_axis(axes, "y", [rate for row in all_rows for rate in (row.eer, *(row.eer_ci95 or []))])
    for index, (name, rows) in enumerate(curves.items()):
        colour, dashes = line_style(index)
        # Shift the systems so that their bars do not overlap.
        places = [row.utterances + 0.07 * (index - (len(curves) - 1) / 2) for row in rows]
        values = [max(100 * row.eer, low) for row in rows]
        axes.plot(places, values, color=colour, linestyle=(0, dashes) if dashes else "-", linewidth=1.8, label=name)
        for place, value, row in zip(places, values, rows, strict=True):
            if row.eer_ci95:
                axes.plot([place, place], [max(100 * end, low) for end in row.eer_ci95], color=colour, linewidth=1.2)
            (point,) = axes.plot(place, value, "o", color=colour, markersize=5.5)
            text = f"{name}, {row.utterances} enrolment utterances: EER {format_rate(row.eer, row.eer_ci95)} %"
            add_tooltip(point, tips, text)
    axes.set_xticks(sorted({row.utterances for row in all_rows}))
