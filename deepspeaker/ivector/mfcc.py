"""The features of the i-vector system: MFCCs with delta and acceleration, of speech frames only.

The order of the steps is that of Kaldi's ``sid/`` scripts: MFCC, VAD on the log-energy, deltas over all frames, CMVN,
then the selection of speech frames.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.features import FbankExtractor, energy_vad, mean_variance_normalised

Cmvn = Literal["sliding", "utterance", "none"]


class MfccExtractor:
    """Compute the features of ``compute-mfcc-feats --dither=0 --snip-edges=false --use-energy=true``.

    Parameters
    ----------
    num_ceps
        The number of coefficients, with the log-energy as number 0.
    cepstral_lifter
        Q of the lifter, 0 for none.
    num_bins, low_freq, high_freq, sampling_rate, frame_length, frame_shift
        See `deepspeaker.features.FbankExtractor`.

    Attributes
    ----------
    minimum_samples
        The length of the shortest audio that gives a frame.

    Notes
    -----
    The log-mel energies e and the raw log-energy are those of Lhotse's extractor. With B bins, coefficient k is

        sqrt(2 / B) * sum_b e_b cos(pi k (b + 1/2) / B) * (1 + Q / 2 * sin(pi k / Q)),

    the type II DCT with Kaldi's lifter (src/matrix/matrix-functions.cc and src/feat/mel-computations.cc; Lhotse's
    ``Wav2MFCC`` has the same matrices). Coefficient 0 is replaced by the raw log-energy, which ``compute-vad`` reads.
    ``Wav2MFCC(use_energy=True)`` of Lhotse 1 cannot be used: it writes the energies over the first frame.

    Examples
    --------
    >>> MfccExtractor()(np.zeros(16000, dtype=np.float32)).shape
    (100, 20)
    """

    def __init__(
        self,
        sampling_rate: int = 16000,
        num_ceps: int = 20,
        num_bins: int = 30,
        low_freq: float = 20.0,
        high_freq: float = 7600.0,
        cepstral_lifter: float = 22.0,
        frame_length: float = 0.025,
        frame_shift: float = 0.010,
    ) -> None:
        if not 1 <= num_ceps <= num_bins:
            raise InputError(f"{num_ceps} cepstral coefficients of {num_bins} mel bins: give 1 to {num_bins}")
        self._fbank = FbankExtractor(sampling_rate, num_bins, low_freq, high_freq, frame_length, frame_shift)
        self.minimum_samples = self._fbank.minimum_samples
        order = np.arange(num_ceps)
        dct = np.sqrt(2.0 / num_bins) * np.cos(np.pi / num_bins * np.outer(np.arange(num_bins) + 0.5, order))
        if cepstral_lifter > 0:
            dct *= 1.0 + 0.5 * cepstral_lifter * np.sin(np.pi * order / cepstral_lifter)
        self._dct = dct

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the coefficients of each frame, (frames, num_ceps), of samples (samples,) in [-1, 1]."""
        log_mel, log_energy = self._fbank(samples)
        mfcc = (log_mel @ self._dct).astype(np.float32)
        mfcc[:, 0] = log_energy
        return np.asarray(mfcc)


def with_deltas(features: NDArray[np.float32], order: int = 2, window: int = 2) -> NDArray[np.float32]:
    """Append differences along time, as Kaldi's ``add-deltas`` does.

    Parameters
    ----------
    features
        (frames, dim).
    order
        1 for deltas, 2 for deltas and accelerations, and so on.
    window
        How many frames count on either side for one order.

    Returns
    -------
    NDArray
        (frames, dim * (order + 1)), float32.

    Notes
    -----
    The delta is the slope of a straight line through 2 * window + 1 frames: sum_j j x_{t+j} / sum_j j^2. For a higher
    order, the filter is convolved with itself, and then applied to the features once; frames beyond an end repeat the
    last one (``DeltaFeatures`` in src/feat/feature-functions.cc). That differs at the ends from deltas of deltas.

    Examples
    --------
    >>> with_deltas(np.array([[0], [1], [2], [3], [4], [5]], dtype=np.float32), order=1).T.round(2)
    array([[0. , 1. , 2. , 3. , 4. , 5. ],
           [0.5, 0.8, 1. , 1. , 0.8, 0.5]], dtype=float32)
    """
    frames, dim = features.shape
    slope = np.arange(-window, window + 1, dtype=np.float64)
    slope /= max(float((slope**2).sum()), 1.0)
    result = np.empty((frames, dim * (order + 1)), dtype=np.float32)
    result[:, :dim] = features
    weights = np.ones(1)
    reach = order * window
    padded = np.pad(features.astype(np.float64), ((reach, reach), (0, 0)), mode="edge") if frames else features
    for number in range(1, order + 1):
        weights = np.convolve(weights, slope)
        total = np.zeros((frames, dim))
        for offset, weight in enumerate(weights, start=reach - number * window):
            total += weight * padded[offset : offset + frames]
        result[:, number * dim : (number + 1) * dim] = total
    return result


