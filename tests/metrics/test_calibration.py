"""Calibration metrics against loops over their formulas and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from deepspeaker.errors import InputError
from deepspeaker.metrics import act_dcf, cllr, det_points, min_cllr, min_dcf, roc_auc

scores = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=30)


def draw(seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets, nontargets = generator.normal(1.5, 1.2, 40), generator.normal(-1, 1, 300)
    return (targets.round(), nontargets.round()) if ties else (targets, nontargets)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_cllr_and_actual_cost_against_loops(seed: int, ties: bool) -> None:
    targets, nontargets = draw(seed, ties)
    expected = sum(math.log2(1 + math.exp(-s)) for s in targets) / len(targets) / 2
    expected += sum(math.log2(1 + math.exp(s)) for s in nontargets) / len(nontargets) / 2
    assert cllr(targets, nontargets) == pytest.approx(expected, rel=1e-12)
    for p, c_miss, c_fa in ((0.05, 1.0, 1.0), (0.01, 10.0, 1.0), (0.5, 1.0, 1.0), (0.9, 1.0, 2.0)):
        threshold = math.log(c_fa * (1 - p) / (c_miss * p))
        miss = sum(s < threshold for s in targets) / len(targets)
        false_alarm = sum(s >= threshold for s in nontargets) / len(nontargets)
        cost = (c_miss * p * miss + c_fa * (1 - p) * false_alarm) / min(c_miss * p, c_fa * (1 - p))
        assert act_dcf(targets, nontargets, p, c_miss, c_fa) == pytest.approx(cost, rel=1e-12)
        points = det_points(targets, nontargets)
        assert act_dcf(targets, nontargets, p, c_miss, c_fa) >= min_dcf(points, p, c_miss, c_fa) - 1e-12


@settings(max_examples=150, deadline=None)
@given(scores, scores)
def test_min_cllr_against_scikit_learns_isotonic_regression(targets: list[float], nontargets: list[float]) -> None:
    values = np.array(targets + nontargets)
    labels = np.array([1.0] * len(targets) + [0.0] * len(nontargets))
    posteriors = IsotonicRegression(y_min=0, y_max=1).fit(values, labels).predict(values)
    prior = len(targets) / len(nontargets)
    cost = 0.0
    for p, is_target in zip(posteriors.tolist(), labels, strict=True):
        if is_target:
            cost += math.log2(1 + prior * (1 - p) / p) / len(targets) / 2
        elif p > 0:
            cost += math.log2(1 + p / (1 - p) / prior) / len(nontargets) / 2
    assert min_cllr(targets, nontargets) == pytest.approx(cost, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(scores, scores)
def test_auc_against_scikit_learn(targets: list[float], nontargets: list[float]) -> None:
    labels = [1] * len(targets) + [0] * len(nontargets)
    assert roc_auc(targets, nontargets) == pytest.approx(roc_auc_score(labels, targets + nontargets), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_increasing_maps_change_only_the_calibration(seed: int) -> None:
    targets, nontargets = draw(seed)
    assert min_cllr(np.exp(targets), np.exp(nontargets)) == pytest.approx(min_cllr(targets, nontargets), abs=1e-12)
    assert roc_auc(targets**3, nontargets**3) == pytest.approx(roc_auc(targets, nontargets), abs=1e-12)
    assert cllr(5 * targets, 5 * nontargets) > cllr(targets, nontargets) >= min_cllr(targets, nontargets)


def test_true_log_likelihood_ratios_are_calibrated() -> None:
    """For two Gaussians of equal variance the ratio is known: actual and minimum cost agree on many trials."""
    generator = np.random.default_rng(0)
    llr = lambda x: 2.0 * x  # noqa: E731 - N(1, 1) versus N(-1, 1)
    targets, nontargets = llr(generator.normal(1, 1, 200_000)), llr(generator.normal(-1, 1, 200_000))
    assert cllr(targets, nontargets) == pytest.approx(min_cllr(targets, nontargets), abs=2e-3)
    points = det_points(targets, nontargets)
    for p in (0.5, 0.1, 0.05):
        assert act_dcf(targets, nontargets, p) == pytest.approx(min_dcf(points, p), rel=0.02)


def test_extreme_and_invalid_scores() -> None:
    assert cllr([0.0], [0.0]) == pytest.approx(1.0)
    assert min_cllr([0.0, 0.0], [0.0]) == pytest.approx(1.0)
    assert min_cllr([1.0], [0.0]) == 0.0
    assert roc_auc([1.0], [1.0]) == 0.5
    assert cllr([np.inf], [-np.inf]) == 0.0
    assert act_dcf([0.0], [0.0], 0.5) == 1.0
    for function in (cllr, min_cllr, roc_auc):
        with pytest.raises(InputError, match="no target trials"):
            function([], [1.0])
        with pytest.raises(InputError, match="scores are NaN"):
            function([1.0], [np.nan])
    with pytest.raises(InputError, match="p_target is 1"):
        act_dcf([1.0], [0.0], 1)
