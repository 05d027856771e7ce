"""Changes of a waveform: arrays in, arrays out. Lhotse's transforms do the work wherever it has one.

Signals are float32 of shape (samples,) in [-1, 1], and keep their length, except in ``speed``. The result may exceed
that range, as nothing stores it as integers.
"""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from deepspeaker.audio import resample

Signal = NDArray[np.float32]

#: The band of a telephone in Hz, and its sampling rate (ITU-T G.712 and G.711).
TELEPHONE_BAND, TELEPHONE_RATE = (300.0, 3400.0), 8000


def speed(samples: Signal, factor: float, sampling_rate: int) -> Signal:
    """Play faster by ``factor``: duration, pitch and formants change, as with ``sox speed``.

    Examples
    --------
    >>> len(speed(np.zeros(16000, np.float32), 0.8, 16000))
    20000
    """
    from lhotse.augmentation import Speed

    return _apply(Speed(factor), samples, sampling_rate)


def mix(samples: Signal, noise: Signal, snr: float, sampling_rate: int) -> Signal:
    """Add noise of the same length at a signal-to-noise ratio in dB, from the mean power of both.

    Examples
    --------
    >>> speech, noise = np.full(4, 0.2, np.float32), np.array([1, -1, 1, -1], np.float32)
    >>> mix(speech, noise, 20.0, 16000).tolist()
    [0.2199999988079071, 0.18000000715255737, 0.2199999988079071, 0.18000000715255737]
    """
    from lhotse.audio.mixer import AudioMixer

    mixer = AudioMixer(samples[None], sampling_rate)
    mixer.add_to_mix(noise[None], snr)
    return np.asarray(mixer.mixed_audio[0], dtype=np.float32)


def reverberate(samples: Signal, impulse_response: Signal, sampling_rate: int) -> Signal:
    """Convolve with a room impulse response; start and power of the signal stay as they were.

    Examples
    --------
    >>> click = np.eye(1, 8, dtype=np.float32)[0]
    >>> reverberate(click, np.array([0, 4, 3], np.float32), 16000)[:2]
    array([0.8, 0.6], dtype=float32)
    """
    from lhotse.augmentation import ReverbWithImpulseResponse

    def given(nsource: int) -> Signal:
        return impulse_response[None]

    return _apply(ReverbWithImpulseResponse(rir_generator=given), samples, sampling_rate)


def low_pass(samples: Signal, cutoff: float, sampling_rate: int) -> Signal:
    """Remove what is above ``cutoff`` Hz by an elliptic filter of order 8, 70 dB down, and round to 16 bit.

    Without the rounding, the empty band would be emptier than that of a file.
    """
    if cutoff >= 0.499 * sampling_rate:
        return samples
    return _rounded(_filtered(samples, "lowpass", cutoff, sampling_rate))


def telephone(samples: Signal, sampling_rate: int) -> Signal:
    """Pass only 300 to 3400 Hz, at 8 kHz and in eight-bit mu-law (ITU-T G.711).

    Notes
    -----
    Lhotse's ``Narrowband`` needs torchaudio, so libsndfile codes the samples.
    """
    narrow = _filtered(samples, "bandpass", TELEPHONE_BAND, sampling_rate)
    narrow = np.clip(resample(narrow, sampling_rate, TELEPHONE_RATE), -1.0, 1.0)
    coded = io.BytesIO()
    soundfile.write(coded, narrow, TELEPHONE_RATE, format="WAV", subtype="ULAW")
    coded.seek(0)
    decoded = soundfile.read(coded, dtype="float32")[0]
    return _of_length(resample(decoded, TELEPHONE_RATE, sampling_rate), len(samples))


def compress(samples: Signal, codec: str, compression: float, sampling_rate: int) -> Signal:
    """Code and decode: ``codec`` is opus, mp3 or vorbis, ``compression`` from 0 (best quality) to 1.

    For speech at 16 kHz, 0.9 to 1 are about 32 to 9 kbit/s of Opus and 26 to 21 kbit/s of MP3.
    """
    from lhotse.augmentation import Compress

    if codec == "mp3":
        compression = min(compression, 0.99)  # libsndfile refuses 1
    level = max(1.0, float(np.abs(samples).max(initial=0.0)))
    coded = _apply(Compress(codec=codec, compression_level=compression), samples / np.float32(level), sampling_rate)
    return _of_length(np.float32(level) * coded, len(samples))


def gain(samples: Signal, db: float) -> Signal:
    """Amplify by ``db``; what exceeds full scale is cut off."""
    from lhotse.augmentation import Volume

    return np.clip(_apply(Volume(float(10 ** (db / 20))), samples, 0), -1.0, 1.0)


def clip(samples: Signal, db: float) -> Signal:
    """Cut off what a recording whose peak lies ``db`` above full scale would lose; the loudness stays.

    Examples
    --------
    >>> clip(np.array([0.1, -0.8, 0.4], np.float32), 6.0206).round(3)
    array([ 0.1, -0.4,  0.4], dtype=float32)
    """
    from lhotse.augmentation import Clipping

    return _apply(Clipping(hard=True, gain_db=db), samples, 0)


def _apply(transform: Any, samples: Signal, sampling_rate: int) -> Signal:
    return np.asarray(transform(np.ascontiguousarray(samples)[None], sampling_rate)[0], dtype=np.float32)


def _filtered(
    samples: Signal, kind: Literal["lowpass", "bandpass"], edges: float | tuple[float, float], sampling_rate: int
) -> Signal:
    from scipy.signal import ellip, sosfilt

    edge: Any = edges  # the stubs of scipy have a function for each kind
    sections: Any = ellip(8, 0.1, 70.0, edge, btype=kind, output="sos", fs=sampling_rate)
    return np.asarray(sosfilt(sections, samples), dtype=np.float32)


def _rounded(samples: Signal) -> Signal:
    return np.asarray(np.round(samples * 32768) / 32768, dtype=np.float32)


def _of_length(samples: Signal, length: int) -> Signal:
    """Cut a signal, or add zeros, so that it has ``length`` samples."""
    return np.pad(samples[:length], (0, max(length - len(samples), 0)))
