"""Whether audio holds enough evidence for a decision: is it speech, how much of it, and how well recorded.

Kaldi's energy VAD accepts any sound that is loud enough. Here, statistics of log-mel frames and of the fine spectrum
tell speech from noise, hum, tones and music. They are taken over windows of a second, relative to the file's own mean
spectrum, so that a channel or a codec changes them little.

Only numpy is used, so that this works wherever an exported model runs. ``python -m benchmarks.speech_check fit``
computes the coefficients.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepspeaker.inference.speech_coefficients import COEFFICIENTS, MEANS, SCALES

Floats = NDArray[np.float64]

#: Names of the statistics of a window, in the order of ``window_statistics``.
STATISTICS = (
    "loudness movement",
    "shape movement",
    "smoothness",
    "stillness",
    "typical change",
    "syllable rate",
    "fast modulation",
    "neighbour correlation",
    "far correlation",
    "dimensions",
    "attack",
    "persistence",
    "highest persistence",
    "harmonicity",
    "harmonicity movement",
    "pitch movement",
    "voiced is low",
    "voiced is loud",
)
_SHIFT = 0.010  # of the frames, in seconds
_WINDOW = 100  # frames
_MAX_WINDOWS = 60
_BANDS = 16
_FFT = 1024  # 64 ms at 16 kHz
_RANGE = 11.5  # 50 dB, in natural logarithms of a power


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
        speech_seconds=round(float(spoken.sum()) * _SHIFT, 2),
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
    (0.0, 0.7)
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
    power = np.stack([np.abs(np.fft.rfft(_cut(samples, s, 512) * np.hanning(512))) ** 2 for s in starts])
    loudest = np.quantile(power, 0.99, axis=0)
    if not loudest.max() > 0:
        return 0.0
    return float(np.flatnonzero(loudest > 10**-5.5 * loudest.max())[-1] * sampling_rate / 512)


def speech_level(samples: NDArray[np.float32], speech: NDArray[np.bool_], sampling_rate: int = 16000) -> float:
    """Return the level in dBFS (0 is a full-scale square wave) of the speech frames (frames,), or of all samples."""
    shift = round(_SHIFT * sampling_rate)
    chosen = np.repeat(speech, shift)[: len(samples)]
    part = samples[: len(chosen)][chosen] if chosen.any() else samples
    power = float(np.mean(np.square(part, dtype=np.float64))) if len(part) else 0.0
    return 10 * float(np.log10(max(power, 1e-12)))


def speech_score(
    samples: NDArray[np.float32],
    log_mel: NDArray[np.float32],
    speech: NDArray[np.bool_],
    sampling_rate: int = 16000,
) -> float:
    """Return how much audio sounds like speech, from 0 to 1, with the parameters of ``quality``.

    It is the logistic function of the mean log-odds of windows of a second.
    """
    windows = window_statistics(samples, log_mel, speech, sampling_rate)
    if not len(windows):
        return 0.0
    logits = np.clip(log_odds(windows), -8, 8)
    return float(1 / (1 + np.exp(-logits.mean())))


def log_odds(statistics: Floats) -> Floats:
    """Return the log-odds (windows,) of being speech, a quadratic function of statistics (windows, statistics)."""
    values = np.clip((statistics - MEANS) / SCALES, -5, 5)
    return np.asarray(with_products(values) @ COEFFICIENTS)


def with_products(values: Floats) -> Floats:
    """Return 1, the values (windows, n) and the products of any two of them, of shape (windows, 1 + n + n(n+1)/2)."""
    first, second = np.triu_indices(values.shape[1])
    return np.hstack([np.ones((len(values), 1)), values, values[:, first] * values[:, second]])


def window_statistics(
    samples: NDArray[np.float32],
    log_mel: NDArray[np.float32],
    speech: NDArray[np.bool_],
    sampling_rate: int = 16000,
) -> Floats:
    """Return the statistics of windows of a second, of shape (windows, len(STATISTICS)).

    The windows lie between the first and the last speech frame and overlap by half. At least half of the frames of
    each are speech, unless there is no such window. Of long audio, 60 windows are taken.
    """
    spoken = np.flatnonzero(speech)
    if len(spoken) < 10:
        return np.zeros((0, len(STATISTICS)))
    first, stop = int(spoken[0]), int(spoken[-1]) + 1
    length = min(_WINDOW, stop - first)
    starts = np.unique(np.append(np.arange(first, stop - length + 1, _WINDOW // 2), stop - length))
    share = np.array([np.mean(speech[start : start + length]) for start in starts])
    starts = starts[share >= min(0.5, share.max())]
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, _MAX_WINDOWS).round().astype(int))]

    bands = _pooled(log_mel[first:stop])
    bands = np.maximum(bands, np.quantile(bands.max(axis=1), 0.95) - _RANGE)
    bands -= bands[speech[first:stop]].mean(axis=0)
    active = bands.std(axis=0) > 0.02
    if active.sum() < 3:  # a pure tone, for instance
        active[:] = True
    bands = bands[:, active]
    shift = round(_SHIFT * sampling_rate)
    rows = []
    for start in starts:
        middle = (start + 0.5) * shift
        part = _cut(samples, round(middle - _FFT / 2), (length - 1) * shift + _FFT)
        window = bands[start - first : start - first + length]
        rows.append(np.concatenate([_movement(window), _source(part, window, 2 * shift, sampling_rate)]))
    return np.array(rows)


def _pooled(log_mel: NDArray[np.float32]) -> Floats:
    """Return the log-energies (frames, 16) of 16 broad bands, from those of any number of mel bins."""
    groups = np.array_split(np.asarray(log_mel, np.float64), min(_BANDS, log_mel.shape[1]), axis=1)
    return np.stack([np.logaddexp.reduce(group, axis=1) - np.log(group.shape[1]) for group in groups], axis=1)


def _movement(window: Floats) -> Floats:
    """Return the statistics of how bands (frames, bands) move."""
    frames, bands = window.shape
    loudness = window.mean(axis=1)
    shape = window - loudness[:, None]
    near, far = (np.sqrt(np.mean((shape[lag:] - shape[:-lag]) ** 2, axis=1)) for lag in (1, 8))
    still, typical = np.quantile(far, [0.2, 0.5])
    smoothness = np.sqrt((np.mean(near**2) + 1e-4) / (np.mean(far**2) + 1e-3))

    centred = window - window.mean(axis=0)
    power = np.mean(np.abs(np.fft.rfft(centred * np.hanning(frames)[:, None], axis=0)) ** 2, axis=1)
    rate = np.fft.rfftfreq(frames, _SHIFT)
    total = power[rate < 25].sum() + 1e-6

    deviation = centred.std(axis=0) + 0.05
    correlation = (centred / deviation).T @ (centred / deviation) / frames
    third = max(bands // 3, 1)
    values = np.linalg.eigvalsh(np.cov(shape.T))
    change = loudness[2:] - loudness[:-2]
    return np.array(
        [
            np.log(loudness.std() + 0.05),
            np.log(np.sqrt(np.mean(shape.var(axis=0))) + 0.05),
            smoothness,
            np.log(still + 0.05),
            np.log(typical + 0.05),
            power[(rate > 1.9) & (rate < 8.1)].sum() / total,
            power[(rate > 12) & (rate < 25)].sum() / total,
            np.mean(np.diag(correlation, 1)),
            np.mean(correlation[:third, -third:]),
            np.log((values.sum() ** 2 + 1e-4) / (np.sum(values**2) + 1e-4)),
            np.mean(change**3) / (np.mean(change**2) + 0.01) ** 1.5,
        ]
    )


def _source(samples: Floats, window: Floats, hop: int, sampling_rate: int) -> Floats:
    """Return the statistics of harmonics and pitch, from samples (n,) around bands (frames, bands)."""
    hann = np.hanning(_FFT)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FFT)[::hop]
    power = np.abs(np.fft.rfft(frames * hann, 2 * _FFT, axis=1)) ** 2
    fine = np.log(power[:, : _FFT // 2 : 2] + 1e-7 * power.max() + 1e-12)  # up to a quarter of the rate
    fine -= _running_mean(fine, 15)
    fine /= np.linalg.norm(fine, axis=1, keepdims=True) + 1e-3
    persistence = np.sum(fine[4:] * fine[:-4], axis=1)  # after 80 ms: the frames share no sample

    shortest, longest = sampling_rate // 400, sampling_rate // 70
    own = np.fft.irfft(np.abs(np.fft.rfft(hann, 2 * _FFT)) ** 2)
    repetition = np.fft.irfft(power, axis=1)[:, : longest + 2]
    repetition /= repetition[:, :1] + 1e-9
    repetition /= own[: longest + 2] / own[0]
    lags = np.arange(shortest, longest)
    best = lags[np.argmax(repetition[:, shortest:longest], axis=1)]
    row = np.arange(len(best))
    before, peak, after = (repetition[row, best + step] for step in (-1, 0, 1))
    harmonicity = np.clip(peak, 0, 1)
    offset = np.clip(0.5 * (before - after) / np.minimum(before - 2 * peak + after, -1e-6), -0.5, 0.5)
    step = np.abs(np.diff(np.log(best + offset)))
    weight = np.minimum(harmonicity[1:], harmonicity[:-1]) ** 4 * (step < 0.15)
    pitch_movement = (np.sum(weight * step) + 0.5 * 0.02) / (weight.sum() + 0.5)

    every = window[::2][: len(harmonicity)]
    harmonic = harmonicity[: len(every)] - harmonicity[: len(every)].mean()
    third = max(window.shape[1] // 3, 1)
    tilt = every[:, -third:].mean(axis=1) - every[:, :third].mean(axis=1)
    loudness = every.mean(axis=1)
    return np.array(
        [
            persistence.mean() if len(persistence) else 0.0,
            np.quantile(persistence, 0.9) if len(persistence) else 0.0,
            harmonicity.mean(),
            harmonicity.std(),
            np.log(pitch_movement + 1e-3),
            np.mean(harmonic * (tilt - tilt.mean())) / (harmonic.std() + 0.05) / (tilt.std() + 0.1),
            np.mean(harmonic * (loudness - loudness.mean())) / (harmonic.std() + 0.05) / (loudness.std() + 0.1),
        ]
    )


def _running_mean(values: Floats, width: int) -> Floats:
    """Return the mean of ``width`` neighbours in each row."""
    padded = np.pad(values, ((0, 0), (width // 2 + 1, width // 2)), mode="edge").cumsum(axis=1)
    return np.asarray((padded[:, width:] - padded[:, :-width]) / width)


def _starts(samples: int, width: int, most: int) -> NDArray[np.int64]:
    """Return the first samples of at most ``most`` pieces that cover the samples evenly."""
    number = max(samples // width, 1)
    return np.linspace(0, max(samples - width, 0), min(number, most)).astype(np.int64)


def _cut(samples: NDArray[np.float32], start: int, length: int) -> Floats:
    """Return samples from ``start`` on, with zeros where there are none."""
    stop = start + length
    part = np.asarray(samples[max(start, 0) : max(stop, 0)], np.float64)
    return np.pad(part, (max(-start, 0), length - len(part) - max(-start, 0)))
