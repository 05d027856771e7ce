from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepspeaker.errors import InputError
from deepspeaker.metrics import open_set_identification, rank1, rank_n


def one_target_per_row(rows: int, row_length: int, seed: int = 0) -> np.ndarray:
    columns = np.random.default_rng(seed).integers(0, row_length, rows)
    return np.arange(row_length) == columns[:, None]


@pytest.mark.parametrize("seed", range(20))
def test_rank1_against_a_loop(seed: int) -> None:
    generator = np.random.default_rng(seed)
    row_length = int(generator.integers(2, 12))
    is_target = one_target_per_row(25, row_length, seed)
    scores = generator.integers(0, 4, is_target.shape).astype(np.float32) + is_target
    total = 0.0
    for row, labels in zip(scores.tolist(), is_target.tolist(), strict=True):
        target = row[labels.index(True)]
        if target == max(row):
            total += 1 / row.count(target)
    assert rank1(scores, is_target, row_length) == pytest.approx(total / 25, abs=1e-12)
    assert rank1(scores.ravel(), is_target.ravel(), row_length) == rank1(scores, is_target, row_length)


def test_rank1_of_known_scores() -> None:
    is_target = one_target_per_row(40, 100)
    assert rank1(is_target.astype(float), is_target) == 1.0
    assert rank1(-is_target.astype(float), is_target) == 0.0
    assert rank1(np.zeros((40, 100)), is_target) == pytest.approx(0.01, abs=1e-12)
    assert rank1(np.where(is_target, np.inf, -np.inf), is_target) == 1.0


def test_rank1_rejects_invalid_input() -> None:
    is_target = one_target_per_row(3, 100)
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


@pytest.mark.parametrize("seed", range(10))
def test_rank_n_is_the_average_over_all_ways_to_break_ties(seed: int) -> None:
    generator = np.random.default_rng(seed)
    is_target = one_target_per_row(4, 5, seed)
    scores = generator.integers(0, 3, is_target.shape)
    for n in range(1, 6):
        found = []
        for row, labels in zip(scores, is_target, strict=True):
            orders = [sorted(range(5), key=lambda k: (-row[k], order[k])) for order in permutations(range(5))]
            found.append(np.mean([int(np.flatnonzero(labels)[0]) in order[:n] for order in orders]))
        assert rank_n(scores, is_target, n, 5) == pytest.approx(np.mean(found), abs=1e-12)
    assert rank_n(scores, is_target, 5, 5) == 1.0
    for n in (0, 6):
        with pytest.raises(InputError, match=f"rank {n}: rows of 5 trials"):
            rank_n(scores, is_target, n, 5)


def brute_open_set(scores: np.ndarray, is_target: np.ndarray, rate: float, n: int) -> tuple[float, float]:
    """Return false-alarm rate and DIR at the lowest score that keeps to the rate, found by trying every score."""
    unknown, known = scores[~is_target.any(axis=1)], is_target.any(axis=1)
    for threshold in [*sorted(set(scores.ravel().tolist())), np.inf]:
        alarms = np.mean([max(row) >= threshold for row in unknown.tolist()])
        if alarms <= rate:
            break
    hits = 0.0
    for row, labels in zip(scores[known], is_target[known], strict=True):
        target = row[labels][0]
        better, same = int((row > target).sum()), int((row == target).sum())
        hits += (target >= threshold) * min(max((n - better) / same, 0), 1)
    return float(alarms), hits / known.sum()


@pytest.mark.parametrize("seed", range(30))
def test_open_set_identification_against_every_threshold(seed: int) -> None:
    generator = np.random.default_rng(seed)
    probes, enrolled = 20, 5
    is_target = (
        one_target_per_row(probes, enrolled, seed) & (np.arange(probes) < generator.integers(1, probes))[:, None]
    )
    scores = generator.integers(0, 8, is_target.shape) + 3.0 * is_target
    for rate in (0.0, 0.1, 0.3, 1.0):
        for n in (1, 2, 5):
            found = open_set_identification(scores, is_target, rate, n)
            alarms, hits = brute_open_set(scores, is_target, rate, n)
            assert (found.false_alarm_rate, found.detection_rate) == pytest.approx((alarms, hits), abs=1e-12)
            assert found.false_alarm_rate <= rate
            highest = scores[~is_target.any(axis=1)].max(axis=1)
            assert np.mean(highest >= found.threshold) == pytest.approx(found.false_alarm_rate)


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(-4, 4), min_size=4, max_size=4), min_size=3, max_size=10))
def test_identification_depends_only_on_the_order_of_scores(rows: list[list[int]]) -> None:
    scores = np.array(rows, dtype=float)
    is_target = one_target_per_row(len(rows), 4)
    assert rank_n(np.exp(scores), is_target, 2, 4) == rank_n(scores, is_target, 2, 4)
    is_target[0] = False
    plain, mapped = (open_set_identification(values, is_target, 0.5) for values in (scores, np.exp(scores)))
    assert mapped[1:] == plain[1:]
    assert mapped.threshold == np.exp(plain.threshold)


def test_open_set_identification_rejects_invalid_input() -> None:
    known = np.array([[True, False], [False, False]])
    scores = np.array([[1.0, 0.0], [0.5, 0.2]])
    assert open_set_identification(scores, known, 0.0) == (1.0, 0.0, 1.0)
    assert open_set_identification(-scores, known, 0.0).detection_rate == 0.0
    assert open_set_identification(np.zeros((2, 2)), known, 0.0) == (np.inf, 0.0, 0.0)
    assert open_set_identification(np.zeros((2, 2)), known, 1.0) == (0.0, 1.0, 0.5)
    for labels, message in ((known[[0, 0]], "unknown"), (known[[1, 1]], "enrolled"), (~known, "2 targets")):
        with pytest.raises(InputError, match=message):
            open_set_identification(scores, labels, 0.1)
    for wrong, message in ((scores * np.nan, "4 of 4 scores are NaN"), (scores[0], "2 scores for 4 trials")):
        with pytest.raises(InputError, match=message):
            open_set_identification(wrong, known, 0.1)
    with pytest.raises(InputError, match="false_alarm_rate is 2"):
        open_set_identification(scores, known, 2)
    with pytest.raises(InputError, match="rank 3"):
        open_set_identification(scores, known, 0.1, 3)
