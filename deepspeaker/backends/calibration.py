"""From scores to log-likelihood ratios: logistic regression on trials whose labels are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError


@dataclass(frozen=True, eq=False)
class Calibration:
    """An affine map from measures of a trial (scores of systems, durations) to a log-likelihood ratio."""

    weights: NDArray[np.float64]
    offset: float

    def __call__(self, measures: NDArray[np.floating]) -> NDArray[np.float32]:
        """Measures (trials, number) -> log-likelihood ratios (trials,), natural logarithm."""
        return np.asarray(np.asarray(measures, dtype=np.float64) @ self.weights + self.offset, dtype=np.float32)


def train_calibration(
    measures: NDArray[np.floating], is_target: NDArray[np.bool_], p_target: float = 0.05
) -> Calibration:
    """Logistic regression with target and non-target trials weighted as if targets had the prior ``p_target``.

    The prior's log-odds are taken off, so that the result is a log-likelihood ratio (Bruemmer and du Preez 2006). With
    several systems' scores as ``measures`` (trials, number) it fuses them.

    Raises:
        InputError: a class has no trial.
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
    """The logarithm of the shorter and of the longer side's number of frames, (trials, 2)."""
    one, other = np.log(frames[enrolment]), np.log(frames[test])
    return np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1)
