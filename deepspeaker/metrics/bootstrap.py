"""The uncertainty of error rates: bootstrap over speakers.

Trials are not independent: those of one speaker share a voice. So whole speakers are drawn with replacement; where
speaker i is drawn w_i times, a target trial of i counts w_i times and a non-target trial of i and j w_i w_j times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import t as student

from deepspeaker.errors import InputError
from deepspeaker.metrics.verification import DetPoints, Scores, equal_error_rate, min_dcf

#: More trials than this are counted in bins of scores, about so many.
MOST_EXACT = 10**7
_BINS = 1000


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """How far apart two systems are on one trial list."""

    difference: float
    interval: Interval
    p_value: float  # of a difference of this size, either way, if there were none


@dataclass(frozen=True, eq=False)
class Replicates:
    """The figures of every bootstrap replicate."""

    eer: NDArray[np.float64]  # (replicates,)
    min_dcf: NDArray[np.float64]  # (replicates, priors)


class SpeakerBootstrap:
    """Error rates of a trial list with speakers drawn anew.

    Args:
        scores: of the trials, shape ``(trials,)``; float32 stays float32.
        is_target: boolean, the same shape.
        enrolment_speaker, test_speaker: the number of each side's speaker, from 0; those of a target trial are equal.

    Up to ten million trials every score counts as it is; more are counted in about a thousand bins of scores, narrow
    where either class has its operating points.

    Raises:
        InputError: a class has no trial, scores are NaN, fewer than two speakers.
    """

    def __init__(
        self, scores: ArrayLike, is_target: ArrayLike, enrolment_speaker: ArrayLike, test_speaker: ArrayLike
    ) -> None:
        values, labels = np.asarray(scores), np.asarray(is_target, dtype=bool)
        one, other = np.asarray(enrolment_speaker), np.asarray(test_speaker)
        if np.isnan(values).any():
            raise InputError(f"{int(np.isnan(values).sum())} scores are NaN; look for embeddings that are NaN or zero")
        if labels.all() or not labels.any():
            raise InputError("error rates need target and non-target trials")
        self.speakers = int(max(one.max(), other.max())) + 1
        self._least = 0.5 / min(int(labels.sum()), int((~labels).sum()))
        if len(np.unique(one[labels])) < 2:
            raise InputError("a bootstrap over speakers needs target trials of two speakers at least")
        self._binned = len(values) > MOST_EXACT
        if self._binned:
            edges = _edges(values[labels], values[~labels])
            values = edges[np.maximum(np.searchsorted(edges, values, side="right") - 1, 0)]
        order = np.flatnonzero(labels)[np.argsort(values[labels], kind="stable")]
        targets = values[order]
        self._target_speaker = one[order]
        # The curve turns at target scores only: just accepting each, and just rejecting it.
        last = np.append(targets[1:] != targets[:-1], True)
        self._miss_end = np.concatenate([[0], np.flatnonzero(last) + 1])
        self._distinct = targets[last]
        # In which cell a non-target trial lies: even ones are the gaps between distinct target scores, odd ones ties.
        rejected = values[~labels]
        at = np.searchsorted(self._distinct, rejected)
        nearest = self._distinct[np.minimum(at, len(self._distinct) - 1)]
        cell = 2 * at + ((at < len(self._distinct)) & (nearest == rejected))
        order = np.argsort(cell, kind="stable")
        self._cell_begin = np.searchsorted(cell[order], np.arange(2 * len(self._distinct) + 2))
        self._one, self._other = one[~labels][order], other[~labels][order]

    def _below(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """For each row of weights (draws, speakers) the weight of non-target trials in the cells before each."""
        if not self._binned:
            pairs = np.cumsum(weights[:, self._one] * weights[:, self._other], axis=1)
            return np.concatenate([np.zeros((len(weights), 1)), pairs], axis=1)[:, self._cell_begin]
        # A draw weighs the trials of a cell as the quadratic form of their counts by speaker and speaker.
        below = np.zeros((len(weights), len(self._cell_begin)))
        single = weights.astype(np.float32)
        for cell in range(len(self._cell_begin) - 1):
            own = slice(self._cell_begin[cell], self._cell_begin[cell + 1])
            key = self._one[own].astype(np.int64) * self.speakers + self._other[own]
            counts = np.bincount(key, minlength=self.speakers**2).astype(np.float32)
            products = single @ counts.reshape(self.speakers, self.speakers)
            below[:, cell + 1] = np.einsum("ds,ds->d", products, single, dtype=np.float64) if len(key) else 0.0
        return np.cumsum(below, axis=1)

    def points(self, weights: NDArray[np.float64]) -> DetPoints:
        """The DET curve with speaker i counted ``weights[i]`` times; thresholds are those of the target scores."""
        return self._points(weights, self._below(weights[None])[0])

    def _points(self, weights: NDArray[np.float64], below: NDArray[np.float64]) -> DetPoints:
        missed = np.concatenate([[0.0], np.cumsum(weights[self._target_speaker])])[self._miss_end]
        n_target, n_nontarget = missed[-1], below[-1]
        if n_target == 0 or n_nontarget == 0:
            raise InputError("a replicate has no trial of a class; take more speakers")
        # At distinct target score k: accepted with all at it (cells before 2k+1), or rejected (cells before 2k+2).
        count = len(self._distinct)
        p_miss, p_fa, thresholds = (np.empty(2 * count + 2) for _ in range(3))
        p_miss[0], p_miss[1:-1:2], p_miss[2:-1:2], p_miss[-1] = 0.0, missed[:-1], missed[1:], n_target
        accepted = n_nontarget - below
        p_fa[0], p_fa[-1] = n_nontarget, 0.0
        p_fa[1:-1:2], p_fa[2:-1:2] = accepted[1 : 2 * count : 2], accepted[2 : 2 * count + 1 : 2]
        thresholds[0], thresholds[-1] = -np.inf, np.inf
        thresholds[1:-1:2], thresholds[2:-1:2] = self._distinct, np.append(self._distinct[1:], np.inf)
        return DetPoints(thresholds, p_miss / n_target, p_fa / n_nontarget)

    def replicates(self, number: int = 1000, seed: int = 0, p_targets: Sequence[float] = ()) -> Replicates:
        """EER and minDCF of ``number`` draws of as many speakers as there are; a function of ``seed``."""
        generator = np.random.default_rng(seed)
        weights = np.empty((number, self.speakers))
        for draw in weights:
            while True:
                draw[:] = np.bincount(generator.integers(0, self.speakers, self.speakers), minlength=self.speakers)
                if np.count_nonzero(draw) > 1 and draw[self._target_speaker].any():
                    break
        eers, costs = np.empty(number), np.empty((number, len(p_targets)))
        together = number if self._binned else 1
        for first in range(0, number, together):
            for which, below in enumerate(self._below(weights[first : first + together]), first):
                points = self._points(weights[which], below)
                eers[which] = equal_error_rate(points)[0]
                costs[which] = [min_dcf(points, p) for p in p_targets]
        return Replicates(eers, costs)

    def interval(self, rate: float, replicates: NDArray[np.float64], level: float = 0.95) -> Interval:
        """``confidence_interval`` of a rate on this trial list."""
        return confidence_interval(rate, replicates, self.speakers, self._least, level)


def _edges(targets: Scores, nontargets: Scores) -> Scores:
    """Ascending ends of bins: quantiles of the target scores, and of the non-target scores towards their upper tail."""
    tail = 1 - np.logspace(-6, 0, _BINS // 2)
    ends = [np.quantile(targets, np.linspace(0, 1, _BINS // 2)), np.quantile(nontargets, tail)]
    lowest = min(float(targets.min()), float(nontargets.min()))
    return np.unique(np.concatenate([[lowest], *ends]).astype(targets.dtype))


def confidence_interval(
    rate: float, replicates: NDArray[np.float64], speakers: int, least: float, level: float = 0.95
) -> Interval:
    """The interval of a rate in [0, 1] from its bootstrap replicates over ``speakers`` speakers.

    On the logit scale, symmetric about the rate: Student's quantile with ``speakers`` - 1 degrees of freedom times the
    standard deviation of the replicates, which is widened by sqrt(speakers / (speakers - 1)) as resampling makes it so
    much too narrow. Plain percentile intervals of few speakers cover the truth too seldom; a test counts how often this
    one does in simulated corpora.

    Rates are moved to ``least`` and 1 - ``least`` where they are nearer to 0 or 1, as logits of those are infinite;
    half a trial of the smaller class is a sensible one. The interval of a rate of 0 begins at 0.
    """
    spread = logit(np.clip(replicates, least, 1 - least)).std(ddof=1) * np.sqrt(speakers / (speakers - 1))
    centre = logit(np.clip(rate, least, 1 - least))
    half = float(student.ppf((1 + level) / 2, speakers - 1)) * spread
    low, high = float(expit(centre - half)), float(expit(centre + half))
    return Interval(min(low, rate) if rate > 0 else 0.0, max(high, rate) if rate < 1 else 1.0)


def paired_difference(
    rates: tuple[float, float],
    replicates: tuple[NDArray[np.float64], NDArray[np.float64]],
    speakers: int,
    level: float = 0.95,
) -> Difference:
    """The first rate minus the second, with a test whether they differ (paired bootstrap over speakers).

    Both systems' replicates must come from the same draws: one trial list, one seed. As the draws are shared, what
    makes a corpus hard for both cancels. Student's quantile and the widening are those of ``confidence_interval``.
    """
    difference = rates[0] - rates[1]
    spread = float((replicates[0] - replicates[1]).std(ddof=1)) * np.sqrt(speakers / (speakers - 1))
    if spread == 0:
        return Difference(difference, Interval(difference, difference), 1.0 if difference == 0 else 0.0)
    half = float(student.ppf((1 + level) / 2, speakers - 1)) * spread
    p_value = 2 * float(student.sf(abs(difference) / spread, speakers - 1))
    return Difference(difference, Interval(difference - half, difference + half), p_value)
