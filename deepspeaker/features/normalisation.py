"""Mean and variance normalisation over an utterance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError

#: Share of a matrix' range that storing it may add to a value: half a step of Kaldi's coarsest compression,
#: "speech-feature", which has 63 steps between two percentiles ("one-byte": 255 steps over the whole range).
_STORED_WITHIN = 1 / 126


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


def check_normalised(features: NDArray[np.float32], utterance: str, data_dir: str | Path) -> None:
    """Raises ``InputError`` unless ``features`` (frames, dim) can be what ``mean_variance_normalised`` made.

    Each bin then has mean 0 and a standard deviation of 1, or less where the variance floor held it down. Storing the
    matrix changes no value by more than a 126th of its range, so both may be off by that much and no more, whatever
    the compression. On the arks of the demo corpus, LibriSpeech and krs180 they were off by at most a 509th. Log-mel
    features that are not normalised were off by at least a sixth of their range, and those of krs180, whose mean alone
    is normalised, by at least a 52nd.

    Parameters
    ----------
    features
        All frames of an utterance, (frames, dim), at least one frame.
    utterance, data_dir
        What the error names.

    Raises
    ------
    InputError
        The features are not normalised, or not finite; it names the directory to take instead.
    """
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    off = np.maximum(np.abs(mean), deviation - 1)
    if off.max() <= _STORED_WITHIN * float(np.ptp(features)) + 1e-3:
        return
    folder, worst = Path(data_dir), int(off.argmax())
    if folder.name.endswith("_nosil"):
        remedy = f"run local/2_fbank.sh {folder.with_name(folder.name.removesuffix('_nosil'))} again"
    else:
        remedy = f"embed {folder.with_name(folder.name + '_nosil')}, which local/2_fbank.sh makes of it"
    raise InputError(
        f"{folder}: the features of {utterance} are not normalised (bin {worst} has mean {mean[worst]:.3g} and "
        f"standard deviation {deviation[worst]:.3g}, not 0 and 1); {remedy}"
    )
