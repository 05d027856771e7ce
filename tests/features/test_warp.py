from __future__ import annotations

import numpy as np
import pytest

from deepspeaker.features import frequency_warp


def warped_by_hand(frames: np.ndarray, factor: float, low: float, high: float) -> np.ndarray:
    """Bin by bin from the definition: where the value comes from, between which two bins."""
    bins = frames.shape[1]

    def mel(hertz: float) -> float:
        return float(2595.0 * np.log10(1.0 + hertz / 700.0))

    step = (mel(high) - mel(low)) / (bins + 1)
    result = np.empty(frames.shape)
    for column in range(bins):
        centre = 700.0 * (10.0 ** ((mel(low) + (column + 1) * step) / 2595.0) - 1.0)
        place = min(max((mel(factor * centre) - mel(low)) / step - 1.0, 0.0), bins - 1.0)
        below = min(int(place), bins - 2)
        result[:, column] = frames[:, below] + (place - below) * (frames[:, below + 1] - frames[:, below])
    return result


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.0, 1.07, 1.25])
@pytest.mark.parametrize(("bins", "low", "high"), [(64, 20.0, 7600.0), (40, 0.0, 8000.0), (5, 100.0, 3800.0)])
def test_against_the_definition_bin_by_bin(factor: float, bins: int, low: float, high: float) -> None:
    frames = np.random.default_rng(bins).normal(size=(7, bins))
    # The two ways to write the mel scale (1127 ln, 2595 log10) differ in the fifth digit.
    np.testing.assert_allclose(
        frames @ frequency_warp(factor, bins, low, high), warped_by_hand(frames, factor, low, high), atol=5e-3
    )


def test_factor_one_changes_nothing_and_each_bin_is_a_weighted_mean() -> None:
    np.testing.assert_allclose(frequency_warp(1.0, 64, 20.0, 7600.0), np.eye(64), atol=1e-6)
    for factor in (0.85, 1.15):
        warp = frequency_warp(factor, 64, 20.0, 7600.0)
        assert (warp >= 0).all()
        np.testing.assert_allclose(warp.sum(axis=0), 1.0, atol=1e-6)


def test_a_peak_moves_down_by_a_factor_above_one() -> None:
    frames = np.zeros((1, 64))
    frames[0, 30] = 1.0
    assert np.argmax(frames @ frequency_warp(1.2, 64, 20.0, 7600.0)) < 30
    assert np.argmax(frames @ frequency_warp(0.8, 64, 20.0, 7600.0)) > 30


def test_a_single_bin() -> None:
    np.testing.assert_array_equal(frequency_warp(1.1, 1, 20.0, 7600.0), [[1.0]])
