"""From scores to log-likelihood ratios: logistic regression on trials with known labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError


@dataclass(frozen=True, eq=False)
class Calibration:
    """An affine map from the measures of a trial (scores of systems, durations) to a log-likelihood ratio."""

    weights: NDArray[np.float64]
    """Shape ``(measures,)``."""
    offset: float

    def __call__(self, measures: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return log-likelihood ratios (natural logarithm), ``(trials, measures)`` -> ``(trials,)``."""
        return np.asarray(np.asarray(measures, dtype=np.float64) @ self.weights + self.offset, dtype=np.float32)


def train_calibration(
    measures: NDArray[np.floating], is_target: NDArray[np.bool_], p_target: float = 0.05
) -> Calibration:
    """Train a calibration, or with several systems' scores a fusion, by logistic regression.

    Target and non-target trials are weighted as if targets had the prior ``p_target``. The log-odds of the prior are
    then subtracted, so that the result is a log-likelihood ratio.

    Parameters
    ----------
    measures
        Shape ``(trials, measures)``.
    is_target
        Shape ``(trials,)``.
    p_target
        The prior around which the calibration should be best.

    Raises
    ------
    InputError
        A class has no trial.

    References
    ----------
    Brümmer and du Preez, Application-independent evaluation of speaker detection, Computer Speech & Language, 2006.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> is_target = np.arange(4000) % 2 == 0
    >>> scores = generator.normal(np.where(is_target, 1.0, -1.0))  # the log-likelihood ratio of a score s is 2 s
    >>> calibration = train_calibration(scores[:, None], is_target)
    >>> bool(1.8 < calibration.weights[0] < 2.2)
    True
    """
    from sklearn.linear_model import LogisticRegression

    if is_target.all() or not is_target.any():
        raise InputError("calibration needs target and non-target trials of development speakers")
    values = np.asarray(measures, dtype=np.float64)
    centre, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-12)
    weights = np.where(is_target, p_target / is_target.sum(), (1 - p_target) / (~is_target).sum()) * len(values)
    model = LogisticRegression(C=1e6, max_iter=1000, tol=1e-8)
    model.fit((values - centre) / scale, is_target, sample_weight=weights)
    slope = model.coef_[0] / scale
    return Calibration(slope, float(model.intercept_[0] - centre @ slope - np.log(p_target / (1 - p_target))))


def duration_measures(
    frames: NDArray[np.integer], enrolment: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the quality measures of each trial: the log duration of its shorter and of its longer side.

    Parameters
    ----------
    frames
        Speech frames of each utterance, shape ``(utterances,)``.
    enrolment, test
        The two utterances of each trial, shape ``(trials,)``.

    Returns
    -------
    Natural logarithms of frames, shape ``(trials, 2)``.

    Examples
    --------
    >>> duration_measures(np.array([100, 1000]), np.array([1]), np.array([0])).round(2)
    array([[4.61, 6.91]])
    """
    first, second = np.log(frames[enrolment]), np.log(frames[test])
    return np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
