"""Uncertainty of error rates: bootstrap over speakers.

Trials of the same speaker are not independent, so the bootstrap draws whole speakers with replacement. If speaker i is
drawn w_i times, a target trial of i counts w_i times, and a non-target trial of i and j counts w_i * w_j times.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspeaker.errors import InputError
from deepspeaker.metrics.checks import Scores
from deepspeaker.metrics.intervals import Interval, confidence_interval
from deepspeaker.metrics.verification import DetPoints, equal_error_rate, min_dcf

#: With more trials than this, scores are counted in about ``_BINS`` bins.
MAX_EXACT_TRIALS = 10**7
_BINS = 1000

#: Draws are evaluated in batches with at most this many values in memory, by at most so many threads at once.
_BATCH_VALUES = 2**24
_THREADS = min(4, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, eq=False)
class Replicates:
    """The error rates of all bootstrap replicates.

    Attributes
    ----------
    eer : ndarray of shape (n_replicates,)
        Equal error rates, as fractions.
    min_dcf : ndarray of shape (n_replicates, n_priors)
        Minimum detection costs, one column per target prior.
    """

    eer: NDArray[np.float64]
    min_dcf: NDArray[np.float64]


class SpeakerBootstrap:
    """Error rates of a trial list under resampling of its speakers.

    Parameters
    ----------
    scores : array_like of shape (n_trials,)
        Scores of the trials. float32 stays float32.
    is_target : array_like of bool of shape (n_trials,)
        Whether a trial is a target trial.
    enrolment_speaker, test_speaker : array_like of int of shape (n_trials,)
        Number of the speaker on each side, from 0. The two are equal for a target trial.

    Attributes
    ----------
    speakers : int
        Number of speakers.

    Raises
    ------
    InputError
        If a class has no trial, a score is NaN, or fewer than two speakers have target trials.

    See Also
    --------
    confidence_interval : The interval of a rate from its replicates.
    paired_difference : Compare two systems on one trial list.

    Notes
    -----
    Up to ten million trials, every score counts exactly. Scores of larger lists are counted in about a thousand bins,
    narrow where either class has its operating points.

    References
    ----------
    .. [1] R. M. Bolle, N. K. Ratha and S. Pankanti, "Error analysis of pattern recognition systems: the subsets
       bootstrap", Computer Vision and Image Understanding 93(1), 1-33, 2004.

    Examples
    --------
    All pairs of the utterances of 20 speakers, three each:

    >>> import numpy as np
    >>> generator = np.random.default_rng(0)
    >>> speaker = np.repeat(np.arange(20), 3)
    >>> embeddings = generator.normal(size=(20, 8))[speaker] + 0.8 * generator.normal(size=(60, 8))
    >>> first, second = np.triu_indices(60, 1)
    >>> scores = (embeddings[first] * embeddings[second]).sum(axis=1)
    >>> is_target = speaker[first] == speaker[second]
    >>> bootstrap = SpeakerBootstrap(scores, is_target, speaker[first], speaker[second])
    >>> eer, _ = equal_error_rate(bootstrap.points(np.ones(20)))
    >>> low, high = bootstrap.interval(eer, bootstrap.replicates(200, seed=0).eer)
    >>> f"{eer:.3f} [{low:.2f}, {high:.2f}]"
    '0.182 [0.13, 0.25]'
    """

    def __init__(
        self, scores: ArrayLike, is_target: ArrayLike, enrolment_speaker: ArrayLike, test_speaker: ArrayLike
    ) -> None:
        values, labels = np.asarray(scores), np.asarray(is_target, dtype=bool)
        enrolment, test = np.asarray(enrolment_speaker), np.asarray(test_speaker)
        if np.isnan(values).any():
            raise InputError(f"{int(np.isnan(values).sum())} scores are NaN; check for embeddings that are NaN or zero")
        if labels.all() or not labels.any():
            raise InputError("error rates need target and non-target trials")
        self.speakers = int(max(enrolment.max(), test.max())) + 1
        self._min_rate = 0.5 / min(int(labels.sum()), int((~labels).sum()))
        if len(np.unique(enrolment[labels])) < 2:
            raise InputError("a bootstrap over speakers needs target trials of at least two speakers")
        self._binned = len(values) > MAX_EXACT_TRIALS
        if self._binned:
            edges = _edges(values[labels], values[~labels])
            values = edges[np.maximum(np.searchsorted(edges, values, side="right") - 1, 0)]
        order = np.flatnonzero(labels)[np.argsort(values[labels], kind="stable")]
        targets = values[order]
        self._target_speaker = enrolment[order]
        # A DET curve has corners only at target scores: with the threshold at the score, and just above it.
        last = np.append(targets[1:] != targets[:-1], True)
        self._miss_end = np.concatenate([[0], np.flatnonzero(last) + 1])
        self._distinct = targets[last]
        # Sort the non-target trials into cells. Even cells are the gaps between distinct target scores, odd ones ties.
        nontargets = values[~labels]
        at = np.searchsorted(self._distinct, nontargets)
        nearest = self._distinct[np.minimum(at, len(self._distinct) - 1)]
        cell = 2 * at + ((at < len(self._distinct)) & (nearest == nontargets))
        order = np.argsort(cell, kind="stable")
        self._cell_begin = np.searchsorted(cell[order], np.arange(2 * len(self._distinct) + 2))
        self._pair = enrolment[~labels][order].astype(np.int64) * self.speakers + test[~labels][order]
        if not self._binned:
            from scipy.sparse import csr_array

            # A row for each cell with a one for each of its trials, in the column of its pair of speakers.
            shape = (len(self._cell_begin) - 1, self.speakers**2)
            self._trials = csr_array((np.ones(len(self._pair)), self._pair, self._cell_begin), shape)

    def points(self, weights: NDArray[np.float64]) -> DetPoints:
        """Return the DET curve of weighted speakers.

        Parameters
        ----------
        weights : ndarray of shape (n_speakers,)
            How often each speaker counts.

        Returns
        -------
        DetPoints
            The curve. Its thresholds are target scores.

        Raises
        ------
        InputError
            If no trial of a class has a weight above 0.
        """
        return self._points(weights, self._nontarget_weight_below(weights[None])[0])

    def replicates(self, number: int = 1000, seed: int = 0, p_targets: Sequence[float] = ()) -> Replicates:
        """Return the EER and minDCF of bootstrap replicates.

        Parameters
        ----------
        number : int, default=1000
            Number of replicates. Each draws as many speakers as there are, with replacement.
        seed : int, default=0
            The replicates depend on nothing else.
        p_targets : sequence of float
            Target priors of the detection costs.

        Returns
        -------
        Replicates
            The error rates.

        Raises
        ------
        InputError
            If a replicate has no non-target trial.
        """
        generator = np.random.default_rng(seed)
        weights = np.empty((number, self.speakers))
        for draw in weights:
            while True:
                draw[:] = np.bincount(generator.integers(0, self.speakers, self.speakers), minlength=self.speakers)
                if np.count_nonzero(draw) > 1 and draw[self._target_speaker].any():
                    break
        batch = number if self._binned else max(1, _BATCH_VALUES // max(len(self._cell_begin), self.speakers**2))

        def rates(first: int) -> list[tuple[float, ...]]:
            drawn = weights[first : first + batch]
            curves = (self._points(*draw) for draw in zip(drawn, self._nontarget_weight_below(drawn), strict=True))
            return [(equal_error_rate(points)[0], *(min_dcf(points, p) for p in p_targets)) for points in curves]

        # numpy works on long arrays in several threads at once; a short list is a single batch.
        with ThreadPoolExecutor(_THREADS) as pool:
            rows = [row for part in pool.map(rates, range(0, number, batch)) for row in part]
        table = np.array(rows).reshape(number, 1 + len(p_targets))
        return Replicates(table[:, 0], table[:, 1:])

    def interval(self, rate: float, replicates: NDArray[np.float64], level: float = 0.95) -> Interval:
        """Return the `confidence_interval` of a rate on this trial list."""
        return confidence_interval(rate, replicates, self.speakers, self._min_rate, level)

    def _nontarget_weight_below(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each row of weights (draws, speakers) the weight of the non-target trials below each cell."""
        if not self._binned:
            of_pair = (weights[:, :, None] * weights[:, None, :]).reshape(len(weights), -1)
            below = np.zeros((len(weights), len(self._cell_begin)))
            np.cumsum((self._trials @ of_pair.T).T, axis=1, out=below[:, 1:])  # sums of integers, so they are exact
            return below
        # The weight of a cell is a quadratic form: the draw's weights times its counts of speaker pairs.
        below = np.zeros((len(weights), len(self._cell_begin)))
        single = weights.astype(np.float32)
        for cell in range(len(self._cell_begin) - 1):
            pair = self._pair[self._cell_begin[cell] : self._cell_begin[cell + 1]]
            counts = np.bincount(pair, minlength=self.speakers**2).astype(np.float32)
            products = single @ counts.reshape(self.speakers, self.speakers)
            below[:, cell + 1] = np.einsum("ds,ds->d", products, single, dtype=np.float64) if len(pair) else 0.0
        return np.cumsum(below, axis=1)

    def _points(self, weights: NDArray[np.float64], below: NDArray[np.float64]) -> DetPoints:
        missed = np.concatenate([[0.0], np.cumsum(weights[self._target_speaker])])[self._miss_end]
        n_target, n_nontarget = missed[-1], below[-1]
        if n_target == 0 or n_nontarget == 0:
            raise InputError("a bootstrap replicate has no trial of one class; use a list with more speakers")
        # Distinct target score k is accepted with everything at it (rejecting the cells before 2k+1), or rejected
        # (with the cells before 2k+2).
        count = len(self._distinct)
        p_miss, p_fa, thresholds = (np.empty(2 * count + 2) for _ in range(3))
        p_miss[0], p_miss[1:-1:2], p_miss[2:-1:2], p_miss[-1] = 0.0, missed[:-1], missed[1:], n_target
        accepted = n_nontarget - below
        p_fa[0], p_fa[-1] = n_nontarget, 0.0
        p_fa[1:-1:2], p_fa[2:-1:2] = accepted[1 : 2 * count : 2], accepted[2 : 2 * count + 1 : 2]
        thresholds[0], thresholds[-1] = -np.inf, np.inf
        thresholds[1:-1:2], thresholds[2:-1:2] = self._distinct, np.append(self._distinct[1:], np.inf)
        return DetPoints(thresholds, p_miss / n_target, p_fa / n_nontarget)


def _edges(targets: Scores, nontargets: Scores) -> Scores:
    """Return ascending bin edges: quantiles of the target scores, and of the upper tail of the non-target scores."""
    tail = 1 - np.logspace(-6, 0, _BINS // 2)
    edges = [np.quantile(targets, np.linspace(0, 1, _BINS // 2)), np.quantile(nontargets, tail)]
    lowest = min(float(targets.min()), float(nontargets.min()))
    return np.unique(np.concatenate([[lowest], *edges]).astype(targets.dtype))
