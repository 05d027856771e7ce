"""Plots as PNG files: DET curves and the course of a training. The same input gives the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path
from deepspeaker.metrics import DetPoints, OperatingPoint, equal_error_rate, min_dcf_point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which is faint on white; told apart with any colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LINE_STYLES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)), (0, (3, 1.5)))
_GREY = "#555555"
_COST_MARKERS = ("^", "s", "D", "v", "P")
# In percent: rates at which an axis may be labelled, and those at which it may begin and end.
_TICKS = (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 90, 95, 99)
_LOWER_ENDS = (0.1, 0.01, 0.001)
_UPPER_ENDS = (40, 60, 80, 90, 95, 99)
_DPI = 150


def plot_det(
    curves: Mapping[str, DetPoints],
    path: str | Path,
    title: str,
    p_targets: Sequence[float] = (0.05, 0.01, 0.001),
) -> None:
    """Draws DET curves on normal-deviate axes, where Gaussian scores give straight lines.

    Martin et al., The DET curve in assessment of detection task performance, Eurospeech 1997. Marked on each
    curve are its equal error rate and its points of least detection cost at equal costs, as far as they lie
    within the axes.

    Args:
        curves: by name, in the legend's order.
        path: of the PNG, about 1100 pixels wide, written atomically.
        title: above the axes.
        p_targets: target priors of the cost points, at most 5.

    Raises:
        InputError: no curves.
    """
    if not curves:
        raise InputError(f"{path}: no scores to draw a DET plot of; run stage 6 first")
    from matplotlib.lines import Line2D

    rates = {name: equal_error_rate(points)[0] for name, points in curves.items()}
    cost_points = {name: [min_dcf_point(points, p) for p in p_targets] for name, points in curves.items()}
    # A little beyond the worst equal error rate; the far ends of a curve matter to nobody.
    upper = next((end for end in _UPPER_ENDS if 100 * max(rates.values()) <= 0.75 * end), _UPPER_ENDS[-1])
    marked = [p for points in cost_points.values() for p in points if 100 * max(p.p_fa, p.p_miss) <= upper]
    x_ticks = _ticks([*rates.values(), *(point.p_fa for point in marked)], upper)
    y_ticks = _ticks([*rates.values(), *(point.p_miss for point in marked)], upper)
    (left, right), (bottom, top) = (_probit([ticks[0] / 100, ticks[-1] / 100]) for ticks in (x_ticks, y_ticks))

    markers = ("o", *_COST_MARKERS)
    # One scale for both axes: the height follows from the ranges, with room for the title and the legend.
    height = 6.4 * (top - bottom) / (right - left) + 1.1 + 0.21 * max(len(curves), 1 + len(p_targets))
    with _figure(path, width=7.2, height=height) as figure:
        axes = figure.add_subplot()
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        axes.axline((0, 0), slope=1, color="#BBBBBB", linewidth=0.8, zorder=1)
        curve_handles, drawn = [], set()
        for index, (name, points) in enumerate(curves.items()):
            colour = _COLOURS[index % len(_COLOURS)]
            (line,) = axes.plot(
                *_visible_points(_probit(points.p_fa), _probit(points.p_miss)),
                color=colour,
                linestyle=_LINE_STYLES[index % len(_LINE_STYLES)],
                linewidth=1.8,
                label=f"{name}: EER {100 * rates[name]:.2f} %",
                zorder=2,
            )
            curve_handles.append(line)
            equal_error = OperatingPoint(0.0, rates[name], rates[name])
            for marker, point in zip(markers, (equal_error, *cost_points[name]), strict=False):
                x, y = _probit([point.p_fa])[0], _probit([point.p_miss])[0]
                if not (left <= x <= right and bottom <= y <= top):
                    continue
                drawn.add(marker)
                axes.plot(
                    [x],
                    [y],
                    marker,
                    color=colour,
                    markersize=8 if marker == "o" else 6.5,
                    markeredgecolor="white",
                    clip_on=False,
                    zorder=4,
                )
        for axis, ticks in ((axes.xaxis, x_ticks), (axes.yaxis, y_ticks)):
            axis.set_ticks(_probit(np.array(ticks) / 100).tolist(), [f"{tick:g}" for tick in ticks])
        _dress(axes, "False-alarm rate (%)", "Miss rate (%)")
        axes.set_title(title, loc="left", fontsize=12, pad=10)
        labels = ("equal error", *(f"minDCF({p:g})" for p in p_targets))
        marker_handles = [
            Line2D([], [], linestyle="none", marker=marker, markersize=6.5, color=_GREY, label=label)
            for marker, label in zip(markers, labels, strict=False)
            if marker in drawn
        ]
        # Two columns, curves and markers: a legend fills the first one first, so the shorter is filled up.
        blanks = [Line2D([], [], linestyle="none", label=" ")] * abs(len(curve_handles) - len(marker_handles))
        shorter = min(curve_handles, marker_handles, key=len)
        shorter += blanks
        figure.legend(
            handles=curve_handles + marker_handles,
            loc="outside lower center",
            ncols=2,
            columnspacing=4,
            handlelength=3,
            frameon=False,
            fontsize=9,
        )


def plot_training(rows: Iterable[Mapping[str, Any]], path: str | Path, title: str) -> None:
    """Draws the training loss and, where there is any, the development EER against the step.

    Args:
        rows: of ``train.csv``, as numbers or text: ``step``, ``loss`` and, a fraction, ``dev_eer``. Other
            columns are left alone; an empty or missing value is a gap that the line bridges.
        path: of the PNG, written atomically.
        title: above the panels.

    Raises:
        InputError: no row has both a step and a loss, or a value is not a number.
    """
    table = list(rows)
    losses = _series(table, "loss", path)
    dev_eers = _series(table, "dev_eer", path)
    if not len(losses):
        raise InputError(f"{path}: no training step with a loss to draw; has the training begun?")
    from matplotlib.ticker import MaxNLocator

    panels = [("Training loss", losses)]
    if len(dev_eers):
        panels.append(("Development EER (%)", dev_eers * [1, 100]))
    with _figure(path, width=7.0, height=1.0 + 2.4 * len(panels)) as figure:
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
        for index, (label, series) in enumerate(panels):
            axes = grid[index, 0]
            marker = "o" if len(series) <= 60 else ""
            axes.plot(series[:, 0], series[:, 1], marker, linestyle="-", color=_COLOURS[index], markersize=4)
            _dress(axes, "Step" if index == len(panels) - 1 else "", label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.margins(y=0.08)
        if len(dev_eers):
            axes = grid[1, 0]
            step, best = dev_eers[int(np.argmin(dev_eers[:, 1]))]
            axes.set_ylim(bottom=0)
            axes.plot(step, 100 * best, "o", markersize=10, fillstyle="none", color=_GREY)
            axes.set_title(f"lowest: {100 * best:.2f} % at step {step:g}", loc="right", fontsize=9)
        grid[0, 0].set_title(title, loc="left", fontsize=12, pad=10)


@contextmanager
def _figure(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """A blank figure of that many inches, saved when the block ends.

    Made without pyplot, so without a display or global state, and under matplotlib's default settings,
    whatever the user's own are; without the metadata that differ between versions.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})


