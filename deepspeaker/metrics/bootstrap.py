"""Uncertainty of error rates: bootstrap over speakers.

Trials of the same speaker are not independent, so the bootstrap draws whole speakers with replacement. If speaker i is
drawn w_i times, a target trial of i counts w_i times, and a non-target trial of i and j counts w_i * w_j times.
"""

from __future__ import annotations

from collections.abc import Sequence
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

#: A DET curve is computed at about this many coarse points, and at others only where an error rate may lie.
_COARSE_POINTS = 512

#: Draws are evaluated in batches with at most this many values in memory.
_BATCH_VALUES = 2**24


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
        distinct = targets[last]
        # Sort the non-target trials into cells. Even cells are the gaps between distinct target scores, odd ones ties.
        nontargets = values[~labels]
        at = np.searchsorted(distinct, nontargets)
        nearest = distinct[np.minimum(at, len(distinct) - 1)]
        cell = 2 * at + ((at < len(distinct)) & (nearest == nontargets))
        # Cell and pair of speakers as one number: to sort numbers is faster than to sort indices.
        pairs = self.speakers**2
        key = cell * pairs + (enrolment[~labels].astype(np.int64) * self.speakers + test[~labels])
        key.sort()
        # Point k of the curve rejects the non-target trials before cell k, and the targets below distinct score k // 2.
        points = np.arange(2 * len(distinct) + 2)
        self._rejected = np.searchsorted(key, points * pairs)
        self._missed = np.concatenate([[0], np.flatnonzero(last) + 1])[points // 2]
        self._thresholds = np.concatenate([[-np.inf], np.repeat(distinct, 2)[1:], [np.inf, np.inf]])
        self._pair = np.remainder(key, pairs, out=key)
        self._coarse = points if self._binned else _coarse_points(self._rejected)
        # How many trials of each speaker, and of each pair of speakers, are between two coarse points.
        between = np.repeat(np.arange(len(self._coarse) - 1), np.diff(self._missed[self._coarse]))
        self._targets_between = np.zeros((self.speakers, len(self._coarse) - 1))
        np.add.at(self._targets_between, (self._target_speaker, between), 1.0)
        if not self._binned:
            from scipy.sparse import csr_array

            trials = np.ones(len(self._pair)), self._pair, self._rejected[self._coarse]
            self._nontargets_between = csr_array(trials, (len(self._coarse) - 1, pairs)).tocsc()
            self._nontargets_between.sum_duplicates()

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
        missed, below = self._coarse_weights(weights[None])
        return self._points(weights, missed[0], below[0], np.diff(self._coarse) > 1)

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
        size = max(len(self._coarse), self.speakers**2)
        batch = number if self._binned else max(1, _BATCH_VALUES // size)
        rows: list[tuple[float, ...]] = []
        for first in range(0, number, batch):
            drawn = weights[first : first + batch]
            missed, below = self._coarse_weights(drawn)
            curves = map(self._points, drawn, missed, below, self._refined(missed, below, p_targets))
            rows += [(equal_error_rate(points)[0], *(min_dcf(points, p) for p in p_targets)) for points in curves]
        table = np.array(rows).reshape(number, 1 + len(p_targets))
        return Replicates(table[:, 0], table[:, 1:])

    def interval(self, rate: float, replicates: NDArray[np.float64], level: float = 0.95) -> Interval:
        """Return the `confidence_interval` of a rate on this trial list."""
        return confidence_interval(rate, replicates, self.speakers, self._min_rate, level)

    def _coarse_weights(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weights of the rejected targets and non-targets at the coarse points, each (draws, points).

        Without bins, they are sums of integers, so they are exact.
        """
        missed, below = (np.zeros((len(weights), len(self._coarse))) for _ in range(2))
        np.cumsum(weights @ self._targets_between, axis=1, out=missed[:, 1:])
        if self._binned:
            # The weight of a cell is a quadratic form: the draw's weights times its counts of speaker pairs.
            single = weights.astype(np.float32)
            for cell in np.flatnonzero(np.diff(self._rejected)).tolist():
                pair = self._pair[self._rejected[cell] : self._rejected[cell + 1]]
                counts = np.bincount(pair, minlength=self.speakers**2).astype(np.float32)
                products = single @ counts.reshape(self.speakers, self.speakers)
                below[:, cell + 1] = np.einsum("ds,ds->d", products, single, dtype=np.float64)
            below = np.cumsum(below, axis=1)
        else:
            of_pair = (weights.T[:, None] * weights.T).reshape(-1, len(weights))
            np.cumsum((self._nontargets_between @ of_pair).T, axis=1, out=below[:, 1:])
        if not (missed[:, -1] * below[:, -1]).all():
            raise InputError("a bootstrap replicate has no trial of one class; use a list with more speakers")
        return missed, below

    def _refined(
        self, missed: NDArray[np.float64], below: NDArray[np.float64], p_targets: Sequence[float]
    ) -> NDArray[np.bool_]:
        """Return between which coarse points the EER or a minimum cost may lie, (draws, points - 1)."""
        p_miss, p_fa = missed / missed[:, -1:], (below[:, -1:] - below) / below[:, -1:]
        refined = np.zeros((len(missed), len(self._coarse) - 1), dtype=bool)
        refined[np.arange(len(missed)), (p_miss <= p_fa).sum(axis=1) - 1] = True
        for p in p_targets:
            # No point costs less than the misses of the coarse point before it and the false alarms of the one after.
            lowest = (p * p_miss + (1 - p) * p_fa).min(axis=1, keepdims=True)
            refined |= p * p_miss[:, :-1] + (1 - p) * p_fa[:, 1:] < lowest
        return refined & (np.diff(self._coarse) > 1)

    def _points(
        self,
        weights: NDArray[np.float64],
        missed: NDArray[np.float64],
        below: NDArray[np.float64],
        refined: NDArray[np.bool_],
    ) -> DetPoints:
        """Return the curve at the coarse points, and at all points between those that are ``refined``."""
        pieces, done = [], 0
        of_pair = np.outer(weights, weights).ravel()
        for begin, end in np.flatnonzero(np.diff(refined, prepend=False, append=False)).reshape(-1, 2).tolist():
            points = slice(self._coarse[begin], self._coarse[end])
            of_targets = weights[self._target_speaker[self._missed[points.start] : self._missed[points.stop]]]
            of_nontargets = of_pair[self._pair[self._rejected[points.start] : self._rejected[points.stop]]]
            pieces.append((self._thresholds[self._coarse[done:begin]], missed[done:begin], below[done:begin]))
            pieces.append(
                (
                    self._thresholds[points],
                    missed[begin] + _sums(of_targets, self._missed[points]),
                    below[begin] + _sums(of_nontargets, self._rejected[points]),
                )
            )
            done = end
        pieces.append((self._thresholds[self._coarse[done:]], missed[done:], below[done:]))
        thresholds, rejected_targets, rejected = (np.concatenate(piece) for piece in zip(*pieces, strict=True))
        return DetPoints(thresholds, rejected_targets / missed[-1], (below[-1] - rejected) / below[-1])


def _sums(values: NDArray[np.float64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sums of the values before each of ascending ``ends``, which are counted from the first."""
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, out=sums[1:])
    return np.asarray(sums[ends - ends[0]])


def _coarse_points(rejected: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return points of a curve that are evenly spread over targets and over non-targets, the first and the last too."""
    last = len(rejected) - 1
    by_target = np.linspace(0, last, _COARSE_POINTS // 4).astype(np.int64)
    by_nontarget = np.searchsorted(rejected, np.linspace(0, rejected[-1], _COARSE_POINTS // 4), side="right") - 1
    # With the next point too, a cell of many trials is alone between two points.
    return np.unique(np.concatenate([by_target, by_nontarget, np.minimum(by_nontarget + 1, last)]))


def _edges(targets: Scores, nontargets: Scores) -> Scores:
    """Return ascending bin edges: quantiles of the target scores, and of the upper tail of the non-target scores."""
    tail = 1 - np.logspace(-6, 0, _BINS // 2)
    edges = [np.quantile(targets, np.linspace(0, 1, _BINS // 2)), np.quantile(nontargets, tail)]
    lowest = min(float(targets.min()), float(nontargets.min()))
    return np.unique(np.concatenate([[lowest], *edges]).astype(targets.dtype))