def sliding_cmvn(
    features: NDArray[np.float32], window: int = 300, *, normalise_variance: bool = False
) -> NDArray[np.float32]:
    """Subtract the mean of a window around each frame, as ``apply-cmvn-sliding --center=true`` does.

    Parameters
    ----------
    features
        (frames, dim).
    window
        The length of the window in frames. At the ends of the utterance, it is moved inwards.
    normalise_variance
        Also divide by the standard deviation of the window.

    Returns
    -------
    NDArray
        (frames, dim), float32.

    Examples
    --------
    >>> sliding_cmvn(np.array([[1], [2], [6], [6]], dtype=np.float32), window=2).T
    array([[-0.5,  0.5,  2. ,  0. ]], dtype=float32)
    """
    frames = len(features)
    if window < 1:
        raise InputError(f"a window of {window} frames: give 1 or more")
    if not frames:
        return np.asarray(features, dtype=np.float32)
    width = min(window, frames)
    first = np.clip(np.arange(frames) - window // 2, 0, frames - width)
    values = features.astype(np.float64)
    values -= values.mean(axis=0)  # keeps the sums small
    mean = _window_sums(values, first, width) / width
    centred = values - mean
    if normalise_variance:
        variance = _window_sums(values**2, first, width) / width - mean**2
        centred /= np.sqrt(np.maximum(variance, 1e-10))
    return centred.astype(np.float32)


def _window_sums(values: NDArray[np.float64], first: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return np.asarray(sums[first + width] - sums[first])


def speech_features(
    mfcc: NDArray[np.float32],
    speech: NDArray[np.bool_] | None = None,
    *,
    cmvn: Cmvn = "sliding",
    window: int = 300,
    vad: dict[str, Any] | None = None,
) -> NDArray[np.float32]:
    """Return normalised MFCCs with delta and acceleration of the speech frames of an utterance.

    Parameters
    ----------
    mfcc
        All frames of `MfccExtractor`, (frames, num_ceps); column 0 is the raw log-energy.
    speech
        Which frames are speech, (frames,). Default: `deepspeaker.features.energy_vad` decides.
    cmvn
        ``sliding`` subtracts the mean of a window (see `sliding_cmvn`) from all frames. ``utterance`` gives the speech
        frames zero mean and unit variance.
    window
        For ``sliding``, in frames.
    vad
        Options of `deepspeaker.features.energy_vad`, if it decides.

    Returns
    -------
    NDArray
        (speech frames, 3 * num_ceps), float32.

    Raises
    ------
    InputError
        There is no frame, no speech frame, or a value that is not finite, or ``speech`` has another length.
    """
    if not len(mfcc):
        raise InputError("has no frame")
    if not np.isfinite(mfcc).all():
        raise InputError("has features that are not finite numbers")
    if speech is None:
        speech = energy_vad(mfcc[:, 0], **(vad or {})) > 0
    if len(speech) != len(mfcc):
        raise InputError(f"has {len(mfcc)} frames and {len(speech)} VAD decisions; run stage 2 again")
    if not speech.any():
        raise InputError("has no speech frame")
    features = with_deltas(mfcc)
    if cmvn == "sliding":
        return sliding_cmvn(features, window)[speech]
    return mean_variance_normalised(features[speech]) if cmvn == "utterance" else features[speech]
