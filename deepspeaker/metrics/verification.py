"""Error rates of speaker verification: DET curve, equal error rate (EER) and minimum detection cost (minDCF).

A trial is accepted if its score is at least the threshold. `det_points` sorts the scores once. The other functions take
the curve that it returns:

>>> points = det_points([0.9, 0.7, 0.4], [0.6, 0.3, 0.2, 0.1])
>>> equal_error_rate(points)
(0.25, 0.6)
>>> round(min_dcf(points, p_target=0.01), 3)
0.333
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspeaker.errors import InputError
from deepspeaker.metrics.checks import Scores, check_costs, sorted_scores

#: Target priors for which detection costs are reported.
P_TARGETS = (0.05, 0.01, 0.001)


@dataclass(frozen=True, eq=False)
class DetPoints:
    """The operating points at which a DET curve turns, by ascending threshold.

    The first point accepts every trial (miss rate 0, false-alarm rate 1), the last rejects every trial. Neighbouring
    points differ.

    Attributes
    ----------
    thresholds : ndarray of shape (n_points,)
        In the precision of the scores. Each threshold is the score of a trial, except the last, which is ``inf``.
    p_miss : ndarray of shape (n_points,)
        Fraction of target trials that score below the threshold.
    p_fa : ndarray of shape (n_points,)
        Fraction of non-target trials that score at or above the threshold.

    Notes
    -----
    The exact curve is the line through these points. Operating points are omitted where they lie on a straight piece,
    that is, where one of the rates is constant. An array has therefore at most ``2 * n_distinct_target_scores + 4``
    entries, however many non-target trials there are.
    """

    thresholds: Scores
    p_miss: NDArray[np.float64]
    p_fa: NDArray[np.float64]


class OperatingPoint(NamedTuple):
    """A threshold and the error rates, as fractions, that result from it."""

    threshold: float
    p_miss: float
    p_fa: float


def det_points(target_scores: ArrayLike, nontarget_scores: ArrayLike, *, overwrite_input: bool = False) -> DetPoints:
    """Return the exact DET curve of scored trials.

    Tied scores are accepted or rejected together.

    Parameters
    ----------
    target_scores : array_like
        Scores of same-speaker trials, of any shape, with at least one entry. Infinite scores are allowed and rank below
        or above all others. If both classes are float32, the thresholds are float32 too.
    nontarget_scores : array_like
        Scores of different-speaker trials, likewise.
    overwrite_input : bool, default=False
        Sort the arrays in place. This saves a copy if both arrays are float32 or both are float64, but destroys their
        order.

    Returns
    -------
    DetPoints
        The curve. The two operating points around the equal error rate are always among its points.

    Raises
    ------
    InputError
        If a class has no trial or a score is NaN.

    See Also
    --------
    equal_error_rate : Where the curve crosses ``p_miss = p_fa``.
    min_dcf : The lowest detection cost on the curve.
    false_acceptance_point : The point of the curve at a given false-acceptance rate.

    Notes
    -----
    Each class is sorted separately, without an index array or a label per score. The function needs the memory of one
    copy of the scores and O(n log n) time for n trials.

    References
    ----------
    .. [1] A. Martin, G. Doddington, T. Kamm, M. Ordowski and M. Przybocki, "The DET curve in assessment of detection
       task performance", Eurospeech 1997.

    Examples
    --------
    >>> points = det_points([0.9, 0.7, 0.4], [0.6, 0.3, 0.2, 0.1])
    >>> points.thresholds.tolist()
    [0.1, 0.4, 0.6, 0.7, 0.9, inf]
    >>> points.p_fa.tolist()
    [1.0, 0.25, 0.25, 0.0, 0.0, 0.0]
    """
    targets, nontargets = sorted_scores(target_scores, nontarget_scores, overwrite_input=overwrite_input)
    n_targets, n_nontargets = len(targets), len(nontargets)

    # The miss rate changes only at target scores. The curve can therefore turn only where a target score is just
    # accepted (threshold at the score) or just rejected (threshold at the next higher score of either class).
    first = np.append(True, targets[1:] != targets[:-1])
    distinct = targets[first]
    missed_at = np.flatnonzero(first)
    rejected_at, rejected_above = _ranks(distinct, nontargets)
    following = np.append(distinct[1:], np.inf)
    inside = rejected_above < n_nontargets
    following[inside] = np.minimum(following[inside], nontargets[rejected_above[inside]])
    lowest = min(targets[0], nontargets[0])
    thresholds = np.concatenate(([lowest], _interleaved(distinct, following), [np.inf]), dtype=targets.dtype)
    missed = np.concatenate(([0], _interleaved(missed_at, np.append(missed_at[1:], n_targets)), [n_targets]))
    rejected = np.concatenate(([0], _interleaved(rejected_at, rejected_above), [n_nontargets]))

    # If the equal error rate lies within a straight piece of non-target scores, add the points on either side of it:
    # one of them has the threshold. "Miss rate <= false-alarm rate" in integers is exact.
    balance = missed * n_nontargets + rejected * n_targets - n_targets * n_nontargets
    before = int(np.searchsorted(balance, 0, side="right")) - 1
    if missed[before] == missed[before + 1]:
        rank = n_nontargets * (n_targets - int(missed[before])) // n_targets
        score = nontargets[rank : rank + 1]
        below, above = (int(count[0]) for count in _ranks(score, nontargets))
        # The next higher score of either class. The piece ends at the next target score at the latest.
        higher = thresholds[before + 1] if above == rejected[before + 1] else nontargets[above]
        thresholds = np.insert(thresholds, before + 1, (score[0], higher))
        missed = np.insert(missed, before + 1, (missed[before], missed[before]))
        rejected = np.insert(rejected, before + 1, (below, above))

    new = np.append(True, (missed[1:] != missed[:-1]) | (rejected[1:] != rejected[:-1]))
    return DetPoints(
        thresholds=thresholds[new],
        p_miss=missed[new] / n_targets,
        p_fa=(n_nontargets - rejected[new]) / n_nontargets,
    )


def equal_error_rate(points: DetPoints) -> tuple[float, float]:
    """Return the equal error rate (EER) and the threshold nearest to it.

    The EER is the rate at which misses and false alarms are equally frequent.

    Parameters
    ----------
    points : DetPoints
        The curve from `det_points`.

    Returns
    -------
    rate : float
        The EER as a fraction between 0 and 1.
    threshold : float
        The score of a trial. Of the operating points a and b below, it is the threshold of the one with the smaller
        ``abs(p_miss - p_fa)``, or of a if both are equally near.

    See Also
    --------
    det_points : Compute the curve.
    min_dcf : The lowest detection cost, a metric for unequal priors or costs.

    Notes
    -----
    The EER is where the line through the operating points (p_fa, p_miss) crosses p_miss = p_fa. With
    d = p_miss - p_fa, a the last point with d <= 0 and b the next one::

        EER = p_miss[a] + (p_miss[b] - p_miss[a]) * d[a] / (d[a] - d[b])

    On this line, a group of tied scores counts as it does on average when ties are broken at random [1]_. If all scores
    are equal, the EER is therefore 0.5. The EER depends only on the order of the scores: a strictly increasing map that
    keeps ties leaves it bit-identical. It is not the EER of the convex hull (ROCCH-EER), which is never higher.

    References
    ----------
    .. [1] T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27(8), 861-874, 2006.

    Examples
    --------
    >>> equal_error_rate(det_points([2.0, 3.0], [0.0, 1.0]))
    (0.0, 2.0)
    >>> equal_error_rate(det_points([1.0, 1.0], [1.0]))
    (0.5, 1.0)
    """
    difference = points.p_miss - points.p_fa
    a = int(np.searchsorted(difference, 0.0, side="right")) - 1
    b = a + 1
    fraction = difference[a] / (difference[a] - difference[b])
    rate = points.p_miss[a] + (points.p_miss[b] - points.p_miss[a]) * fraction
    nearest = a if -difference[a] <= difference[b] else b
    return float(rate), float(points.thresholds[nearest])


def min_dcf(points: DetPoints, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Return the minimum of the normalised detection cost over all thresholds (minDCF).

    Parameters
    ----------
    points : DetPoints
        The curve from `det_points`.
    p_target : float
        Prior probability of a target trial, between 0 and 1, both excluded.
    c_miss, c_fa : float, default=1.0
        Costs of a miss and of a false alarm, above 0.

    Returns
    -------
    float
        The cost, between 0 (no errors) and 1 (no better than accepting all trials or rejecting all trials).

    Raises
    ------
    InputError
        If the prior or a cost is out of range.

    See Also
    --------
    min_dcf_point : The threshold and error rates at this cost.
    act_dcf : The cost at the threshold that the prior and the costs imply for log-likelihood ratios.

    Notes
    -----
    The detection cost at threshold t is::

        C(t) = c_miss * p_target * p_miss(t) + c_fa * (1 - p_target) * p_fa(t)

    Its minimum is divided by ``min(c_miss * p_target, c_fa * (1 - p_target))``, the lower cost of the two systems that
    ignore the speech, as in the NIST evaluations [1]_.

    References
    ----------
    .. [1] NIST 2016 Speaker Recognition Evaluation Plan.

    Examples
    --------
    >>> points = det_points([0.9, 0.7, 0.4], [0.6, 0.3, 0.2, 0.1])
    >>> round(min_dcf(points, p_target=0.01), 4)
    0.3333
    """
    _, p_miss, p_fa = min_dcf_point(points, p_target, c_miss, c_fa)
    miss_weight, fa_weight = c_miss * p_target, c_fa * (1 - p_target)
    return (miss_weight * p_miss + fa_weight * p_fa) / min(miss_weight, fa_weight)


