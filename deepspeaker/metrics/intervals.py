"""Confidence intervals and paired tests from bootstrap replicates over speakers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """The difference between two systems on one trial list.

    Attributes
    ----------
    difference : float
        The rate of the first system minus that of the second.
    interval : Interval
        Confidence interval of the difference.
    p_value : float
        Two-sided p-value of the hypothesis that the systems do not differ.
    """

    difference: float
    interval: Interval
    p_value: float


def confidence_interval(
    rate: float, replicates: NDArray[np.float64], speakers: int, min_rate: float, level: float = 0.95
) -> Interval:
    """Return the confidence interval of a rate from its bootstrap replicates over speakers.

    Parameters
    ----------
    rate : float
        The rate on all trials, from 0 to 1.
    replicates : ndarray of shape (n_replicates,)
        The rate in each replicate.
    speakers : int
        Number of speakers, at least 2.
    min_rate : float
        Rates are clipped to ``[min_rate, 1 - min_rate]`` because the logits of 0 and 1 are infinite. Half a trial of
        the smaller class is a sensible value.
    level : float, default=0.95
        Confidence level.

    Returns
    -------
    Interval
        It contains the rate. The interval of a rate of 0 begins at 0, that of a rate of 1 ends at 1.

    See Also
    --------
    SpeakerBootstrap.replicates : Compute the replicates.

    Notes
    -----
    The interval is symmetric about the rate on the logit scale. Its half width is Student's quantile with
    ``speakers - 1`` degrees of freedom times the standard deviation of the replicates times
    ``sqrt(speakers / (speakers - 1))``, which corrects the narrowness bias of the bootstrap [1]_. Percentile intervals
    of few speakers cover the true rate too seldom; the tests count how often this interval does in simulated corpora.

    References
    ----------
    .. [1] T. C. Hesterberg, "What teachers should know about the bootstrap: resampling in the undergraduate statistics
       curriculum", The American Statistician 69(4), 371-386, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> replicates = np.array([0.03, 0.05, 0.04, 0.06, 0.05])
    >>> low, high = confidence_interval(0.05, replicates, speakers=20, min_rate=0.001)
    >>> f"[{low:.3f}, {high:.3f}]"
    '[0.028, 0.087]'
    """
    from scipy.special import expit, logit, stdtrit

    spread = logit(np.clip(replicates, min_rate, 1 - min_rate)).std(ddof=1) * np.sqrt(speakers / (speakers - 1))
    centre = logit(np.clip(rate, min_rate, 1 - min_rate))
    half = float(stdtrit(speakers - 1, (1 + level) / 2)) * spread
    low, high = float(expit(centre - half)), float(expit(centre + half))
    return Interval(min(low, rate) if rate > 0 else 0.0, max(high, rate) if rate < 1 else 1.0)


def paired_difference(
    rates: tuple[float, float],
    replicates: tuple[NDArray[np.float64], NDArray[np.float64]],
    speakers: int,
    level: float = 0.95,
) -> Difference:
    """Return the difference between the rates of two systems, with a paired bootstrap test.

    Parameters
    ----------
    rates : tuple of two floats
        The rate of each system on all trials.
    replicates : tuple of two ndarrays of shape (n_replicates,)
        The rate of each system in each replicate. Both must come from the same draws: the same trial list and the same
        seed.
    speakers : int
        Number of speakers, at least 2.
    level : float, default=0.95
        Confidence level of the interval.

    Returns
    -------
    Difference
        The first rate minus the second, its confidence interval and the two-sided p-value.

    See Also
    --------
    confidence_interval : The interval of a single rate.

    Notes
    -----
    As the draws are shared, variation that affects both systems cancels. Student's quantile and the correction of the
    standard deviation are those of `confidence_interval`.

    Examples
    --------
    >>> import numpy as np
    >>> first, second = np.array([0.03, 0.05, 0.04, 0.06]), np.array([0.05, 0.07, 0.07, 0.08])
    >>> result = paired_difference((0.045, 0.07), (first, second), speakers=20)
    >>> f"{result.difference:.3f}, p = {result.p_value:.4f}"
    '-0.025, p = 0.0001'
    """
    from scipy.special import stdtr, stdtrit

    difference = rates[0] - rates[1]
    spread = float((replicates[0] - replicates[1]).std(ddof=1)) * np.sqrt(speakers / (speakers - 1))
    if spread == 0:
        return Difference(difference, Interval(difference, difference), 1.0 if difference == 0 else 0.0)
    half = float(stdtrit(speakers - 1, (1 + level) / 2)) * spread
    p_value = 2 * float(stdtr(speakers - 1, -abs(difference) / spread))
    return Difference(difference, Interval(difference - half, difference + half), p_value)
