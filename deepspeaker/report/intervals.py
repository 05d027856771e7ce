"""Plot of EERs with their confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deepspeaker.report.drawing import (
    COLOURS,
    add_tooltip,
    blank_figure,
    inline_svg,
    rate_axis,
    save_figure,
    style_axes,
)
from deepspeaker.results import SystemResult, format_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_intervals(systems: Sequence[SystemResult], path: str | Path, title: str) -> None:
    """Draw each EER as a point and its 95 % interval as a bar, to a PNG, SVG or PDF that is written atomically."""
    with blank_figure(width=7.2, height=1.2 + 0.26 * len(systems)) as figure:
        axes = figure.add_subplot()
        _draw(axes, systems, [])
        axes.set_title(title, loc="left", fontsize=12, pad=10)
        save_figure(figure, path)


def intervals_svg(systems: Sequence[SystemResult]) -> str:
    """Return the same plot for the page, with tooltips."""
    tips: list[str] = []
    description = "EER of " + "; ".join(
        f"{system.name}, {system.backend}: {format_rate(system.eer, system.eer_ci95)} %" for system in systems
    )
    with blank_figure(width=4.6, height=0.7 + 0.25 * len(systems)) as figure:
        _draw(figure.add_subplot(), systems, tips)
        return inline_svg(figure, "intervals", description, tips)


def _draw(axes: Axes, systems: Sequence[SystemResult], tips: list[str]) -> None:
    names = list(dict.fromkeys(system.name for system in systems))
    one_backend = len({system.backend for system in systems}) == 1
    style_axes(axes, "EER (%) with 95 % interval", "")
    low = rate_axis(axes, "x", [rate for s in systems for rate in (s.eer, *(s.eer_ci95 or []))])
    for row, system in enumerate(systems):
        colour = COLOURS[names.index(system.name) % len(COLOURS)]
        if system.eer_ci95:
            axes.plot([max(100 * end, low) for end in system.eer_ci95], [row, row], color=colour, linewidth=2)
        (point,) = axes.plot(max(100 * system.eer, low), row, "o", color=colour, markersize=7, clip_on=False)
        add_tooltip(point, tips, f"{system.name}, {system.backend}: EER {format_rate(system.eer, system.eer_ci95)} %")
    axes.set_ylim(len(systems) - 0.4, -0.6)
    axes.set_yticks(
        range(len(systems)), [s.name if one_backend else f"{s.name}, {s.backend}" for s in systems], fontsize=9
    )
    axes.grid(visible=False, axis="y")
