"""Estimates over trainings and speakers, and decisions about orderings: pure functions of arrays.

A cell of a table has an error rate for each training (seed), and for each training the rates of bootstrap replicates,
which draw the test speakers. All cells of a corpus share the draws, so that comparisons are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Decision = Literal["held", "reversed", "not decided by these data"]


@dataclass(frozen=True, eq=False)
class Rates:
    """An error rate (or accuracy) after each of several trainings.

    Attributes
    ----------
    seeds : tuple of int
        The seeds of the trainings.
    values : ndarray of shape (seeds,)
        The rate on all speakers, as a fraction.
    drawn : ndarray of shape (seeds, draws)
        The rates of the bootstrap replicates; no columns if there are too few speakers.
    speakers : tuple of str
        The speakers that the replicates draw from, in order.
    lowest : float
        The lowest rate that can be told from 0: half a trial.
    """

    seeds: tuple[int, ...]
    values: NDArray[np.float64]
    drawn: NDArray[np.float64]
    speakers: tuple[str, ...]
    lowest: float

    @property
    def mean(self) -> float:
        """The mean over the trainings."""
        return float(self.values.mean())


class Estimate(NamedTuple):
    """A value with its 95 % interval, which is None if there are too few speakers."""

    value: float
    interval: tuple[float, float] | None


def interval_of(rates: Rates, level: float = 0.95) -> Estimate:
    """Return the mean rate over the trainings, and its interval for other speakers and other trainings.

    The interval is symmetric on the logit scale, as in `deepspeaker.metrics.confidence_interval`.

    Examples
    --------
    >>> drawn = np.array([[0.03, 0.05, 0.04, 0.06, 0.05]])
    >>> rates = Rates((0,), np.array([0.05]), drawn, tuple("abcdefghijklmnopqrst"), 0.001)
    >>> value, (low, high) = interval_of(rates)
    >>> f"{value:.3f} [{low:.3f}, {high:.3f}]"
    '0.050 [0.028, 0.087]'
    """
    from scipy.special import expit, logit

    def on_logit_scale(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(logit(np.clip(values, rates.lowest, 1 - rates.lowest)))

    if not rates.drawn.shape[1]:
        return Estimate(rates.mean, None)
    drawn = on_logit_scale(rates.drawn.mean(axis=0))
    half = _half_width(drawn, on_logit_scale(rates.values), len(rates.speakers), level)
    centre = float(on_logit_scale(rates.values.mean(keepdims=True))[0])
    low, high = float(expit(centre - half)), float(expit(centre + half))
    return Estimate(rates.mean, (low if rates.mean > 0 else 0.0, high if rates.mean < 1 else 1.0))


def contrast(terms: Sequence[tuple[float, Rates]], constant: float = 0.0, level: float = 0.95) -> Estimate:
    """Return a sum of rates with factors, such as a difference, and its interval for other speakers and trainings.

    Parameters
    ----------
    terms : sequence of (float, Rates)
        Factors and rates. Rates of one seed are compared with each other, and so are those of one draw of speakers.
    constant : float
        Is added.
    level : float, default=0.95
        Confidence level.

    Returns
    -------
    Estimate
        The mean over the common seeds. Without an interval if there are no replicates, or if the rates have different
        speakers.

    Notes
    -----
    The variance is that of the replicates over speakers, of the mean over the trainings, times n / (n - 1) for n
    speakers, plus that of the mean over S trainings, s^2 / S. The second is what a bootstrap over the trainings
    estimates, with its factor (S - 1) / S removed; with one training it is unknown and counts as 0. Student's quantile
    has the degrees of freedom of Welch and Satterthwaite.

    Examples
    --------
    >>> people = tuple("abcdefghijklmnopqrst")
    >>> one = Rates((0,), np.array([0.045]), np.array([[0.03, 0.05, 0.04, 0.06]]), people, 0.001)
    >>> other = Rates((0,), np.array([0.07]), np.array([[0.05, 0.07, 0.07, 0.08]]), people, 0.001)
    >>> value, (low, high) = contrast([(1, one), (-1, other)])
    >>> f"{value:.3f} [{low:.3f}, {high:.3f}]"
    '-0.025 [-0.036, -0.014]'
    """
    rates = [one for _, one in terms]
    seeds = sorted(set.intersection(*(set(one.seeds) for one in rates)))
    rows = [[one.seeds.index(seed) for seed in seeds] for one in rates]
    values = constant + sum(factor * one.values[row] for (factor, one), row in zip(terms, rows, strict=True))
    comparable = len({(one.speakers, one.drawn.shape[1]) for one in rates}) == 1 and rates[0].drawn.shape[1]
    if not seeds or not comparable:
        return Estimate(float(np.mean(values)) if seeds else float("nan"), None)
    drawn = constant + sum(factor * one.drawn[row].mean(axis=0) for (factor, one), row in zip(terms, rows, strict=True))
    value = float(np.mean(values))
    half = _half_width(np.asarray(drawn), np.asarray(values), len(rates[0].speakers), level)
    return Estimate(value, (value - half, value + half))


def over_epochs(differences: NDArray[np.float64], level: float = 0.95) -> Estimate:
    """Return the mean of paired differences, (pairs,), and its interval by Student's t.

    Examples
    --------
    >>> value, (low, high) = over_epochs(np.array([0.10, 0.12, 0.08, 0.11]))
    >>> f"{value:.4f} [{low:.3f}, {high:.3f}]"
    '0.1025 [0.075, 0.130]'
    """
    from scipy.special import stdtrit

    count, mean = len(differences), float(differences.mean())
    if count < 2:
        return Estimate(mean, None)
    half = float(stdtrit(count - 1, (1 + level) / 2)) * float(differences.std(ddof=1)) / count**0.5
    return Estimate(mean, (mean - half, mean + half))


def decide(difference: Estimate) -> Decision:
    """Say whether a difference that should be negative is.

    Examples
    --------
    >>> decide(Estimate(-0.02, (-0.03, -0.01))), decide(Estimate(0.02, (0.01, 0.03)))
    ('held', 'reversed')
    >>> decide(Estimate(-0.02, (-0.05, 0.01))), decide(Estimate(-0.02, None))
    ('not decided by these data', 'not decided by these data')
    """
    if difference.interval is not None and difference.interval[1] < 0:
        return "held"
    if difference.interval is not None and difference.interval[0] > 0:
        return "reversed"
    return "not decided by these data"


def overall(parts: Sequence[Decision]) -> Decision:
    """Return the decision about an ordering of several parts.

    It held if every part did. It was reversed if some part was; otherwise it is not decided.

    Examples
    --------
    >>> overall(["held", "held"]), overall(["held", "reversed"]), overall(["held", "not decided by these data"])
    ('held', 'reversed', 'not decided by these data')
    """
    if parts and all(part == "held" for part in parts):
        return "held"
    return "reversed" if "reversed" in parts else "not decided by these data"


def _half_width(drawn: NDArray[np.float64], values: NDArray[np.float64], speakers: int, level: float) -> float:
    """Return half the interval of a mean over trainings, from its replicates over speakers and its single values."""
    from scipy.special import stdtrit

    of_speakers = float(drawn.var(ddof=1)) * speakers / (speakers - 1)
    count = len(values)
    of_seeds = float(values.var(ddof=1)) / count if count > 1 else 0.0
    variance = of_speakers + of_seeds
    if variance == 0:
        return 0.0
    freedom = variance**2 / (of_speakers**2 / (speakers - 1) + (of_seeds**2 / (count - 1) if count > 1 else 0.0))
    return float(stdtrit(freedom, (1 + level) / 2) * np.sqrt(variance))
