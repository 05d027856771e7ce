"""Error rates at a threshold that was chosen elsewhere, with intervals over speakers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspeaker.errors import InputError
from deepspeaker.metrics.intervals import Interval, confidence_interval


class RatesAtThreshold(NamedTuple):
    """Miss and false-acceptance rate at a threshold, as fractions, with 95 % intervals.

    An interval is None if there are too few speakers for one.
    """

    p_miss: float
    p_miss_ci95: Interval | None
    p_fa: float
    p_fa_ci95: Interval | None


def rates_at_threshold(
    scores: ArrayLike,
    is_target: ArrayLike,
    enrolment_speaker: ArrayLike,
    test_speaker: ArrayLike,
    threshold: float,
    draws: int = 1000,
    seed: int = 0,
    min_speakers: int = 5,
) -> RatesAtThreshold:
    """Return the error rates of trials at a fixed threshold, with intervals by a bootstrap over speakers.

    Parameters
    ----------
    scores, is_target
        Scores and labels of the trials, (trials,). A trial is accepted if its score reaches the threshold.
    enrolment_speaker, test_speaker
        The speaker of each side as a number from 0, (trials,).
    threshold
        The threshold.
    draws, seed
        Number of bootstrap draws of speakers, and their seed. 0 draws give no intervals.
    min_speakers
        With fewer speakers, the intervals are None.

    Raises
    ------
    InputError
        A class has no trial.

    See Also
    --------
    SpeakerBootstrap : Intervals of rates whose threshold depends on the draw, such as the EER.

    Notes
    -----
    If speaker i is drawn w_i times, a target trial of i counts w_i times, and a non-target trial of i and j counts
    w_i * w_j times.

    Examples
    --------
    >>> rates = rates_at_threshold([0.9, 0.2, 0.6, 0.1], [True, True, False, False], [0, 1, 0, 0], [0, 1, 1, 1], 0.5)
    >>> rates.p_miss, rates.p_fa, rates.p_fa_ci95
    (0.5, 0.5, None)
    """
    accepted, labels = np.asarray(scores) >= threshold, np.asarray(is_target, dtype=bool)
    first, second = np.asarray(enrolment_speaker), np.asarray(test_speaker)
    if labels.all() or not labels.any():
        raise InputError("error rates need target and non-target trials")
    p_miss, p_fa = float(np.mean(~accepted[labels])), float(np.mean(accepted[~labels]))
    speakers = int(max(first.max(), second.max())) + 1
    if not draws or speakers < min_speakers:
        return RatesAtThreshold(p_miss, None, p_fa, None)

    def by_pair(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        pair = first[chosen].astype(np.int64) * speakers + second[chosen]
        return np.bincount(pair, minlength=speakers**2).reshape(speakers, speakers).astype(np.float64)

    targets, missed = by_pair(labels).diagonal(), by_pair(labels & ~accepted).diagonal()
    nontargets, false = by_pair(~labels), by_pair(~labels & accepted)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, speakers, (draws, speakers))
    weights = np.stack([np.bincount(draw, minlength=speakers) for draw in drawn]).astype(np.float64)
    with np.errstate(invalid="ignore"):  # a draw may have no trial of a class
        miss_rates = (weights @ missed) / (weights @ targets)
        fa_rates = ((weights @ false) * weights).sum(axis=1) / ((weights @ nontargets) * weights).sum(axis=1)
    return RatesAtThreshold(
        p_miss,
        confidence_interval(p_miss, miss_rates[np.isfinite(miss_rates)], speakers, 0.5 / int(labels.sum())),
        p_fa,
        confidence_interval(p_fa, fa_rates[np.isfinite(fa_rates)], speakers, 0.5 / int((~labels).sum())),
    )
