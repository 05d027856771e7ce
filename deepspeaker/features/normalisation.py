"""Mean and variance normalisation over an utterance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_variance_normalised(features: NDArray[np.float32], variance_floor: float = 0.01) -> NDArray[np.float32]:
    """Features (frames, dim) -> each bin with zero mean and unit variance over the frames, float32.

    A bin that hardly varies (clipped to a floor, band-limited audio) would be blown up into noise of the quantiser,
    so no bin's variance counts as less than ``variance_floor`` times the mean variance of the utterance's bins. A
    constant bin becomes zero.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    variance = features.var(axis=0, dtype=np.float64)
    floored = np.maximum(variance, max(variance_floor * float(variance.mean()), 1e-10))
    return np.asarray((features - mean) / np.sqrt(floored), dtype=np.float32)
