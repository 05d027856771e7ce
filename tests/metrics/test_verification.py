from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import det_curve

from deepspeaker.errors import InputError
from deepspeaker.metrics import det_points, equal_error_rate, false_acceptance_point, min_dcf, min_dcf_point

Floats = NDArray[np.float64]
# Few distinct values, so that ties within and across the classes are common.
score_lists = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=40)


def every_operating_point(targets: Floats, nontargets: Floats) -> list[tuple[float, float, float]]:
    """Return (threshold, p_miss, p_fa) at every distinct score and above all scores, counted by a loop."""
    thresholds = [*sorted({*targets.tolist(), *nontargets.tolist()}), None]
    points = []
    for threshold in thresholds:
        missed = sum(threshold is None or score < threshold for score in targets)
        accepted = sum(threshold is not None and score >= threshold for score in nontargets)
        value = np.inf if threshold is None else threshold
        points.append((value, missed / len(targets), accepted / len(nontargets)))
    return points


def brute_eer(points: list[tuple[float, float, float]]) -> float:
    """Find the segment that crosses p_miss = p_fa and bisect it."""
    for (_, miss_a, fa_a), (_, miss_b, fa_b) in pairwise(points):
        if miss_a <= fa_a and miss_b > fa_b:
            low, high = 0.0, 1.0
            for _ in range(60):
                middle = (low + high) / 2
                if miss_a + middle * (miss_b - miss_a) <= fa_a + middle * (fa_b - fa_a):
                    low = middle
                else:
                    high = middle
            return miss_a + low * (miss_b - miss_a)
    raise AssertionError("no crossing")


def random_scores(seed: int) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    n_targets, n_nontargets = generator.integers(1, 60, size=2)
    steps = generator.choice([1, 4, 1000])
    targets = np.round(generator.normal(1, 1, n_targets) * steps) / steps
    nontargets = np.round(generator.normal(0, 1, n_nontargets) * steps) / steps
    return targets, nontargets


@pytest.mark.parametrize("seed", range(60))
def test_against_every_threshold(seed: int) -> None:
    targets, nontargets = random_scores(seed)
    expected = every_operating_point(targets, nontargets)
    points = det_points(targets, nontargets)
    rates = {threshold: (miss, fa) for threshold, miss, fa in expected}
    for threshold, miss, fa in zip(points.thresholds, points.p_miss, points.p_fa, strict=True):
        assert (miss, fa) == rates[threshold]
    eer, threshold = equal_error_rate(points)
    assert eer == pytest.approx(brute_eer(expected), abs=1e-12)
    # No operating point is nearer to equal error than the returned threshold.
    miss, fa = rates[threshold]
    assert abs(miss - fa) <= min(abs(miss - fa) for _, miss, fa in expected) + 1e-12
    for p_target, c_miss, c_fa in ((0.05, 1, 1), (0.01, 1, 1), (0.001, 1, 1), (0.5, 1, 1), (0.3, 10, 2)):
        costs = [c_miss * p_target * miss + c_fa * (1 - p_target) * fa for _, miss, fa in expected]
        least = min(costs) / min(p_target * c_miss, (1 - p_target) * c_fa)
        assert min_dcf(points, p_target, c_miss, c_fa) == pytest.approx(least, abs=1e-12)
        best = min_dcf_point(points, p_target, c_miss, c_fa)
        assert rates[best.threshold] == (best.p_miss, best.p_fa)
    for rate in (0.0, 0.01, 0.2, 1.0):
        point = false_acceptance_point(points, rate)
        assert rates[point.threshold] == (point.p_miss, point.p_fa)
        assert point.p_fa <= rate
        assert point.p_miss == min(miss for _, miss, fa in expected if fa <= rate)


@pytest.mark.parametrize("seed", range(60))
def test_omitted_points_lie_on_straight_pieces(seed: int) -> None:
    targets, nontargets = random_scores(seed)
    points = det_points(targets, nontargets)
    assert np.all(np.diff(points.thresholds) > 0)
    corners = list(zip(points.p_miss, points.p_fa, strict=True))
    for threshold, miss, fa in every_operating_point(targets, nontargets):
        if (miss, fa) not in corners:
            at = np.searchsorted(points.thresholds, threshold)
            assert points.p_miss[at - 1] == miss == points.p_miss[at]
            assert points.p_fa[at - 1] > fa > points.p_fa[at]


@pytest.mark.parametrize("seed", range(20))
def test_against_scikit_learn(seed: int) -> None:
    targets, nontargets = random_scores(seed)
    labels = np.repeat([1, 0], [len(targets), len(nontargets)])
    p_fa, p_miss, thresholds = det_curve(labels, np.concatenate((targets, nontargets)))
    reference = {t: (m, f) for t, m, f in zip(thresholds, p_miss, p_fa, strict=True)}
    points = det_points(targets, nontargets)
    compared = 0
    for threshold, miss, fa in zip(points.thresholds, points.p_miss, points.p_fa, strict=True):
        if threshold in reference and np.isfinite(threshold):
            assert reference[threshold] == pytest.approx((miss, fa), abs=1e-12)
            compared += 1
    assert compared >= min(2, len(thresholds))


