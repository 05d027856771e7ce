"""Distributions of the scores of target and non-target trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepspeaker.report.drawing import COLOURS, GREY, blank_figure, inline_svg, save_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 80
# Fraction of a class that may lie outside the plot at either end, so that outliers do not compress the rest.
_OUTSIDE = 0.0005
_TARGET, _NONTARGET = COLOURS[0], COLOURS[1]


@dataclass(frozen=True, eq=False)
class Densities:
    """Histograms of both classes, normalised to densities.

    Attributes
    ----------
    edges : ndarray of shape (n_bins + 1,)
        Ascending bin edges, common to both classes.
    target, nontarget : ndarray of shape (n_bins,)
        Densities. The area of each class over all scores is 1.
    threshold : float
        The threshold at the EER.
    overlap : float
        The area under both densities: 0 if the classes are separate, 1 if they are identical.
    """

    edges: NDArray[np.float64]
    target: NDArray[np.float64]
    nontarget: NDArray[np.float64]
    threshold: float
    overlap: float


def score_densities(
    target_scores: NDArray[np.floating], nontarget_scores: NDArray[np.floating], threshold: float
) -> Densities:
    """Return the histograms of finite scores, without the lowest and the highest 0.05 % of each class.

    Parameters
    ----------
    target_scores, nontarget_scores : ndarray of shape (n_trials,)
        Scores of both classes. Infinite scores are left out.
    threshold : float
        The threshold at the EER.
    """
    classes = []
    for scores in (target_scores, nontarget_scores):
        finite = np.isfinite(scores)
        classes.append(scores if finite.all() else scores[finite])
    ends = [np.quantile(scores, [_OUTSIDE, 1 - _OUTSIDE], method="nearest") for scores in classes if len(scores)]
    low, high = (float(min(end[0] for end in ends)), float(max(end[1] for end in ends))) if ends else (0.0, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1):
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    width = edges[1] - edges[0]
    target, nontarget = (
        np.histogram(scores, bins=_BINS, range=(low, high))[0] / (max(len(all_scores), 1) * width)
        for scores, all_scores in zip(classes, (target_scores, nontarget_scores), strict=True)
    )
    overlap = float(np.minimum(target, nontarget).sum() * width)
    return Densities(edges, target, nontarget, float(threshold), overlap)


def plot_densities(densities: Mapping[str, Densities], path: str | Path, title: str) -> None:
    """Draw one panel per system, two per row, to a PNG, SVG or PDF that is written atomically."""
    rows = (len(densities) + 1) // 2
    columns = min(len(densities), 2)
    with blank_figure(width=4.2 * columns + 0.2, height=2.5 * rows + 0.9) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, content) in zip(grid, densities.items(), strict=False):
            _draw(axes, content)
            axes.set_title(name, loc="left", fontsize=10)
        for axes in grid[len(densities) :]:
            axes.remove()
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        figure.legend(
            *grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9
        )
        save_figure(figure, path)


def density_svg(name: str, number: int, content: Densities) -> str:
    """Return one panel for the page. ``number`` must be unique on the page."""
    with blank_figure(width=4.2, height=2.4) as figure:
        _draw(figure.add_subplot(), content)
        description = (
            f"Score distributions of {name}: target and non-target trials overlap by {100 * content.overlap:.1f} %; "
            f"the threshold at the EER is {content.threshold:.4f}"
        )
        return inline_svg(figure, f"density-{number}", description)


def _draw(axes: Axes, content: Densities) -> None:
    from matplotlib.ticker import MaxNLocator

    for density, colour, label in (
        (content.nontarget, _NONTARGET, "non-target trials"),
        (content.target, _TARGET, "target trials"),
    ):
        axes.stairs(density, content.edges, fill=True, color=colour, alpha=0.25, linewidth=0)
        # One line is dashed, so that colour is not needed to distinguish them.
        dashes = "-" if colour == _TARGET else (0, (3, 1.5))
        axes.stairs(density, content.edges, color=colour, linewidth=1.4, linestyle=dashes, label=label, baseline=None)
    axes.axvline(content.threshold, color=GREY, linewidth=1, linestyle=(0, (1, 1.5)), label="threshold at the EER")
    style_axes(axes, "Score", "Density")
    axes.set_xlim(content.edges[0], content.edges[-1])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.set_ylim(bottom=0)
