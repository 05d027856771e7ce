"""Learning curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.report.drawing import COLOURS, GREY, blank_figure, inline_svg, save_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Iterable[Mapping[str, Any]]
# Column of train.csv, axis label, scale factor, whether to mark the lowest value.
_PANELS = (
    ("loss", "Training loss", 1, False),
    ("accuracy", "Training accuracy (%)", 100, False),
    ("active_triplets", "Active triplets (%)", 100, False),
    ("dev_eer", "Development EER (%)", 100, True),
)


def plot_training(rows: Rows, path: str | Path, title: str) -> None:
    """Draw loss, accuracy or active triplets, and development EER against the training step.

    Parameters
    ----------
    rows : iterable of mappings
        Rows of ``train.csv``, as numbers or text: ``step``, ``loss`` and, as fractions, ``accuracy``,
        ``active_triplets`` and ``dev_eer``. Columns without any value have no panel, and other columns are ignored.
        Lines bridge empty or missing values.
    path : str or Path
        A PNG, SVG or PDF, written atomically.
    title : str
        Shown above the panels.

    Raises
    ------
    InputError
        If no row has both a step and a loss, or a value is not a number.
    """
    panels = _panels(rows, path)
    with blank_figure(width=7.0, height=1.0 + 2.2 * len(panels)) as figure:
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for index, (label, series, mark_lowest) in enumerate(panels):
            _draw(grid[index], label, series, mark_lowest, index)
            if index < len(panels) - 1:
                grid[index].set_xlabel("")
        grid[0].set_title(title, loc="left", fontsize=12, pad=10)
        save_figure(figure, path)


def training_svgs(rows: Rows, name: str) -> list[str]:
    """Return the same panels for the page. The parameters and errors are those of `plot_training`."""
    drawings = []
    for index, (label, series, mark_lowest) in enumerate(_panels(rows, name)):
        with blank_figure(width=4.2, height=2.6) as figure:
            _draw(figure.add_subplot(), label, series, mark_lowest, index)
            first, last = series[0], series[-1]
            description = (
                f"{label} of {name} training: {first[1]:.4g} at step {first[0]:g}, {last[1]:.4g} at step {last[0]:g}"
            )
            drawings.append(inline_svg(figure, f"training-{name}-{index}", description))
    return drawings


def _panels(rows: Rows, path: str | Path) -> list[tuple[str, NDArray[np.float64], bool]]:
    table = list(rows)
    panels = [
        (label, _series(table, column, path) * [1, factor], mark_lowest)
        for column, label, factor, mark_lowest in _PANELS
    ]
    if not len(panels[0][1]):
        raise InputError(f"{path}: no training step with a loss to plot; wait for the first epoch to end")
    return [panel for panel in panels if len(panel[1])]


def _draw(axes: Axes, label: str, series: NDArray[np.float64], mark_lowest: bool, index: int) -> None:
    from matplotlib.ticker import MaxNLocator

    marker = "o" if len(series) <= 60 else ""
    axes.plot(series[:, 0], series[:, 1], marker, linestyle="-", color=COLOURS[index], markersize=4)
    style_axes(axes, "Step", label)
    # Begin at 0, so that a single epoch or a small change is not exaggerated.
    axes.set_xlim(min(0, series[0, 0]), max(series[-1, 0], 1) * 1.04)
    axes.set_ylim(min(0, series[:, 1].min()), max(series[:, 1].max(), 1e-9) * 1.12)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    if mark_lowest:
        step, best = series[int(np.argmin(series[:, 1]))]
        axes.plot(step, best, "o", markersize=10, fillstyle="none", color=GREY, clip_on=False)
    # An empty title keeps panels in the same row at the same height.
    lowest = f"lowest: {best:.2f} % at step {step:g}" if mark_lowest else " "
    axes.set_title(lowest, loc="right", fontsize=9)


def _series(rows: Sequence[Mapping[str, Any]], column: str, path: str | Path) -> NDArray[np.float64]:
    """Return (step, value) of the rows with finite values, of shape ``(n, 2)``."""
    pairs = []
    for row in rows:
        entries = [row.get(key) for key in ("step", column)]
        if any(entry in (None, "") for entry in entries):
            continue
        try:
            step, value = (float(entry) for entry in entries if entry is not None)
        except ValueError as error:
            raise InputError(f"{path}: cannot plot {column}: {error}; correct the training log") from None
        if math.isfinite(step) and math.isfinite(value):
            pairs.append((step, value))
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)
