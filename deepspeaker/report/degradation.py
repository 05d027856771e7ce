"""Plot of the EER on degraded test speech: against the signal-to-noise ratio and against the seconds of speech."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deepspeaker.report.drawing import (
    add_tooltip,
    blank_figure,
    inline_svg,
    line_style,
    rate_axis,
    save_figure,
    style_axes,
)
from deepspeaker.results import Condition, Results, format_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Names of conditions that have a place on an axis, such as noise10dB and 3s -> the axis.
_AXES = {
    re.compile(r"(.+?)(-?\d+(?:\.\d+)?)dB"): "signal-to-noise ratio, dB",
    re.compile(r"()(\d+(?:\.\d+)?)s"): "seconds of speech",
}
#: What the undegraded speech is called on each axis.
_CLEAN = {"signal-to-noise ratio, dB": "clean", "seconds of speech": "all"}


class Curve(NamedTuple):
    """The conditions of a system along an axis."""

    points: list[tuple[float, Condition]]  # ascending
    clean: Condition | None


#: Axis -> name of a curve -> the curve.
Curves = Mapping[str, Mapping[str, Curve]]


def degradation_curves(results: Results) -> Curves:
    """Return the curves of all systems with the first back end; empty if no condition has a place on an axis.

    Conditions whose names end in a number and ``dB`` or ``s`` have one. With several kinds of noise, each has a curve.
    """
    found: dict[str, dict[tuple[str, str], Curve]] = {}
    for system in results.systems:
        if system.backend != results.systems[0].backend:
            continue
        conditions = {c.value: c for c in system.conditions if c.by == "condition" and c.eer is not None}
        for value, condition in conditions.items():
            for pattern, axis in _AXES.items():
                if match := pattern.fullmatch(value):
                    curves = found.setdefault(axis, {})
                    curve = curves.setdefault((system.name, match[1]), Curve([], conditions.get("clean")))
                    curve.points.append((float(match[2]), condition))
    named: dict[str, dict[str, Curve]] = {}
    for axis in _AXES.values():
        kinds = {kind for _, kind in found.get(axis, {})}
        for (system_name, kind), curve in found.get(axis, {}).items():
            name = system_name if len(kinds) == 1 else f"{system_name}, {kind}"
            curve.points.sort(key=lambda point: point[0])
            named.setdefault(axis, {})[name] = curve
    return named


def plot_degradation(curves: Curves, path: str | Path, title: str) -> None:
    """Draw a panel for each axis, with the undegraded speech at its right end, to a PNG, SVG or PDF."""
    with blank_figure(width=4.6 * len(curves) + 0.6, height=4.2) as figure:
        panels = _draw(figure, curves, [])
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        lines, names = panels[0].get_legend_handles_labels()
        style: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "fontsize": 9, "handlelength": 3}
        figure.legend(lines, names, ncols=min(len(names), 4), **style)
        save_figure(figure, path)


def degradation_svg(curves: Curves) -> str:
    """Return the same plot for the page, with tooltips and without a legend."""
    tips: list[str] = []
    description = "EER on degraded speech: " + "; ".join(
        f"{name} by {axis}: " + ", ".join(f"{100 * (c.eer or 0):.2f} % at {place:g}" for place, c in curve.points)
        for axis, of_axis in curves.items()
        for name, curve in of_axis.items()
    )
    with blank_figure(width=4.3 * len(curves), height=3.0) as figure:
        _draw(figure, curves, tips)
        return inline_svg(figure, "degradation", description, tips)


def _draw(figure: Figure, curves: Curves, tips: list[str]) -> list[Axes]:
    panels: list[Axes] = []
    for number, (axis, of_axis) in enumerate(curves.items(), 1):
        panels.append(figure.add_subplot(1, len(curves), number))
        _draw_axis(panels[-1], axis, of_axis, tips)
    return panels


def _draw_axis(axes: Axes, axis: str, curves: Mapping[str, Curve], tips: list[str]) -> None:
    style_axes(axes, axis, "EER in %")
    everything = [c for curve in curves.values() for c in (*(one for _, one in curve.points), curve.clean) if c]
    ends = [end for condition in everything for end in condition.eer_ci95 or []]
    low = rate_axis(axes, "y", [*(condition.eer or 0.0 for condition in everything), *ends])
    places = sorted({place for curve in curves.values() for place, _ in curve.points})
    gap = (places[-1] - places[0]) / max(len(places) - 1, 1) or 1.0
    ticks = {place: f"{place:g}" for place in places}
    for index, (name, curve) in enumerate(curves.items()):
        colour, dashes = line_style(index)
        points = list(curve.points)
        if curve.clean:
            points.append((places[-1] + gap, curve.clean))
            ticks[places[-1] + gap] = _CLEAN[axis]
        # Shift the systems so that their bars do not overlap.
        shift = 0.03 * gap * (index - (len(curves) - 1) / 2)
        x = [place + shift for place, _ in points]
        y = [max(100 * (condition.eer or 0.0), low) for _, condition in points]
        joined = len(points) if axis != "seconds of speech" else len(curve.points)  # "all" may be shorter than 5 s
        style = (0, dashes) if dashes else "-"
        axes.plot(x[:joined], y[:joined], color=colour, linestyle=style, linewidth=1.8, label=name)
        for place, value, (_, condition) in zip(x, y, points, strict=True):
            if condition.eer_ci95:
                bar = [max(100 * end, low) for end in condition.eer_ci95]
                axes.plot([place, place], bar, color=colour, linewidth=1.2)
            (point,) = axes.plot(place, value, "o", color=colour, markersize=5.5)
            text = f"{name}, {condition.value}: EER {format_rate(condition.eer, condition.eer_ci95)} %"
            add_tooltip(point, tips, text)
    axes.set_xticks(list(ticks), list(ticks.values()))
