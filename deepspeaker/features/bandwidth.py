"""The frequency up to which a recording has sound, from its log-mel features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepspeaker.features.vtlp import hertz, mel_centres

#: A bin is empty if its loudest hundredth of frames stays this far below the loudest bin's: 55 dB, as a natural
#: logarithm of power.
#: Audio whose upper edge lies below this share of the mel filters' range has a narrow band.
NARROW_BAND = 0.9

_EMPTY = 5.5 * float(np.log(10.0))


def upper_edge(log_mel: NDArray[np.float32], low_freq: float = 20.0, high_freq: float = 7600.0) -> float:
    """Return the frequency in Hz above which there is practically no sound; 0 for silence.

    Parameters
    ----------
    log_mel
        (frames, bins), natural logarithms of mel energies.
    low_freq, high_freq
        The range of the mel filters in Hz.

    Returns
    -------
    float
        The centre of the highest bin that is not empty, or ``high_freq`` if that is the highest of all. In each bin,
        the loudest hundredth of the frames counts, so that the rare hiss of an s does.

    Examples
    --------
    >>> narrow = np.where(np.arange(64) < 50, 15.0, 1.0) * np.ones((100, 1))
    >>> round(upper_edge(narrow.astype(np.float32)))
    4021
    """
    frame = (99 * len(log_mel)) // 100
    loudest = np.partition(log_mel, frame, axis=0)[frame]
    if loudest.max() - loudest.min() == 0:
        return 0.0
    highest = int(np.flatnonzero(loudest > loudest.max() - _EMPTY)[-1])
    if highest == log_mel.shape[1] - 1:
        return high_freq
    return float(hertz(mel_centres(log_mel.shape[1], low_freq, high_freq)[highest]))
