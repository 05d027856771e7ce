"""Identification: is the right speaker the best among several?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from deepspeaker.errors import InputError


def rank1(scores: ArrayLike, is_target: ArrayLike, row_length: int = 100) -> float:
    """Rank-1 identification accuracy: how often the target outranks every non-target of its row.

    The protocol of Deep Speaker (Li et al., arXiv 1705.02304): each row holds an enrolment
    utterance against one target and 99 non-targets. A target that shares the highest score with others counts
    as 1 / (number of trials with that score), which is what breaking ties at random gives on average; so a
    constant score has the accuracy of chance, 1 / row_length.

    Args:
        scores: in file order, shape ``(rows * row_length,)`` or ``(rows, row_length)``.
        is_target: boolean, the same shape; exactly one true entry a row.
        row_length: trials in a row.

    Returns:
        A fraction between 0 and 1.

    Raises:
        InputError: no rows, a last row that is not full, a row without exactly one target, shapes that
            differ, or scores that are NaN.
    """
    score_array, target_array = np.asarray(scores), np.asarray(is_target, dtype=bool)
    if score_array.shape != target_array.shape:
        raise InputError(
            f"{score_array.size} scores for {target_array.size} trials; score the whole list again"
        )
    if score_array.size == 0 or score_array.size % row_length:
        raise InputError(
            f"{score_array.size} trials are not rows of {row_length}; rank-1 needs a list of one target and"
            f" {row_length - 1} non-targets for each enrolment utterance"
        )
    nan = int(np.isnan(score_array).sum())
    if nan:
        raise InputError(
            f"{nan} of {score_array.size} scores are NaN; look for embeddings that are NaN or all zero"
        )
    rows, target_rows = score_array.reshape(-1, row_length), target_array.reshape(-1, row_length)
    targets_per_row = target_rows.sum(axis=1)
    wrong = np.flatnonzero(targets_per_row != 1)
    if wrong.size:
        raise InputError(
            f"{wrong.size} of {len(rows)} rows of {row_length} trials do not have exactly one target;"
            f" the first is row {wrong[0] + 1}, with {targets_per_row[wrong[0]]}: keep the trials of an enrolment"
            " utterance together"
        )
    best = rows.max(axis=1, keepdims=True)
    at_best = rows == best
    hits = at_best[target_rows]
    return float(np.mean(hits / at_best.sum(axis=1)))