def _dress(axes: Axes, x_label: str, y_label: str) -> None:
    """Labels, a faint grid behind the curves, and no frame where there is no axis."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color="#E4E4E4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(color=_GREY, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GREY)


def _probit(rates: ArrayLike) -> NDArray[np.float64]:
    """Normal deviates of rates; -inf and inf at 0 and 1."""
    from scipy.special import ndtri

    return np.asarray(ndtri(np.asarray(rates, dtype=np.float64)), dtype=np.float64)


def _ticks(rates: Sequence[float], upper: float) -> list[float]:
    """The ticks, in percent, of an axis that ends at ``upper`` percent and begins below all rates above 0."""
    least = 100 * min((rate for rate in rates if rate > 0), default=1.0)
    lower = next((end for end in _LOWER_ENDS if end <= least), _LOWER_ENDS[-1])
    return [tick for tick in _TICKS if lower <= tick <= upper]


def _visible_points(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A curve in normal deviates without infinities, and without points that nobody could see.

    Those dropped fall, with both neighbours, in one cell of a grid several times finer than the pixels.
    """
    # Six deviates are 1e-9, beyond any axis. Both ends are treated alike, so that the straight line of tied
    # scores, whose only points are the two ends, keeps its place.
    x, y = np.clip(x, -6, 6), np.clip(y, -6, 6)
    cells = np.round(np.stack((x, y)) * 1000)
    moves = np.any(np.diff(cells) != 0, axis=0)
    keep = np.append(True, moves) | np.append(moves, True)
    return x[keep], y[keep]


def _series(rows: Sequence[Mapping[str, Any]], column: str, path: str | Path) -> NDArray[np.float64]:
    """(step, value) of the rows that have both and are finite, shape ``(n, 2)``."""
    pairs = []
    for row in rows:
        given = [row.get(key) for key in ("step", column)]
        if any(value is None or value == "" for value in given):
            continue
        try:
            step, value = (float(entry) for entry in given if entry is not None)
        except ValueError as error:
            raise InputError(f"{path}: cannot draw {column}: {error}; mend the training log") from None
        if math.isfinite(step) and math.isfinite(value):
            pairs.append((step, value))
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)
