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
from deepspeaker.metrics.verification import DetPoints

#: With more trials than this, scores are counted in about ``_BINS`` bins.
MAX_EXACT_TRIALS = 10**7
_BINS = 1000

#: A DET curve is computed at about this many coarse points, and at others only where an error rate may lie.
_COARSE_POINTS = 512

#: Draws are evaluated in batches with at most this many values in memory.
_BATCH_VALUES = 2**24
#: The same between two coarse points, so that they stay in the processor's cache.
_BLOCK_VALUES = 2**16

_NO_TRIAL = "a bootstrap replicate has no trial of one class; use a list with more speakers"


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
    >>> from deepspeaker.metrics import equal_error_rate
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
        first, second = np.divmod(self._pair, self.speakers)
        missed = _sums(weights[self._target_speaker])[self._missed]
        rejected = _sums(weights[first] * weights[second])[self._rejected]
        if not missed[-1] * rejected[-1]:
            raise InputError(_NO_TRIAL)
        return DetPoints(self._thresholds, missed / missed[-1], (rejected[-1] - rejected) / rejected[-1])

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
        batches = (weights[first : first + batch] for first in range(0, number, batch))
        table = np.concatenate([self._rates(drawn, p_targets) for drawn in batches])
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
            raise InputError(_NO_TRIAL)
        return missed, below

    def _rates(self, weights: NDArray[np.float64], p_targets: Sequence[float]) -> NDArray[np.float64]:
        """Return the EER and the minDCF of each draw, (draws, 1 + priors).

        They are those of the whole curves. The points between two coarse ones are computed for the draws whose EER or
        lowest cost may lie there.
        """
        missed, below = self._coarse_weights(weights)
        p_miss, p_fa = missed / missed[:, -1:], (below[:, -1:] - below) / below[:, -1:]
        draws = np.arange(len(weights))
        crossing = (p_miss <= p_fa).sum(axis=1) - 1  # the last coarse point before the EER
        around = [rate[draws, crossing + step] for step in (0, 1) for rate in (p_miss, p_fa)]
        refined = np.zeros((len(weights), len(self._coarse) - 1), dtype=bool)
        refined[draws, crossing] = True
        costs = []
        for p in p_targets:
            costs.append((p * p_miss + (1 - p) * p_fa).min(axis=1))
            # No point costs less than the misses of the coarse point before it and the false alarms of the one after.
            refined |= p * p_miss[:, :-1] + (1 - p) * p_fa[:, 1:] < costs[-1][:, None]
        refined &= np.diff(self._coarse) > 1
        of_speaker = np.ascontiguousarray(weights.T)
        for begin in np.flatnonzero(refined.any(axis=0)).tolist():
            points = slice(self._coarse[begin], self._coarse[begin + 1] + 1)
            targets, nontargets = self._missed[points], self._rejected[points]
            first, second = np.divmod(self._pair[nontargets[0] : nontargets[-1]], self.speakers)
            speaker = self._target_speaker[targets[0] : targets[-1]]
            here = np.flatnonzero(refined[:, begin])
            size = max(1, _BLOCK_VALUES // (1 + max(len(first), len(speaker))))
            for chosen in (here[at : at + size] for at in range(0, len(here), size)):
                drawn, all_missed, all_below = of_speaker[:, chosen], missed[chosen, -1], below[chosen, -1]
                rejected = missed[chosen, begin] + _sums(drawn[speaker])[targets - targets[0]]
                miss = rejected / all_missed
                rejected = below[chosen, begin] + _sums(drawn[first] * drawn[second])[nontargets - nontargets[0]]
                fa = (all_below - rejected) / all_below
                for p, cost in zip(p_targets, costs, strict=True):
                    cost[chosen] = np.minimum(cost[chosen], (p * miss + (1 - p) * fa).min(axis=0))
                crossed = np.flatnonzero(crossing[chosen] == begin)
                last = (miss <= fa)[:, crossed].sum(axis=0) - 1
                for rate, step, values in zip(around, (0, 0, 1, 1), (miss, fa, miss, fa), strict=True):
                    rate[chosen[crossed]] = values[last + step, crossed]
        miss_a, fa_a, miss_b, fa_b = around
        difference_a, difference_b = miss_a - fa_a, miss_b - fa_b
        eer = miss_a + (miss_b - miss_a) * (difference_a / (difference_a - difference_b))  # as in equal_error_rate
        return np.stack([eer, *(cost / min(p, 1 - p) for p, cost in zip(p_targets, costs, strict=True))], axis=1)


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of the first 0, 1, ... values, along the first axis."""
    sums = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=sums[1:])
    return sums


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
