"""The pairs of utterances that trials are made of: all of them, or a sample where they are too many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def utterance_pairs(
    speaker: NDArray[Any], most: int, generator: np.random.Generator, all_targets: bool = True
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.bool_]]]:
    """Yields each pair of distinct utterances once, row by row, in the order of ``np.triu_indices``.

    When there are more than ``most`` pairs, each target pair and each non-target pair is kept with a probability of
    its own, such that about ``most`` are kept: all target pairs, and non-target pairs up to ``most``. Only a row of
    pairs is in memory at a time.

    Parameters
    ----------
    speaker
        The speaker of each utterance, (utterances,), of any type.
    most
        So many pairs at most, about; with ``all_targets`` there may be more target pairs than that.
    generator
        Draws the sample; it is not used when all pairs are kept.
    all_targets
        When false, at most half of ``most`` pairs are target pairs.

    Yields
    ------
    An utterance, those after it that it is paired with (pairs,), and which of these are of its speaker (pairs,).
    """
    pairs = len(speaker) * (len(speaker) - 1) // 2
    sizes = np.unique(speaker, return_counts=True)[1].astype(np.int64)
    targets = int((sizes * (sizes - 1) // 2).sum())
    target_share = 1.0 if all_targets or 2 * targets <= most else most / (2 * targets)
    nontarget_share = max(most - target_share * targets, 0) / max(pairs - targets, 1)
    for one in range(len(speaker) - 1):
        same = speaker[one + 1 :] == speaker[one]
        kept = np.arange(len(same))
        if pairs > most:
            kept = np.flatnonzero(generator.random(len(same)) < np.where(same, target_share, nontarget_share))
        yield one, one + 1 + kept, same[kept]
