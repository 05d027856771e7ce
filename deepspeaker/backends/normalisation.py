"""Score normalisation by a cohort of other speakers."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Norm = Literal["z", "t", "s"]
_PIECE = 1 << 20


def cohort_statistics(
    embeddings: NDArray[np.float32], cohort: NDArray[np.float32], top: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each embedding's cosines with the cohort, (utterances,) each.

    ``embeddings`` (utterances, dim) and ``cohort`` (members, dim) are of unit length. With ``top`` only the so many
    highest cosines count (adaptive normalisation). The deviation is that of a sample, and not below 1e-6.
    """
    means, deviations = np.empty(len(embeddings)), np.empty(len(embeddings))
    count = len(cohort) if top is None else min(top, len(cohort))
    for first in range(0, len(embeddings), 1024):
        scores = embeddings[first : first + 1024] @ cohort.T
        if count < len(cohort):
            scores = np.partition(scores, len(cohort) - count, axis=1)[:, -count:]
        own = slice(first, first + len(scores))
        means[own] = scores.mean(axis=1, dtype=np.float64)
        deviations[own] = scores.std(axis=1, dtype=np.float64, ddof=1 if count > 1 else 0)
    return means, np.maximum(deviations, 1e-6)


def normalised_scores(
    scores: NDArray[np.float32],
    enrolment: NDArray[np.int64],
    test: NDArray[np.int64],
    statistics: tuple[NDArray[np.float64], NDArray[np.float64]],
    norm: Norm = "s",
) -> NDArray[np.float32]:
    """Scores (trials,) less the cohort mean, over the cohort deviation.

    ``norm`` says of which side: "z" of the enrolment, "t" of the test, "s" the mean of both.

    ``enrolment`` and ``test`` (trials,) are rows of ``statistics`` (see ``cohort_statistics``). s-norm is that of Kenny
    (Odyssey 2010), with the top cosines adaptive s-norm (Matejka et al., Interspeech 2017).
    """
    means, deviations = statistics
    normalised = np.empty(len(scores), dtype=np.float32)
    for first in range(0, len(scores), _PIECE):  # long lists would need several float64 copies of themselves
        own = slice(first, first + _PIECE)
        sides = {
            name: (scores[own] - means[side[own]]) / deviations[side[own]]
            for name, side in (("z", enrolment), ("t", test))
            if norm in (name, "s")
        }
        normalised[own] = sum(sides.values()) / len(sides)
    return normalised
