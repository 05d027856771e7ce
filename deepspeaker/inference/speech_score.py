"""Tell speech from noise, hum, tones and music by statistics of a recording.

The statistics are taken over windows of a second, relative to the file's own mean spectrum, so that a channel or a
codec changes them little. A quadratic function of them, fitted by logistic regression, gives the log-odds of speech.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
SHIFT = 0.010  # of the frames, in seconds
_WINDOW = 100  # frames
_MAX_WINDOWS = 60
_BANDS = 16
_FFT = 1024  # 64 ms at 16 kHz
_RANGE = 11.5  # 50 dB, in natural logarithms of a power

# fmt: off
# Printed by benchmarks.speech_check.
MEANS = np.array([
    0.39, 0.382, 0.398, -0.199, 0.328, 0.522, 0.0446, 0.721, 0.237, 0.997, 1.15, 0.185, 0.395, 0.618, 0.248,
    -4.07, -0.521, 0.391
])
SCALES = np.array([
    0.49, 0.27, 0.0975, 0.633, 0.376, 0.18, 0.0486, 0.16, 0.297, 0.301, 1.13, 0.12, 0.173, 0.141, 0.0613, 0.447,
    0.203, 0.237
])
COEFFICIENTS = np.array([
    9.19, 0.106, 0.746, 0.54, 0.561, -0.0902, -0.0784, -0.419, 0.826, 0.116, 0.373, -0.731, 0.214, -0.268,
    -0.234, 0.197, 0.775, -0.694, 0.459, -1.16, 0.883, -0.302, 0.0255, 0.242, -0.367, -0.166, 0.609, 0.806,
    0.262, 0.0495, -0.0454, -0.246, 0.181, 0.19, 0.224, -0.0903, 0.0642, -1.49, -0.195, 0.305, 1.06, 0.00172,
    -0.186, 0.391, -0.204, -0.665, 0.0852, 0.279, 0.38, -0.548, 0.309, -0.163, -0.296, -0.419, -0.69, 0.34,
    -0.226, -0.265, 0.171, -0.121, 0.379, 0.103, -0.0144, 0.242, -0.147, -0.135, 0.395, -0.0089, 0.0132, -0.284,
    -0.123, 0.589, 0.224, -0.0705, -0.187, -0.331, 0.129, -0.106, -0.0732, -0.249, 0.256, -0.196, -0.372,
    -0.0388, 0.0941, -0.873, 0.0245, -0.125, 0.0827, -0.116, 0.538, -0.136, 0.0783, -0.187, 0.294, -0.0771,
    -0.0302, 0.0122, 0.504, -0.127, -0.0749, -0.0497, -0.159, 0.0577, -0.00364, 0.0825, -0.142, 0.348, 0.16,
    0.397, 0.116, -0.0131, -0.26, 0.0768, -0.288, 0.127, 0.108, -0.00898, -0.259, -0.0445, -0.0579, 0.171,
    -0.15, -0.0369, -0.561, -0.15, -0.112, -0.192, 0.0171, 0.222, 0.0445, 0.103, 0.107, 0.109, -0.225, 0.0119,
    -0.00471, 0.248, 0.123, 0.367, -0.201, -0.256, -0.264, 0.156, 0.227, -0.465, -0.0346, -0.024, 0.248, -0.191,
    -0.146, -0.0928, 0.0702, -0.0429, 0.00868, 0.111, -0.192, 0.0496, -0.146, 0.0838, 0.0557, 0.185, -0.6, 0.84,
    0.599, -0.553, -0.155, -0.0722, 0.185, -1.02, 0.143, 0.31, 0.287, -0.0729, 0.115, -0.42, 0.148, -0.0605,
    0.222, -0.592, -0.392, 0.0544, -0.154, 0.161, -0.136, -0.0593, 0.113, -0.135, -0.231, -0.293
])
# fmt: on


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
    shift = round(SHIFT * sampling_rate)
    rows = []
    for start in starts:
        middle = (start + 0.5) * shift
        part = cut(samples, round(middle - _FFT / 2), (length - 1) * shift + _FFT)
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
    rate = np.fft.rfftfreq(frames, SHIFT)
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


def cut(samples: NDArray[np.float32], start: int, length: int) -> Floats:
    """Return samples from ``start`` on, with zeros where there are none."""
    stop = start + length
    part = np.asarray(samples[max(start, 0) : max(stop, 0)], np.float64)
    return np.pad(part, (max(-start, 0), length - len(part) - max(-start, 0)))
