from __future__ import annotations

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.metrics import confidence_interval, rates_at_threshold


def test_rates_and_intervals_equal_a_bootstrap_of_single_trials() -> None:
    generator = np.random.default_rng(1)
    speaker = np.repeat(np.arange(12), 4)
    vectors = generator.normal(size=(12, 6))[speaker] + 0.9 * generator.normal(size=(48, 6))
    first, second = np.triu_indices(48, 1)
    scores, same = (vectors[first] * vectors[second]).sum(axis=1), speaker[first] == speaker[second]
    found = rates_at_threshold(scores, same, speaker[first], speaker[second], 2.0, draws=200, seed=3)
    assert found.p_miss == np.mean(scores[same] < 2.0)
    assert found.p_fa == np.mean(scores[~same] >= 2.0)

    drawn = np.random.default_rng(3).integers(0, 12, (200, 12))
    misses, false = [], []
    for draw in drawn:
        weight = np.array([(draw == s).sum() for s in speaker])
        target = np.array([(draw == s).sum() for s in speaker[first]])[same]
        pairs = (weight[first] * weight[second])[~same]
        misses.append(np.average(scores[same] < 2.0, weights=target))
        false.append(np.average(scores[~same] >= 2.0, weights=pairs))
    assert found.p_miss_ci95 == pytest.approx(
        confidence_interval(found.p_miss, np.array(misses), 12, 0.5 / same.sum()), abs=1e-12
    )
    assert found.p_fa_ci95 == pytest.approx(
        confidence_interval(found.p_fa, np.array(false), 12, 0.5 / (~same).sum()), abs=1e-12
    )


def test_few_speakers_have_no_interval_and_one_class_is_an_error() -> None:
    assert rates_at_threshold([1, 0], [True, False], [0, 0], [0, 1], 0.5)[1::2] == (None, None)
    with pytest.raises(InputError, match="target and non-target"):
        rates_at_threshold([1, 0], [True, True], [0, 1], [0, 1], 0.5)
