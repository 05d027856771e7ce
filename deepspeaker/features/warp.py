"""Vocal tract length perturbation (VTLP; Jaitly and Hinton, ICML 2013 workshop) of log-mel frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def frequency_warp(factor: float, num_bins: int, low_freq: float, high_freq: float) -> NDArray[np.float32]:
    """The matrix W (num_bins, num_bins) with which ``frames @ W`` has its frequency axis stretched by ``factor``.

    A bin of the result takes the value that stood ``factor`` times its centre frequency, interpolated linearly between
    bins, held at the ends; the bins are mel filters, evenly spaced between ``low_freq`` and ``high_freq`` Hz. Hence a
    factor above 1 lowers formants, as a longer vocal tract does; 1 gives the unit matrix.
    """
    low, high = _mel(low_freq), _mel(high_freq)
    centres = low + (np.arange(num_bins) + 1) * (high - low) / (num_bins + 1)
    source = np.interp(_mel(factor * _hertz(centres)), centres, np.arange(num_bins))
    below = np.minimum(source.astype(int), max(num_bins - 2, 0))
    columns = np.arange(num_bins)
    warp = np.zeros((num_bins, num_bins))
    warp[below, columns] = 1.0 - (source - below)
    if num_bins > 1:
        warp[below + 1, columns] += source - below
    return warp.astype(np.float32)


def _mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700.0 * np.expm1(mel / 1127.0)
