"""Cepstral mean and variance normalisation (CMVN) of log-mel features over an utterance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError

#: The largest error of a compressed value, as a share of the matrix' range: half a step of Kaldi's coarsest
#: compression, "speech-feature", with 63 steps between two percentiles. "one-byte" has 255 steps over the range.
_COMPRESSION_ERROR = 1 / 126


def mean_variance_normalised(features: NDArray[np.float32], variance_floor: float = 0.01) -> NDArray[np.float32]:
    """Normalise each bin to zero mean and unit variance over the frames.

    Parameters
    ----------
    features
        (frames, dim).
    variance_floor
        The smallest variance of a bin, as a share of the mean variance of all bins. Without a floor, a bin that hardly
        varies (band-limited audio, for example) would become amplified quantisation noise.

    Returns
    -------
    NDArray
        (frames, dim), float32. A constant bin becomes zero.

    Examples
    --------
    >>> mean_variance_normalised(np.array([[1, 5], [3, 9]], dtype=np.float32))
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """
    mean = features.mean(axis=0, dtype=np.float64)
    variance = features.var(axis=0, dtype=np.float64)
    floored = np.maximum(variance, max(variance_floor * float(variance.mean()), 1e-10))
    return np.asarray((features - mean) / np.sqrt(floored), dtype=np.float32)


def check_normalised(features: NDArray[np.float32], utterance: str, data_dir: str | Path) -> None:
    """Check that features were normalised by ``mean_variance_normalised``.

    Parameters
    ----------
    features
        All frames of an utterance, (frames, dim), with at least one frame.
    utterance, data_dir
        Names for the error message.

    Raises
    ------
    InputError
        The features are not normalised, or not finite. The message names the directory to use instead.

    Notes
    -----
    A normalised bin has mean 0 and a standard deviation of 1, or less under the variance floor. Compression changes a
    value by at most 1/126 of the matrix' range, so mean and deviation may be off by that much. On the arks of the demo
    corpus, LibriSpeech and krs180 they were off by at most 1/509 of the range. Log-mel features without CMVN were off
    by at least 1/6, and those of krs180, with mean normalisation only, by at least 1/52.
    """
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    off = np.maximum(np.abs(mean), deviation - 1)
    if off.max() <= _COMPRESSION_ERROR * float(np.ptp(features)) + 1e-3:
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
