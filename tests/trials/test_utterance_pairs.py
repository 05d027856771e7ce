from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from deepspeaker.trials import utterance_pairs


def pairs_of(
    speaker: NDArray[np.int64], most: int, seed: int = 0, all_targets: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The pairs (pairs, 2), and whether each is of one speaker."""
    rows = list(utterance_pairs(speaker, most, np.random.default_rng(seed), all_targets))
    pairs = [(one, other) for one, others, _ in rows for other in others]
    return np.array(pairs), np.concatenate([same for _, _, same in rows])


@pytest.mark.parametrize("all_targets", [False, True])
def test_up_to_the_most_they_are_all_pairs_in_numpys_order(all_targets: bool) -> None:
    speaker = np.random.default_rng(0).integers(0, 7, 40)
    pairs, same = pairs_of(speaker, 780, all_targets=all_targets)
    one, other = np.triu_indices(40, 1)
    assert np.array_equal(pairs, np.stack([one, other], axis=1))
    assert np.array_equal(same, speaker[one] == speaker[other])


def test_above_it_they_are_all_targets_and_a_sample_of_the_others() -> None:
    speaker = np.random.default_rng(0).integers(0, 50, 600)
    every, same_of_all = pairs_of(speaker, 10**6)
    pairs, same = pairs_of(speaker, 10_000)
    assert np.array_equal(pairs[same], every[same_of_all])
    assert abs(len(pairs) - 10_000) < 5 * 10_000**0.5
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert np.array_equal(speaker[pairs[:, 0]] == speaker[pairs[:, 1]], same)
    assert np.array_equal(pairs, pairs_of(speaker, 10_000)[0])
    assert not np.array_equal(pairs, pairs_of(speaker, 10_000, seed=1)[0])


def test_of_too_many_targets_a_sample_too_where_not_all_are_asked_for() -> None:
    """Of two speakers half of the pairs are targets: both classes are needed."""
    same = pairs_of(np.arange(600) % 2, 10_000, all_targets=False)[1]
    assert abs(int(same.sum()) - 5000) < 350
    assert abs(int((~same).sum()) - 5000) < 350
    assert pairs_of(np.arange(600) % 2, 10_000)[1].all()


def test_memory_does_not_grow_with_the_pairs() -> None:
    """12,000 utterances make 7.2e7 pairs; their indices alone would take 1.2 GB."""
    speaker = np.arange(12_000) // 20
    tracemalloc.start()
    kept = sum(len(others) for _, others, _ in utterance_pairs(speaker, 10**6, np.random.default_rng(0)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(kept - 10**6) < 5000
    assert peak < 10 * 2**20