def min_dcf_point(points: DetPoints, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> OperatingPoint:
    """Return the operating point with the lowest detection cost.

    If several points have the lowest cost, it is the one with the lowest threshold.

    Parameters
    ----------
    points : DetPoints
        The curve from `det_points`.
    p_target : float
        Prior probability of a target trial, between 0 and 1, both excluded.
    c_miss, c_fa : float, default=1.0
        Costs of a miss and of a false alarm, above 0.

    Returns
    -------
    OperatingPoint
        Threshold, miss rate and false-alarm rate. The threshold is ``inf`` if rejecting every trial costs least.

    Raises
    ------
    InputError
        If the prior or a cost is out of range.

    See Also
    --------
    min_dcf : The normalised cost at this point.

    Examples
    --------
    >>> min_dcf_point(det_points([0.9, 0.7, 0.4], [0.6, 0.3, 0.2, 0.1]), p_target=0.5)
    OperatingPoint(threshold=0.4, p_miss=0.0, p_fa=0.25)
    """
    check_costs(p_target, c_miss, c_fa)
    best = int(np.argmin(c_miss * p_target * points.p_miss + c_fa * (1 - p_target) * points.p_fa))
    return OperatingPoint(float(points.thresholds[best]), float(points.p_miss[best]), float(points.p_fa[best]))


def false_acceptance_point(points: DetPoints, rate: float) -> OperatingPoint:
    """Return the operating point with the fewest misses whose false-acceptance rate is at most `rate`.

    Parameters
    ----------
    points : DetPoints
        The curve from `det_points`.
    rate : float
        The highest acceptable fraction of accepted non-target trials, from 0 to 1.

    Returns
    -------
    OperatingPoint
        Threshold, miss rate and false-alarm rate. The threshold is ``inf`` if only rejecting every trial keeps to the
        rate.

    Raises
    ------
    InputError
        If the rate is not between 0 and 1.

    See Also
    --------
    det_points : Compute the curve.

    Examples
    --------
    >>> false_acceptance_point(det_points([0.9, 0.7, 0.4], [0.6, 0.3, 0.2, 0.1]), rate=0.1)
    OperatingPoint(threshold=0.7, p_miss=0.3333333333333333, p_fa=0.0)
    """
    if not 0 <= rate <= 1:
        raise InputError(f"the false-acceptance rate is {rate}; give a rate between 0 and 1")
    at = int(np.argmax(points.p_fa <= rate))  # true at the last point at the latest, where p_fa is 0
    return OperatingPoint(float(points.thresholds[at]), float(points.p_miss[at]), float(points.p_fa[at]))


def _ranks(values: Scores, ascending: Scores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each value how many of the ascending scores are below it, and how many are not above it."""
    above = np.searchsorted(ascending, values, side="right")
    below = above.copy()
    # The search takes as long as the rest of a DET curve. Repeat it only for scores that are tied.
    tied = np.flatnonzero((above > 0) & (ascending[above - 1] == values))
    below[tied] = np.searchsorted(ascending, values[tied])
    return below, above


def _interleaved(even: NDArray[Any], odd: NDArray[Any]) -> NDArray[Any]:
    return np.stack((even, odd), axis=1).ravel()
