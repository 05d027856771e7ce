"""DET curves on normal-deviate axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspeaker.errors import InputError
from deepspeaker.metrics import P_TARGETS, DetPoints, OperatingPoint, equal_error_rate, min_dcf_point
from deepspeaker.report.drawing import GREY, add_tooltip, blank_figure, inline_svg, line_style, save_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# For the EER, then for each cost.
_MARKERS = ("o", "^", "s", "D", "v", "P")
# In percent: possible tick labels, and possible ends of an axis.
_TICKS = (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 90, 95, 99)
_LOWER_ENDS = (0.1, 0.01, 0.001)
_UPPER_ENDS = (40, 60, 80, 90, 95, 99)


def plot_det(
    curves: Mapping[str, DetPoints],
    path: str | Path,
    title: str,
    p_targets: Sequence[float] = P_TARGETS,
) -> None:
    """Draw DET curves on normal-deviate axes, on which Gaussian scores give straight lines.

    Markers show the EER and the minDCF points of each curve, for equal costs, as far as they are within the axes.

    Parameters
    ----------
    curves : mapping of str to DetPoints
        By name, in the order of the legend.
    path : str or Path
        A PNG (about 1100 pixels wide), SVG or PDF, written atomically.
    title : str
        Shown above the axes.
    p_targets : sequence of float
        Target priors of the minDCF points, at most 5.

    Raises
    ------
    InputError
        If there are no curves, or the path has another extension.

    References
    ----------
    .. [1] A. Martin, G. Doddington, T. Kamm, M. Ordowski and M. Przybocki, "The DET curve in assessment of detection
       task performance", Eurospeech 1997.
    """
    if not curves:
        raise InputError(f"{path}: no scores to plot; run stage 6 first")
    from matplotlib.lines import Line2D

    plot = _DetPlot(curves, p_targets)
    # Both axes have one scale, so the ranges determine the height. Add space for the title and the legend.
    height = 6.4 * plot.aspect + 1.1 + 0.21 * max(len(curves), 1 + len(p_targets))
    with blank_figure(width=7.2, height=height) as figure:
        axes = figure.add_subplot()
        curve_handles, drawn = plot.draw(axes, [])
        axes.set_title(title, loc="left", fontsize=12, pad=10)
        labels = ("EER", *(f"minDCF({p:g})" for p in p_targets))
        marker_handles = [
            Line2D([], [], linestyle="none", marker=marker, markersize=6.5, color=GREY, label=label)
            for marker, label in zip(_MARKERS, labels, strict=False)
            if marker in drawn
        ]
        # Two columns, curves and markers. A legend fills its first column first, so pad the shorter one.
        blanks = [Line2D([], [], linestyle="none", label=" ")] * abs(len(curve_handles) - len(marker_handles))
        min(curve_handles, marker_handles, key=len).extend(blanks)
        figure.legend(
            handles=curve_handles + marker_handles,
            loc="outside lower center",
            ncols=2,
            columnspacing=4,
            handlelength=3,
            frameon=False,
            fontsize=9,
        )
        save_figure(figure, path)


def det_svg(curves: Mapping[str, DetPoints], number: int, p_targets: Sequence[float] = P_TARGETS) -> str:
    """Return the same plot for the page, with tooltips and without a legend. ``number`` must be unique on the page."""
    plot, tips = _DetPlot(curves, p_targets), list[str]()
    description = "DET curves, miss rate against false-alarm rate on normal-deviate axes: " + "; ".join(
        f"{name}, EER {100 * points[0][1].p_miss:.2f} %" for name, points in plot.points.items()
    )
    with blank_figure(width=4.6, height=4.1 * plot.aspect + 0.5) as figure:
        plot.draw(figure.add_subplot(), tips)
        return inline_svg(figure, f"det-{number}", description, tips)


class _DetPlot:
    """The operating points of the curves, and axes on which they are visible."""

    def __init__(self, curves: Mapping[str, DetPoints], p_targets: Sequence[float]) -> None:
        self.curves = curves
        self.points: dict[str, list[tuple[str, OperatingPoint]]] = {}
        for name, points in curves.items():
            rate, threshold = equal_error_rate(points)
            self.points[name] = [("EER", OperatingPoint(threshold, rate, rate))]
            self.points[name] += [(f"minDCF({p:g})", min_dcf_point(points, p)) for p in p_targets]
        rates = [points[0][1].p_miss for points in self.points.values()]
        # End slightly beyond the highest EER, as the far ends of a curve are of no interest.
        upper = next((end for end in _UPPER_ENDS if 100 * max(rates) <= 0.75 * end), _UPPER_ENDS[-1])
        marked = [point for points in self.points.values() for _, point in points]
        marked = [point for point in marked if 100 * max(point.p_fa, point.p_miss) <= upper]
        self.x_ticks = _ticks([*rates, *(point.p_fa for point in marked)], upper)
        self.y_ticks = _ticks([*rates, *(point.p_miss for point in marked)], upper)
        self.x_range, self.y_range = (
            tuple(_probit([ticks[0] / 100, ticks[-1] / 100]).tolist()) for ticks in (self.x_ticks, self.y_ticks)
        )

    @property
    def aspect(self) -> float:
        """Height of the axes divided by their width."""
        return float((self.y_range[1] - self.y_range[0]) / (self.x_range[1] - self.x_range[0]))

    def draw(self, axes: Axes, tips: list[str]) -> tuple[list[Line2D], set[str]]:
        """Draw the curves. Return their lines and the markers that were drawn."""
        axes.set(xlim=self.x_range, ylim=self.y_range, aspect="equal")
        axes.axline((0, 0), slope=1, color="#BBBBBB", linewidth=0.8, zorder=1)
        lines, drawn = [], set()
        for index, (name, points) in enumerate(self.curves.items()):
            colour, dashes = line_style(index)
            (line,) = axes.plot(
                *thin_curve(_probit(points.p_fa), _probit(points.p_miss)),
                color=colour,
                linestyle=(0, dashes) if dashes else "-",
                linewidth=1.8,
                label=f"{name}: EER {100 * self.points[name][0][1].p_miss:.2f} %",
                zorder=2,
            )
            lines.append(line)
            for marker, (what, point) in zip(_MARKERS, self.points[name], strict=False):
                x, y = _probit([point.p_fa, point.p_miss])
                if not (self.x_range[0] <= x <= self.x_range[1] and self.y_range[0] <= y <= self.y_range[1]):
                    continue
                drawn.add(marker)
                (dot,) = axes.plot(
                    [x],
                    [y],
                    marker,
                    color=colour,
                    markersize=8 if marker == "o" else 6.5,
                    markeredgecolor="white",
                    clip_on=False,
                    zorder=4,
                )
                rates = f"misses {100 * point.p_miss:.2f} %, false alarms {100 * point.p_fa:.3f} %"
                add_tooltip(dot, tips, f"{name}, {what}: {rates}, threshold {point.threshold:.4f}")
        for axis, ticks in ((axes.xaxis, self.x_ticks), (axes.yaxis, self.y_ticks)):
            axis.set_ticks(_probit(np.array(ticks) / 100).tolist(), [f"{tick:g}" for tick in ticks])
        style_axes(axes, "False-alarm rate (%)", "Miss rate (%)")
        return lines, drawn


def _probit(rates: ArrayLike) -> NDArray[np.float64]:
    """Return the normal deviates of rates, -inf for 0 and inf for 1."""
    from scipy.special import ndtri

    return np.asarray(ndtri(np.asarray(rates, dtype=np.float64)), dtype=np.float64)


def _ticks(rates: Sequence[float], upper: float) -> list[float]:
    """Return the ticks, in percent, of an axis from below all rates above 0 to ``upper`` percent."""
    lowest = 100 * min((rate for rate in rates if rate > 0), default=1.0)
    lower = next((end for end in _LOWER_ENDS if end <= lowest), _LOWER_ENDS[-1])
    return [tick for tick in _TICKS if lower <= tick <= upper]


def thin_curve(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a curve in normal deviates without infinities and without points that are indistinguishable.

    Drop a point if it is in the same cell as both neighbours, in a grid several times finer than the pixels.
    """
    # Six deviates are 1e-9, beyond any axis. Both ends are clipped alike, which keeps the straight line of tied scores
    # in place: its only points are the two ends.
    x, y = np.clip(x, -6, 6), np.clip(y, -6, 6)
    cells = np.round(np.stack((x, y)) * 1000)
    moves = np.any(np.diff(cells) != 0, axis=0)
    keep = np.append(True, moves) | np.append(moves, True)
    return x[keep], y[keep]
