"""Back ends: from embeddings and trials to scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1024


def cosine_scores(
    embeddings: NDArray[np.float32], enrolment: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The cosine of each trial, (trials,) in [-1, 1] up to rounding.

    ``embeddings`` (utterances, dim) need not have unit length; ``enrolment`` and ``test`` (trials,) are rows of it. A
    row of zeros has cosine 0 with everything. Works by blocks of enrolment rows: each block is one matrix product.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(lengths == 0, 1, lengths)
    scores = np.empty(len(enrolment), dtype=np.float32)
    order = np.argsort(enrolment, kind="stable")
    sorted_rows = enrolment[order]
    for first in range(0, len(unit), _BLOCK):
        begin, end = np.searchsorted(sorted_rows, [first, first + _BLOCK])
        if begin < end:
            trials = order[begin:end]
            block = unit[first : first + _BLOCK] @ unit.T
            scores[trials] = block[enrolment[trials] - first, test[trials]]
    return scores
