from __future__ import annotations

import numpy as np
import pytest

from deepspeaker.features import vtlp_matrix


def warp_bin_by_bin(frames: np.ndarray, factor: float, low: float, high: float) -> np.ndarray:
    """Warp each bin from the definition of VTLP, with the other form of the mel scale."""
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
def test_matches_the_definition_bin_by_bin(factor: float, bins: int, low: float, high: float) -> None:
    frames = np.random.default_rng(bins).normal(size=(7, bins))
    # 1127 ln and 2595 log10 differ in the fifth digit.
    np.testing.assert_allclose(
        frames @ vtlp_matrix(factor, bins, low, high), warp_bin_by_bin(frames, factor, low, high), atol=5e-3
    )


def test_factor_one_is_the_identity_and_bins_are_weighted_means() -> None:
    np.testing.assert_allclose(vtlp_matrix(1.0, 64, 20.0, 7600.0), np.eye(64), atol=1e-6)
    for factor in (0.85, 1.15):
        warp = vtlp_matrix(factor, 64, 20.0, 7600.0)
        assert (warp >= 0).all()
        np.testing.assert_allclose(warp.sum(axis=0), 1.0, atol=1e-6)


def test_a_factor_above_one_moves_a_peak_down() -> None:
    frames = np.zeros((1, 64))
    frames[0, 30] = 1.0
    assert np.argmax(frames @ vtlp_matrix(1.2, 64, 20.0, 7600.0)) < 30
    assert np.argmax(frames @ vtlp_matrix(0.8, 64, 20.0, 7600.0)) > 30


def test_a_single_bin() -> None:
    np.testing.assert_array_equal(vtlp_matrix(1.1, 1, 20.0, 7600.0), [[1.0]])
