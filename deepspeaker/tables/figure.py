"""Figure 4 of the paper: ACC and EER on development speakers during training, with and without pre-training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deepspeaker.report import blank_figure, inline_svg, line_style, save_figure, style_axes
from deepspeaker.tables.experiments import NETWORKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: (step, EER, ACC) by training.
Curves = Mapping[str, Sequence[tuple[float, float, float | None]]]
_PANELS = ((1, "Development EER (%)"), (2, "Development ACC (%)"))


def figure_svgs(network: str, curves: Curves) -> list[str]:
    """Return the panels of a network for the page."""
    drawings = []
    for place, label in _panels(curves):
        with blank_figure(width=4.2, height=2.8) as figure:
            _draw(figure.add_subplot(), curves, place, f"{NETWORKS[network]}: {label}")
            last = ", ".join(f"{name}: {100 * (points[-1][place] or 0):.1f} %" for name, points in curves.items())
            drawings.append(inline_svg(figure, f"figure4-{network}-{place}", f"{label} by step; at the end {last}"))
    return drawings


def save_figure_4(path: Path, networks: Mapping[str, Curves]) -> None:
    """Write the panels of all networks to a PNG."""
    panels = [(network, curves, *panel) for network, curves in networks.items() for panel in _panels(curves)]
    columns = 1 + max(place for place, panel in enumerate(panels) if panel[0] == panels[0][0])
    rows = -(-len(panels) // columns)
    with blank_figure(width=4.6 * columns, height=2.9 * rows) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, (network, curves, place, label) in zip(grid.flat, panels, strict=False):
            _draw(axes, curves, place, f"{NETWORKS[network]}: {label}")
        handles = grid[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False)
        save_figure(figure, path)


def _panels(curves: Curves) -> list[tuple[int, str]]:
    has_acc = all(point[2] is not None for points in curves.values() for point in points)
    return [panel for panel in _PANELS if panel[0] == 1 or has_acc]


def _draw(axes: Axes, curves: Curves, place: int, label: str) -> None:
    for number, (name, points) in enumerate(curves.items()):
        colour, dashes = line_style(number)
        values = [100 * float(point[place] or 0) for point in points]
        style = (0, dashes) if dashes else "-"
        axes.plot([point[0] for point in points], values, "o", linestyle=style, color=colour, markersize=4, label=name)
    style_axes(axes, "Step", label)
    axes.set_xlim(left=0)
