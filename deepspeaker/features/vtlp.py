"""Vocal tract length perturbation (VTLP) of log-mel frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def vtlp_matrix(factor: float, num_bins: int, low_freq: float, high_freq: float) -> NDArray[np.float32]:
    """Return the matrix W for which ``frames @ W`` has its frequency axis stretched by ``factor``.

    Parameters
    ----------
    factor
        A factor above 1 lowers the formants, as a longer vocal tract does. 1 changes nothing.
    num_bins, low_freq, high_freq
        The mel filters: their number, and the range that they divide evenly on the mel scale, in Hz.

    Returns
    -------
    NDArray
        (num_bins, num_bins), float32.

    Notes
    -----
    Each bin takes the value at ``factor`` times its centre frequency. Values are interpolated linearly between bins,
    and constant beyond the first and last bin.

    References
    ----------
    Jaitly and Hinton, Vocal Tract Length Perturbation (VTLP) improves speech recognition, ICML 2013 workshop.

    Examples
    --------
    >>> frame = np.eye(8, dtype=np.float32)[5]  # a peak in bin 5
    >>> int((frame @ vtlp_matrix(1.25, 8, 20.0, 7600.0)).argmax())
    4
    """
    centres = mel_centres(num_bins, low_freq, high_freq)
    source = np.interp(_mel(factor * hertz(centres)), centres, np.arange(num_bins))
    below = np.minimum(source.astype(int), max(num_bins - 2, 0))
    columns = np.arange(num_bins)
    warp = np.zeros((num_bins, num_bins))
    warp[below, columns] = 1.0 - (source - below)
    if num_bins > 1:
        warp[below + 1, columns] += source - below
    return warp.astype(np.float32)


def mel_centres(num_bins: int, low_freq: float, high_freq: float) -> NDArray[np.float64]:
    """Return the centres of the mel filters in mel, (num_bins,). See ``hertz``."""
    low, high = _mel(low_freq), _mel(high_freq)
    return low + (np.arange(num_bins) + 1) * (high - low) / (num_bins + 1)


def _mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mel frequencies in Hz."""
    return 700.0 * np.expm1(mel / 1127.0)
