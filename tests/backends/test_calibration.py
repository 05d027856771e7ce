from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from deepspeaker.backends import duration_measures, train_calibration
from deepspeaker.errors import InputError
from deepspeaker.metrics import act_dcf, cllr, det_points, min_cllr, min_dcf


def draw(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose log-likelihood ratio is 4 * score - 1."""
    generator = np.random.default_rng(seed)
    llr = np.concatenate([generator.normal(2, 2, number), generator.normal(-2, 2, 20 * number)])
    return ((llr + 1) / 4)[:, None], np.arange(21 * number) < number


def test_against_the_objective_minimised_directly() -> None:
    scores, labels = draw(0, 50)
    prior = 0.05
    odds = np.log(prior / (1 - prior))

    def objective(x: np.ndarray) -> float:
        z = x[0] * scores[:, 0] + x[1] + odds
        miss = prior * np.logaddexp(0, -z[labels]).mean()
        return float(miss + (1 - prior) * np.logaddexp(0, z[~labels]).mean())

    expected = minimize(objective, [1.0, 0.0], method="BFGS", options={"gtol": 1e-9}).x
    found = train_calibration(scores, labels, prior)
    assert [*found.weights, found.offset] == pytest.approx(expected.tolist(), rel=2e-3, abs=2e-3)


def test_it_finds_the_known_ratio_and_its_scores_are_calibrated_on_other_trials() -> None:
    calibration = train_calibration(*draw(1, 5000))
    assert [*calibration.weights, calibration.offset] == pytest.approx([4.0, -1.0], abs=0.15)
    scores, labels = draw(2, 5000)
    llrs = calibration(scores)
    targets, nontargets = llrs[labels], llrs[~labels]
    assert cllr(targets, nontargets) == pytest.approx(min_cllr(targets, nontargets), abs=0.01)
    assert act_dcf(targets, nontargets, 0.05) == pytest.approx(min_dcf(det_points(targets, nontargets), 0.05), abs=0.02)


def test_fusion_of_two_systems_is_better_than_each() -> None:
    generator = np.random.default_rng(3)
    labels = np.arange(8000) < 1000
    scores = np.where(labels, 1.0, -1.0)[:, None] + generator.normal(size=(8000, 2)) * [1.5, 1.0]
    fused = train_calibration(scores[::2], labels[::2])(scores[1::2])
    rest = labels[1::2]
    costs = [min_cllr(own[rest], own[~rest]) for own in (fused, scores[1::2, 0], scores[1::2, 1])]
    assert costs[0] < min(costs[1:])


def test_durations_and_wrong_input() -> None:
    frames = np.array([100, 400, 200])
    measures = duration_measures(frames, np.array([0, 1]), np.array([1, 2]))
    np.testing.assert_allclose(np.exp(measures), [[100, 400], [200, 400]])
    with pytest.raises(InputError, match="target and non-target trials of development"):
        train_calibration(np.zeros((3, 1)), np.ones(3, dtype=bool))
