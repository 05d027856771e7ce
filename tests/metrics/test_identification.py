from __future__ import annotations

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.metrics import rank1


def one_target_a_row(rows: int, row_length: int, seed: int = 0) -> np.ndarray:
    columns = np.random.default_rng(seed).integers(0, row_length, rows)
    return np.arange(row_length) == columns[:, None]


@pytest.mark.parametrize("seed", range(20))
def test_against_a_loop(seed: int) -> None:
    generator = np.random.default_rng(seed)
    row_length = int(generator.integers(2, 12))
    is_target = one_target_a_row(25, row_length, seed)
    scores = generator.integers(0, 4, is_target.shape).astype(np.float32) + is_target
    total = 0.0
    for row, labels in zip(scores.tolist(), is_target.tolist(), strict=True):
        target = row[labels.index(True)]
        if target == max(row):
            total += 1 / row.count(target)
    assert rank1(scores, is_target, row_length) == pytest.approx(total / 25, abs=1e-12)
    assert rank1(scores.ravel(), is_target.ravel(), row_length) == rank1(scores, is_target, row_length)


def test_known_values() -> None:
    is_target = one_target_a_row(40, 100)
    assert rank1(is_target.astype(float), is_target) == 1.0
    assert rank1(-is_target.astype(float), is_target) == 0.0
    assert rank1(np.zeros((40, 100)), is_target) == pytest.approx(0.01, abs=1e-12)
    assert rank1(np.where(is_target, np.inf, -np.inf), is_target) == 1.0


def test_wrong_input() -> None:
    is_target = one_target_a_row(3, 100)
    scores = np.zeros((3, 100))
    with pytest.raises(InputError, match="299 scores for 300 trials"):
        rank1(scores.ravel()[:-1], is_target.ravel())
    with pytest.raises(InputError, match="299 trials are not rows of 100"):
        rank1(scores.ravel()[:-1], is_target.ravel()[:-1])
    with pytest.raises(InputError, match="0 trials"):
        rank1([], [])
    two = is_target.copy()
    two[1] = False
    two[2, :5] = True
    with pytest.raises(InputError, match=r"2 of 3 rows .* the first is row 2, with 0"):
        rank1(scores, two)
    scores[0, 0] = np.nan
    with pytest.raises(InputError, match="1 of 300 scores are NaN"):
        rank1(scores, is_target)
