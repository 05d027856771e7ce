"""Whether audio holds enough evidence for a decision: is it speech, how much of it, and how well recorded.

Kaldi's energy VAD accepts any sound that is loud enough, so ``speech_score`` tells speech from other sounds. Only numpy
is used, so that this works wherever an exported model runs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepspeaker.inference.speech_score import SHIFT, cut, speech_score


class Quality(NamedTuple):
    """What is known about an audio file before it is compared with another."""

    seconds: float
    speech_seconds: float
    clipped: float  # share of the samples that are cut off at full scale
    bandwidth: float  # Hz; there is practically no energy above
    level: float  # dBFS, of the speech frames
    speech_score: float  # 0 to 1; below 0.5: not speech
    original_rate: int  # Hz, before resampling


class Problem(NamedTuple):
    """Something about an audio file that a user should know."""

    code: str
    sentence: str
    forbids: bool  # whether no decision can be made


def quality(
    samples: NDArray[np.float32],
    log_mel: NDArray[np.float32],
    speech: NDArray[np.float32],
    original_rate: int,
    sampling_rate: int = 16000,
) -> Quality:
    """Measure an audio file.

    Parameters
    ----------
    samples
        (n,), in [-1, 1].
    log_mel
        (frames, bins), raw natural-log mel energies of the samples scaled to 16 bit, a frame every 10 ms.
    speech
        (frames,), nonzero for the frames that the energy VAD takes for speech.
    original_rate
        Sampling rate of the file in Hz, before resampling.
    sampling_rate
        Sampling rate of ``samples`` in Hz.

    Returns
    -------
    Quality

    Examples
    --------
    >>> silence = quality(np.zeros(16000, np.float32), np.full((100, 64), -15.9), np.zeros(100), 16000)
    >>> silence.seconds, silence.speech_seconds, silence.speech_score
    (1.0, 0.0, 0.0)
    """
    frames = min(len(log_mel), len(speech))
    spoken = np.asarray(speech[:frames]) > 0
    return Quality(
        seconds=len(samples) / sampling_rate,
        speech_seconds=round(float(spoken.sum()) * SHIFT, 2),
        clipped=clipped_share(samples),
        bandwidth=bandwidth(samples, sampling_rate),
        level=speech_level(samples, spoken, sampling_rate),
        speech_score=speech_score(samples, log_mel[:frames], spoken, sampling_rate),
        original_rate=original_rate,
    )


def problems(
    quality: Quality,
    minimum_speech: float = 1.0,
    sampling_rate: int = 16000,
    high_freq: float = 7600.0,
    minimum_score: float = 0.5,
) -> list[Problem]:
    """Return what is wrong with an audio file, with what forbids a decision first.

    Parameters
    ----------
    quality
        What ``quality`` measured.
    minimum_speech
        Seconds of speech that a decision needs.
    sampling_rate, high_freq
        Sampling rate and upper edge of the bands of the model, in Hz.
    minimum_score
        Speech scores below this mean that the sound is not speech.

    Returns
    -------
    list of Problem
        Codes ``no_speech``, ``little_speech`` and ``not_speech`` forbid a decision. Codes ``clipped``, ``low_rate``,
        ``narrow_band`` and ``quiet`` only warn.

    Examples
    --------
    >>> for problem in problems(Quality(2.0, 0.3, 0.0, 3400.0, -30.0, 0.9, 8000)):
    ...     print(problem.code, problem.forbids, problem.sentence)
    little_speech True It has 0.3 s of speech; a decision needs 1.0 s.
    low_rate False Its sampling rate is 8000 Hz; the model was made for 16000 Hz.
    narrow_band False It has almost no energy above 3400 Hz; the model listens up to 7600 Hz.
    """
    found = []
    if quality.speech_seconds <= 0:
        found.append(Problem("no_speech", "It has no speech: it is silent or too quiet.", True))
    elif quality.speech_seconds < minimum_speech:
        has, needs = np.floor(quality.speech_seconds * 10) / 10, minimum_speech
        found.append(Problem("little_speech", f"It has {has:.1f} s of speech; a decision needs {needs:.1f} s.", True))
    elif quality.speech_score < minimum_score:
        found.append(Problem("not_speech", "It does not sound like speech: noise, tones or music, perhaps.", True))
    if quality.clipped >= MAX_CLIPPED:
        share = f"{quality.clipped:.1%}"
        found.append(Problem("clipped", f"It was recorded too loud: {share} of its samples are cut off.", False))
    if quality.original_rate < sampling_rate:
        rates = f"{quality.original_rate} Hz; the model was made for {sampling_rate} Hz"
        found.append(Problem("low_rate", f"Its sampling rate is {rates}.", False))
    if 0 < quality.bandwidth < MIN_BANDWIDTH * high_freq:
        edges = f"{quality.bandwidth:.0f} Hz; the model listens up to {high_freq:.0f} Hz"
        found.append(Problem("narrow_band", f"It has almost no energy above {edges}.", False))
    if quality.speech_seconds > 0 and quality.level < MIN_LEVEL:
        found.append(Problem("quiet", f"It is very quiet: {quality.level:.0f} dB below full scale.", False))
    return found


#: Share of clipped samples from which on it is reported.
MAX_CLIPPED = 0.001
#: A band narrower than this share of the model's is reported.
MIN_BANDWIDTH = 0.75
#: A level below this, in dBFS, is reported.
MIN_LEVEL = -50.0


def clipped_share(samples: NDArray[np.float32]) -> float:
    """Return the share of the samples (n,) that lie in runs of three or more at full scale.

    The peak of a file that was normalised to full scale is a single sample or two, and is not counted.

    Examples
    --------
    >>> loud = np.sin(np.arange(16000, dtype=np.float32))
    >>> clipped_share(loud), round(clipped_share(np.clip(3 * loud, -1, 1)), 1)
    (0.0, 0.4)
    """
    if not len(samples) or not (peak := float(np.abs(samples).max())) >= 0.5:
        return 0.0
    limit = 0.999 * min(peak, 1.0)
    clipped = 0
    for full in (samples >= limit, samples <= -limit):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], full.astype(np.int8), [0]])))
        lengths = edges[1::2] - edges[::2]
        clipped += int(lengths[lengths >= 3].sum())
    return clipped / len(samples)


def bandwidth(samples: NDArray[np.float32], sampling_rate: int = 16000) -> float:
    """Return the frequency in Hz above which samples (n,) have practically no energy, 0 for silence.

    At each frequency, the loudest hundredth of the frames counts, so that the rare hiss of an s does. Practically none
    is 55 dB below the strongest frequency.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 1000 / 16000 * np.arange(16000)).astype(np.float32)
    >>> 900 < bandwidth(tone) < 1200
    True
    """
    starts = _starts(len(samples), 512, 20000)
    power = np.stack([np.abs(np.fft.rfft(cut(samples, s, 512) * np.hanning(512))) ** 2 for s in starts])
    loudest = np.quantile(power, 0.99, axis=0)
    if not loudest.max() > 0:
        return 0.0
    return float(np.flatnonzero(loudest > 10**-5.5 * loudest.max())[-1] * sampling_rate / 512)


def speech_level(samples: NDArray[np.float32], speech: NDArray[np.bool_], sampling_rate: int = 16000) -> float:
    """Return the level in dBFS (0 is a full-scale square wave) of the speech frames (frames,), or of all samples."""
    shift = round(SHIFT * sampling_rate)
    chosen = np.repeat(speech, shift)[: len(samples)]
    part = samples[: len(chosen)][chosen] if chosen.any() else samples
    power = float(np.mean(np.square(part, dtype=np.float64))) if len(part) else 0.0
    return 10 * float(np.log10(max(power, 1e-12)))


def _starts(samples: int, width: int, most: int) -> NDArray[np.int64]:
    """Return the first samples of at most ``most`` pieces that cover the samples evenly."""
    number = max(samples // width, 1)
    return np.linspace(0, max(samples - width, 0), min(number, most)).astype(np.int64)
