"""The pairs of utterances that trials are made of: all of them, or a sample of too many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def utterance_pairs(
    speaker: NDArray[Any], max_pairs: int, generator: np.random.Generator, all_targets: bool = True
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield each pair of distinct utterances once, row by row, in the order of ``np.triu_indices``.

    With more than ``max_pairs`` pairs, a random sample of about that many is kept: all target pairs, and nontarget
    pairs for the rest. Only one row of pairs is in memory at a time.

    Parameters
    ----------
    speaker
        The speaker of each utterance, of any type, shape ``(utterances,)``.
    max_pairs
        The approximate number of pairs to keep. There may be more with ``all_targets``.
    generator
        Draws the sample; not used when all pairs are kept.
    all_targets
        When false, at most half of ``max_pairs`` are target pairs.

    Yields
    ------
    An utterance, the later utterances it is paired with, and which of these pairs are target pairs; both arrays have
    shape ``(pairs,)``.

    Examples
    --------
    >>> for first, others, same in utterance_pairs(np.array(["a", "a", "b"]), 10, np.random.default_rng(0)):
    ...     print(first, others, same)
    0 [1 2] [ True False]
    1 [2] [False]
    """
    pairs = len(speaker) * (len(speaker) - 1) // 2
    sizes = np.unique(speaker, return_counts=True)[1].astype(np.int64)
    targets = int((sizes * (sizes - 1) // 2).sum())
    target_rate = 1.0 if all_targets or 2 * targets <= max_pairs else max_pairs / (2 * targets)
    nontarget_rate = max(max_pairs - target_rate * targets, 0) / max(pairs - targets, 1)
    for first in range(len(speaker) - 1):
        same = speaker[first + 1 :] == speaker[first]
        kept = np.arange(len(same))
        if pairs > max_pairs:
            kept = np.flatnonzero(generator.random(len(same)) < np.where(same, target_rate, nontarget_rate))
        yield first, first + 1 + kept, same[kept]
