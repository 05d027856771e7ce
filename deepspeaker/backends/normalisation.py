"""Score normalisation by a cohort of other speakers."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

#: The side whose cohort scores normalise: enrolment (z), test (t) or both (s).
Norm = Literal["z", "t", "s"]
_UTTERANCES_AT_A_TIME = 1024
_TRIALS_AT_A_TIME = 1 << 20


def cohort_statistics(
    embeddings: NDArray[np.float32], cohort: NDArray[np.float32], top: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the standard deviation of each embedding's cosines with the cohort.

    Parameters
    ----------
    embeddings
        Of unit length, shape ``(utterances, dim)``.
    cohort
        Of unit length, shape ``(members, dim)``.
    top
        Use only this many of the highest cosines (adaptive normalisation).

    Returns
    -------
    Means and sample standard deviations (at least 1e-6), each of shape ``(utterances,)``.

    Examples
    --------
    >>> cohort = np.eye(2, dtype=np.float32)
    >>> means, deviations = cohort_statistics(np.array([[0.6, 0.8]], dtype=np.float32), cohort)
    >>> means.round(4), deviations.round(4)
    (array([0.7]), array([0.1414]))
    """
    means, deviations = np.empty(len(embeddings)), np.empty(len(embeddings))
    count = len(cohort) if top is None else min(top, len(cohort))
    for first in range(0, len(embeddings), _UTTERANCES_AT_A_TIME):
        rows = slice(first, first + _UTTERANCES_AT_A_TIME)
        scores = embeddings[rows] @ cohort.T
        if count < len(cohort):
            scores = np.partition(scores, len(cohort) - count, axis=1)[:, -count:]
        means[rows] = scores.mean(axis=1, dtype=np.float64)
        deviations[rows] = scores.std(axis=1, dtype=np.float64, ddof=1 if count > 1 else 0)
    return means, np.maximum(deviations, 1e-6)


def normalised_scores(
    scores: NDArray[np.float32],
    enrolment: NDArray[np.int64],
    test: NDArray[np.int64],
    statistics: tuple[NDArray[np.float64], NDArray[np.float64]],
    norm: Norm = "s",
) -> NDArray[np.float32]:
    """Subtract the cohort mean from each score and divide by the cohort deviation.

    Parameters
    ----------
    scores
        Shape ``(trials,)``.
    enrolment, test
        The two utterances of each trial, shape ``(trials,)``.
    statistics
        Mean and deviation of each utterance, from `cohort_statistics`.
    norm
        Normalise by the enrolment side (z-norm), the test side (t-norm), or the mean of both (s-norm).

    References
    ----------
    Kenny, Bayesian speaker verification with heavy-tailed priors, Odyssey 2010 (s-norm). Matějka et al., Analysis of
    score normalization in multilingual speaker recognition, Interspeech 2017 (adaptive s-norm).

    Examples
    --------
    >>> statistics = np.array([0.1, 0.2]), np.array([0.1, 0.2])
    >>> normalised_scores(np.array([0.5], dtype=np.float32), np.array([0]), np.array([1]), statistics)
    array([2.75], dtype=float32)
    """
    means, deviations = statistics
    normalised = np.empty(len(scores), dtype=np.float32)
    for first in range(0, len(scores), _TRIALS_AT_A_TIME):  # long lists would need several float64 copies
        rows = slice(first, first + _TRIALS_AT_A_TIME)
        sides = {
            name: (scores[rows] - means[side[rows]]) / deviations[side[rows]]
            for name, side in (("z", enrolment), ("t", test))
            if norm in (name, "s")
        }
        normalised[rows] = sum(sides.values()) / len(sides)
    return normalised
