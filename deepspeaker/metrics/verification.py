"""Error rates of speaker verification: the DET curve, the equal error rate and the minimum detection cost.

A trial is accepted when its score is at least the threshold. `det_points` sorts the scores once; the other
functions read what it returns::

    points = det_points(target_scores, nontarget_scores)
    eer, threshold = equal_error_rate(points)
    cost = min_dcf(points, p_target=0.01)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspeaker.errors import InputError

Scores = NDArray[np.floating[Any]]

#: The target priors of the detection costs that tables show.
P_TARGETS = (0.05, 0.01, 0.001)


@dataclass(frozen=True, eq=False)
class DetPoints:
    """The operating points at which a DET curve turns, by ascending threshold.

    All three arrays have the same shape ``(n,)``. The first point accepts every trial (miss rate 0,
    false-alarm rate 1), the last none; its threshold is ``inf``. Neighbours differ, and the exact curve is
    the line through them: the operating points left out lie on a straight piece, where one rate stands still.
    So the arrays have at most ``2 * distinct target scores + 4`` entries, however many non-target trials
    there are.
    """

    thresholds: Scores
    """In the precision of the scores; every one but the last is the score of a trial."""
    p_miss: NDArray[np.float64]
    """Share of the target trials with a score below the threshold."""
    p_fa: NDArray[np.float64]
    """Share of the non-target trials with a score at or above the threshold."""


class OperatingPoint(NamedTuple):
    """A threshold and the two error rates (fractions) that it leads to."""

    threshold: float
    p_miss: float
    p_fa: float


def det_points(
    target_scores: ArrayLike, nontarget_scores: ArrayLike, *, overwrite_input: bool = False
) -> DetPoints:
    """The exact DET curve of scored trials; tied scores are accepted or rejected together.

    Args:
        target_scores: scores of same-speaker trials, any shape with at least one entry; float32 stays
            float32. Infinite scores are allowed and rank below or above all others.
        nontarget_scores: scores of different-speaker trials, likewise.
        overwrite_input: sorts the arrays where they lie, which spares a copy of them where they are float32 or
            float64 both; their order is lost.

    Returns:
        The curve; the two operating points around equal error are always among its points.

    Raises:
        InputError: a class has no trial, or scores are NaN.

    Each class is sorted by itself, in one copy, which needs neither an index array nor a label beside the
    score: memory is that of the scores once more, and the time is that of the sort.
    """
    targets, nontargets = sorted_scores(target_scores, nontarget_scores, overwrite_input=overwrite_input)
    n_targets, n_nontargets = len(targets), len(nontargets)

    # The miss rate changes at target scores only, so the curve turns at most where a target score is just
    # accepted and where it is just rejected, that is at the next higher score of either class. Counts below the
    # one are those of scores below it, counts below the other those of scores up to it.
    first = np.append(True, targets[1:] != targets[:-1])
    distinct = targets[first]
    missed_at = np.flatnonzero(first)
    rejected_at, rejected_above = _ranks(distinct, nontargets)
    following = np.append(distinct[1:], np.inf)
    inside = rejected_above < n_nontargets
    following[inside] = np.minimum(following[inside], nontargets[rejected_above[inside]])
    lowest = min(targets[0], nontargets[0])
    thresholds = np.concatenate(([lowest], _alternating(distinct, following), [np.inf]), dtype=targets.dtype)
    missed = np.concatenate(([0], _alternating(missed_at, np.append(missed_at[1:], n_targets)), [n_targets]))
    rejected = np.concatenate(([0], _alternating(rejected_at, rejected_above), [n_nontargets]))

    # Equal error may lie amid a straight piece of non-target scores; its threshold needs the points on either
    # side. "Miss rate <= false-alarm rate" is written in whole numbers, which stay exact.
    balance = missed * n_nontargets + rejected * n_targets - n_targets * n_nontargets
    before = int(np.searchsorted(balance, 0, side="right")) - 1
    if missed[before] == missed[before + 1]:
        rank = n_nontargets * (n_targets - int(missed[before])) // n_targets
        score = nontargets[rank : rank + 1]
        below, above = (int(count[0]) for count in _ranks(score, nontargets))
        # The next higher score, of whichever class; the piece ends at the latest with the next target score.
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
    """The error rate at which misses and false alarms are equally frequent, and the threshold nearest to it.

    The rate is where the line through the operating points (p_fa, p_miss) crosses p_miss = p_fa. With d =
    p_miss - p_fa, a the last point with d <= 0 and b the one after it::

        EER = p_miss[a] + (p_miss[b] - p_miss[a]) * d[a] / (d[a] - d[b])

    On that line a group of tied scores counts as ties broken at random do on average (Fawcett, An
    introduction to ROC analysis, 2006), so scores which are all the same give 0.5. The rate
    depends on the scores' order only: a strictly increasing map that keeps ties changes no bit of it. It is
    not the convex hull's EER, which is at most as high.

    Returns:
        The rate, a fraction, and the score threshold of a or b, whichever has the smaller |d| (a when equal);
        it is the score of a trial.
    """
    difference = points.p_miss - points.p_fa
    a = int(np.searchsorted(difference, 0.0, side="right")) - 1
    b = a + 1
    share = difference[a] / (difference[a] - difference[b])
    rate = points.p_miss[a] + (points.p_miss[b] - points.p_miss[a]) * share
    nearest = a if -difference[a] <= difference[b] else b
    return float(rate), float(points.thresholds[nearest])


def min_dcf(points: DetPoints, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """The lowest detection cost over all thresholds, normalised as NIST does.

    With C(t) = c_miss * p_target * p_miss(t) + c_fa * (1 - p_target) * p_fa(t), the least C(t) is divided by
    min(c_miss * p_target, c_fa * (1 - p_target)), the cost of the better system that never listens (NIST 2016
    Speaker Recognition Evaluation Plan). So 0 is perfect and 1, which is never exceeded, useless.

    Args:
        points: from `det_points`.
        p_target: prior probability of a target trial, between 0 and 1.
        c_miss: cost of a miss, above 0.
        c_fa: cost of a false alarm, above 0.

    Raises:
        InputError: the prior or a cost is out of range.
    """
    _, p_miss, p_fa = min_dcf_point(points, p_target, c_miss, c_fa)
    miss_weight, fa_weight = c_miss * p_target, c_fa * (1 - p_target)
    return (miss_weight * p_miss + fa_weight * p_fa) / min(miss_weight, fa_weight)


def min_dcf_point(
    points: DetPoints, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> OperatingPoint:
    """The operating point with the lowest detection cost (at equal cost, that of the lowest threshold).

    Arguments and errors are those of `min_dcf`.
    """
    check_costs(p_target, c_miss, c_fa)
    best = int(np.argmin(c_miss * p_target * points.p_miss + c_fa * (1 - p_target) * points.p_fa))
    return OperatingPoint(
        float(points.thresholds[best]), float(points.p_miss[best]), float(points.p_fa[best])
    )


def false_acceptance_point(points: DetPoints, rate: float) -> OperatingPoint:
    """The operating point with the fewest misses among those that accept at most ``rate`` of the non-target trials.

    Raises:
        InputError: the rate is not between 0 and 1.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"the false-acceptance rate is {rate}; a rate lies between 0 and 1")
    at = int(np.argmax(points.p_fa <= rate))  # the curve ends at 0, so there is one
    return OperatingPoint(float(points.thresholds[at]), float(points.p_miss[at]), float(points.p_fa[at]))