@given(score_lists, score_lists)
def test_strictly_increasing_maps_change_no_error_rate(targets: list[float], nontargets: list[float]) -> None:
    points = det_points(targets, nontargets)
    mapped = det_points(np.exp(targets), np.exp(nontargets))
    assert equal_error_rate(points)[0] == equal_error_rate(mapped)[0]
    assert np.exp(equal_error_rate(points)[1]) == equal_error_rate(mapped)[1]
    assert min_dcf(points, 0.01) == min_dcf(mapped, 0.01)
    assert np.array_equal(points.p_miss, mapped.p_miss)
    assert np.array_equal(points.p_fa, mapped.p_fa)


@given(score_lists, score_lists)
def test_swapping_the_classes_and_the_sign_swaps_the_errors(targets: list[float], nontargets: list[float]) -> None:
    points = det_points(targets, nontargets)
    swapped = det_points(-np.array(nontargets), -np.array(targets))
    assert equal_error_rate(points)[0] == pytest.approx(equal_error_rate(swapped)[0], abs=1e-12)
    assert min_dcf(points, 0.1, 2, 3) == pytest.approx(min_dcf(swapped, 0.9, 3, 2), abs=1e-12)


@settings(max_examples=50)
@given(score_lists, score_lists)
def test_rates_are_bounded_and_monotone(targets: list[float], nontargets: list[float]) -> None:
    points = det_points(targets, nontargets)
    assert (points.p_miss[0], points.p_fa[0]) == (0, 1)
    assert (points.p_miss[-1], points.p_fa[-1], points.thresholds[-1]) == (1, 0, np.inf)
    assert np.all(np.diff(points.p_miss) >= 0)
    assert np.all(np.diff(points.p_fa) <= 0)
    assert len(points.thresholds) <= 2 * len(set(targets)) + 4
    assert 0 <= equal_error_rate(points)[0] <= 1
    assert 0 <= min_dcf(points, 0.01) <= 1


def test_known_values() -> None:
    perfect = det_points([2.0, 3.0], [0.0, 1.0])
    assert equal_error_rate(perfect) == (0.0, 2.0)
    assert min_dcf(perfect, 0.01) == 0.0
    reversed_scores = det_points([0.0, 1.0], [2.0, 3.0])
    assert equal_error_rate(reversed_scores)[0] == 1.0
    assert min_dcf(reversed_scores, 0.01) == 1.0


def test_the_threshold_may_lie_within_a_run_of_nontargets() -> None:
    # One of the two targets is missed throughout the run. The EER is where half of the 1000 non-targets are accepted.
    points = det_points([0.0, 2000.0], np.arange(1.0, 1001.0))
    eer, threshold = equal_error_rate(points)
    assert (eer, threshold) == (0.5, 501.0)


def test_identical_scores_and_a_single_pair() -> None:
    for n_targets, n_nontargets in ((1, 1), (3, 70)):
        points = det_points(np.full(n_targets, 0.7), np.full(n_nontargets, 0.7))
        assert equal_error_rate(points) == (0.5, 0.7)
        assert min_dcf(points, 0.01) == 1.0


def test_infinite_scores_rank_at_the_ends() -> None:
    infinite = det_points([-np.inf, 1.0, np.inf], [-np.inf, 0.0, np.inf])
    finite = det_points([-9.0, 1.0, 9.0], [-9.0, 0.0, 9.0])
    assert np.array_equal(infinite.p_miss, finite.p_miss)
    assert np.array_equal(infinite.p_fa, finite.p_fa)
    assert equal_error_rate(infinite) == equal_error_rate(finite)


def test_precision_is_kept_and_the_input_unchanged() -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(1, 1, (5, 4)).astype(np.float32)
    nontargets = generator.normal(0, 1, (30, 20)).astype(np.float32)
    before = targets.copy()
    points = det_points(targets, nontargets)
    assert points.thresholds.dtype == np.float32
    assert np.array_equal(targets, before)
    assert equal_error_rate(points)[1] in np.concatenate((targets.ravel(), nontargets.ravel())).tolist()
    assert det_points([1, 2], [0]).thresholds.dtype == np.float64


def test_invalid_input_is_rejected() -> None:
    with pytest.raises(InputError, match="no target trials"):
        det_points([], [1.0])
    with pytest.raises(InputError, match="no non-target trials"):
        det_points([1.0], [])
    with pytest.raises(InputError, match=r"3 scores are NaN \(1 of 2 target, 2 of 3 non-target\)"):
        det_points([1.0, np.nan], [np.nan, 0.0, np.nan])
    points = det_points([1.0], [0.0])
    for prior in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match="p_target"):
            min_dcf(points, prior)
    with pytest.raises(InputError, match="c_fa"):
        min_dcf(points, 0.5, c_fa=0)
    with pytest.raises(InputError, match=r"false-acceptance rate is 1\.5"):
        false_acceptance_point(points, 1.5)


@given(score_lists, score_lists)
def test_overwriting_the_input_gives_the_same_curve(targets: list[float], nontargets: list[float]) -> None:
    kept = det_points(targets, nontargets)
    arrays = np.array(targets, dtype=np.float32), np.array(nontargets, dtype=np.float32)
    points = det_points(*arrays, overwrite_input=True)
    assert np.array_equal(points.thresholds, kept.thresholds)
    assert np.array_equal(points.p_miss, kept.p_miss)
    assert np.array_equal(points.p_fa, kept.p_fa)
    assert np.array_equal(arrays[1], np.sort(nontargets))
