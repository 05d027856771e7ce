from __future__ import annotations

import numpy as np
import pytest

from deepspeaker.features import mean_variance_normalised


@pytest.mark.parametrize("shape", [(2, 1), (100, 64), (999, 7)])
def test_zero_mean_and_unit_variance_in_each_bin(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    features = (generator.normal(size=shape) * generator.uniform(2, 4, shape[1]) - 12).astype("f4")
    normalised = mean_variance_normalised(features)
    assert normalised.dtype == np.float32
    assert np.abs(normalised.mean(axis=0, dtype="f8")).max() < 1e-6
    assert np.allclose(normalised.var(axis=0, dtype="f8"), 1, atol=1e-5)
    wide = features.astype("f8")
    assert np.allclose(normalised, (wide - wide.mean(axis=0)) / wide.std(axis=0), atol=1e-5)


def test_a_constant_bin_becomes_zero() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3)).astype("f4")
    features[:, 1] = -15.942385
    normalised = mean_variance_normalised(features)
    assert np.abs(normalised[:, 1]).max() < 1e-5
    assert normalised[:, 0].std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("floor", [0.01, 0.25])
def test_a_bin_that_hardly_varies_is_held_down_by_the_floor(floor: float) -> None:
    features = np.random.default_rng(0).normal(size=(500, 4)) * [3.0, 1.0, 0.001, 2.0]
    variance = features.astype("f4").var(axis=0, dtype="f8")
    expected = np.sqrt(variance / np.maximum(variance, floor * variance.mean()))
    normalised = mean_variance_normalised(features.astype("f4"), floor)
    assert np.allclose(normalised.std(axis=0, dtype="f8"), expected, rtol=1e-4)
    assert normalised[:, 2].std() < 0.01


def test_one_frame_and_all_constant_are_zero_without_a_warning() -> None:
    with np.errstate(all="raise"):
        for features in (np.full((1, 5), 7.3, dtype="f4"), np.full((20, 5), -1e-3, dtype="f4")):
            assert np.abs(mean_variance_normalised(features)).max() < 1e-3
            assert np.abs(mean_variance_normalised(features, 0.0)).max() < 1e-3


def test_level_and_scale_of_the_whole_change_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(200, 8)).astype("f4")
    assert np.allclose(mean_variance_normalised(features), mean_variance_normalised(4 * features + 16), atol=1e-4)