def check_costs(p_target: float, c_miss: float, c_fa: float) -> None:
    """Raises `InputError` when the prior or a cost is out of range."""
    if not 0 < p_target < 1:
        raise InputError(f"p_target is {p_target}; a prior probability lies between 0 and 1, both excluded")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not 0 < cost < np.inf:
            raise InputError(f"{name} is {cost}; give a cost above 0")


def sorted_scores(
    target_scores: ArrayLike, nontarget_scores: ArrayLike, *, overwrite_input: bool = False
) -> tuple[Scores, Scores]:
    """Both classes flat, ascending, in their common precision (at least float32), as copies; refuses NaN."""
    given = {"target": np.asarray(target_scores), "non-target": np.asarray(nontarget_scores)}
    for name, scores in given.items():
        if scores.size == 0:
            raise InputError(f"no {name} trials; error rates need target and non-target trials")
    precision = np.result_type(*given.values(), np.float32)
    take = np.asarray if overwrite_input else np.array
    targets, nontargets = (take(scores, dtype=precision).ravel() for scores in given.values())
    targets.sort()
    nontargets.sort()
    # NaN sorts behind all numbers, so one look at the end is enough.
    if np.isnan(targets[-1]) or np.isnan(nontargets[-1]):
        in_targets, in_nontargets = (int(np.isnan(scores).sum()) for scores in (targets, nontargets))
        raise InputError(
            f"{in_targets + in_nontargets} scores are NaN ({in_targets} of {len(targets)} target,"
            f" {in_nontargets} of {len(nontargets)} non-target); look for embeddings that are NaN or all zero"
        )
    return targets, nontargets


def _ranks(values: Scores, ascending: Scores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each value how many of the ascending scores lie below it, and how many not above it."""
    above = np.searchsorted(ascending, values, side="right")
    below = above.copy()
    # Searching costs as much as all the rest of a DET curve: a second time only where scores are tied.
    tied = np.flatnonzero((above > 0) & (ascending[above - 1] == values))
    below[tied] = np.searchsorted(ascending, values[tied])
    return below, above


def _alternating(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    return np.stack((one, other), axis=1).ravel()
