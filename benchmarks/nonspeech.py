"""Sounds that are not speech, made from a random generator: to fit and to test ``benchmarks.speech_check``.

``DESIGN`` holds the kinds that the classifier learns from, ``HELD_OUT`` the kinds that it never sees. Each function
takes a numpy generator and a number of samples at 16 kHz and returns an array of that length, of any scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt

RATE = 16000
Array = NDArray[np.float64]
Rng = np.random.Generator
Kind = Callable[[Rng, int], Array]


def _time(n: int) -> Array:
    return np.arange(n) / RATE


def _log(rng: Rng, low: float, high: float) -> float:
    """Return a number between two bounds, uniform on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def coloured(rng: Rng, n: int, exponent: float) -> Array:
    """Gaussian noise whose power falls with this power of the frequency."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20)
    noise: Array = np.fft.irfft(spectrum * frequency ** (-exponent / 2), n)
    return noise / noise.std()


def smooth(rng: Rng, n: int, rate: float) -> Array:
    """A random curve of unit variance that moves about ``rate`` times a second."""
    points = max(int(n / RATE * rate) + 4, 5)
    curve = np.interp(np.linspace(0, points - 1, n), np.arange(points), rng.standard_normal(points))
    return np.asarray(curve / max(curve.std(), 0.3))


def harmonics(rng: Rng, frequency: Array, tilt: float | None = None) -> Array:
    """A harmonic sound with this fundamental frequency (n,) in Hz and random strengths of the partials."""
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    tilt = rng.uniform(0.5, 2.5) if tilt is None else tilt
    sound = np.zeros(len(frequency))
    for k in range(1, int(rng.integers(1, 16)) + 1):
        strength = k**-tilt * _log(rng, 0.3, 1) * (k * frequency < 7600)
        sound += strength * np.sin(k * phase + rng.uniform(0, 6.3))
    return sound


def envelope(rng: Rng, n: int, attack: float, decay: float, release: float = 0.05) -> Array:
    """Attack, exponential decay and release of a note; times in seconds."""
    t = _time(n)
    ends = (n / RATE - t) / max(release, 1e-3)
    return np.minimum(t / attack, 1) * np.exp(-t / decay) * np.clip(ends, 0, 1)


def notes(rng: Rng, n: int, voice: Callable[[Array], Array], legato: float = 1.0) -> Array:
    """A random melody: steps on a scale, durations of a random tempo, each note made by ``voice``."""
    scale = np.array([0, 2, 4, 5, 7, 9, 11]) if rng.random() < 0.5 else np.array([0, 2, 3, 5, 7, 8, 10])
    beat, degree, start = rng.uniform(0.12, 0.7), int(rng.integers(0, 7)), 0
    base, sound = _log(rng, 80, 500), np.zeros(n)
    while start < n:
        length = int(RATE * beat * rng.choice([0.5, 1, 1, 2]))
        degree = int(np.clip(degree + rng.integers(-3, 4), -5, 12))
        pitch = base * 2 ** ((12 * (degree // 7) + scale[degree % 7]) / 12)
        if rng.random() > 0.1:
            note = voice(np.full(max(int(length * legato), 200), pitch))
            stop = min(start + len(note), n)
            sound[start:stop] += note[: stop - start]
        start += length
    return sound


def band(rng: Rng, sound: Array, narrow: bool = False) -> Array:
    low = _log(rng, 50, 3000)
    high = min(low * (_log(rng, 1.05, 2) if narrow else _log(rng, 1.5, 30)), 7800)
    return np.asarray(sosfilt(butter(2, [low, max(high, low + 20)], "bandpass", fs=RATE, output="sos"), sound))


# ---- kinds for design


def white(rng: Rng, n: int) -> Array:
    return rng.standard_normal(n)


def pink(rng: Rng, n: int) -> Array:
    return coloured(rng, n, rng.uniform(0.5, 1.5))


def brown(rng: Rng, n: int) -> Array:
    return coloured(rng, n, rng.uniform(1.5, 2.5))


def band_noise(rng: Rng, n: int) -> Array:
    return band(rng, rng.standard_normal(n), narrow=rng.random() < 0.4)


def modulated_noise(rng: Rng, n: int) -> Array:
    """Noise whose level rises and falls, regularly or at random, 0.5 to 16 times a second."""
    noise = coloured(rng, n, rng.uniform(0, 2))
    noise = band(rng, noise) if rng.random() < 0.5 else noise
    rate = _log(rng, 0.5, 16)
    if rng.random() < 0.5:
        wave = np.sin(2 * np.pi * rate * _time(n) + rng.uniform(0, 6.3))
        return noise * (1 + rng.uniform(0.5, 1) * wave) ** rng.choice([1, 2, 4])
    return np.asarray(noise * np.exp(rng.uniform(0.5, 2) * smooth(rng, n, rate)))


def hum(rng: Rng, n: int) -> Array:
    mains = rng.choice([50.0, 60.0, 100.0, 120.0]) * (1 + 0.003 * smooth(rng, n, 0.5))
    return harmonics(rng, mains, rng.uniform(0, 2)) + _log(rng, 1e-3, 0.1) * rng.standard_normal(n)


def tones(rng: Rng, n: int) -> Array:
    t = _time(n)
    return np.asarray(sum(np.sin(2 * np.pi * _log(rng, 80, 6000) * t) for _ in range(rng.integers(1, 4))))


def beeps(rng: Rng, n: int) -> Array:
    """Pairs of tones that are switched on and off, as of a telephone's keys or an alarm."""
    sound, start = np.zeros(n), 0
    while start < n:
        length = int(RATE * _log(rng, 0.04, 0.6))
        t = _time(min(length, n - start))
        tone = np.sin(2 * np.pi * _log(rng, 300, 4000) * t) + np.sin(2 * np.pi * _log(rng, 300, 4000) * t)
        sound[start : start + len(t)] = tone
        start += length + int(RATE * _log(rng, 0.02, 0.4))
    return sound


def sweep(rng: Rng, n: int) -> Array:
    period, low, high = _log(rng, 0.1, 4), _log(rng, 80, 800), _log(rng, 1000, 7000)
    place = (_time(n) / period + rng.random()) % 1
    place = np.abs(2 * place - 1) if rng.random() < 0.5 else place
    frequency = low * (high / low) ** place if rng.random() < 0.5 else low + (high - low) * place
    return np.sin(2 * np.pi * np.cumsum(frequency) / RATE)


def chords(rng: Rng, n: int) -> Array:
    sound, start = np.zeros(n), 0
    while start < n:
        length, root = int(RATE * rng.uniform(0.4, 2)), _log(rng, 80, 300)
        shape = envelope(rng, length, rng.uniform(0.005, 0.2), rng.uniform(0.5, 4))
        for step in rng.choice([[0, 4, 7], [0, 3, 7], [0, 4, 10], [0, 5, 7]]):
            note = harmonics(rng, np.full(length, root * 2 ** (step / 12))) * shape
            sound[start : start + length] += note[: n - start]
        start += length
    return sound


def melody(rng: Rng, n: int) -> Array:
    attack, decay, depth, rate = rng.uniform(0.003, 0.08), _log(rng, 0.1, 3), rng.uniform(0, 0.02), rng.uniform(4, 7)
    tilt = rng.uniform(0.5, 2.5)

    def voice(pitch: Array) -> Array:
        vibrato = 1 + depth * np.sin(2 * np.pi * rate * _time(len(pitch)))
        return harmonics(rng, pitch * vibrato, tilt) * envelope(rng, len(pitch), attack, decay)

    return notes(rng, n, voice, rng.uniform(0.5, 1.1))


def drums(rng: Rng, n: int) -> Array:
    sound, beat = np.zeros(n), rng.uniform(0.1, 0.35)
    for i, start in enumerate(range(0, n, int(beat * RATE))):
        t = _time(min(int(0.5 * RATE), n - start))
        hits = [0.3 * rng.standard_normal(len(t)) * np.exp(-t / _log(rng, 0.01, 0.08))]
        if i % 4 == 0 or rng.random() < 0.2:
            hits.append(np.sin(2 * np.pi * (45 * t + 4 * (1 - np.exp(-t / 0.03)))) * np.exp(-t / 0.12))
        if i % 4 == 2 or rng.random() < 0.2:
            hits.append(rng.standard_normal(len(t)) * np.exp(-t / _log(rng, 0.05, 0.15)))
        sound[start : start + len(t)] += rng.uniform(0.3, 1) * sum(hits)
    return sound


def clicks(rng: Rng, n: int) -> Array:
    sound = np.zeros(n)
    if rng.random() < 0.5:
        sound[:: int(RATE / _log(rng, 2, 60))] = 1
    else:
        sound[rng.integers(0, n, max(int(n / RATE * _log(rng, 2, 60)), 1))] = rng.uniform(-1, 1)
    return band(rng, sound) if rng.random() < 0.7 else sound


def fm(rng: Rng, n: int) -> Array:
    """Frequency modulation by a tone, whose depth wanders."""
    t, carrier = _time(n), _log(rng, 100, 2000)
    depth = rng.uniform(0.5, 8) * (1 + 0.7 * smooth(rng, n, _log(rng, 0.5, 6)))
    return np.sin(2 * np.pi * carrier * t + depth * np.sin(2 * np.pi * carrier * _log(rng, 0.1, 4) * t))


def telegraph(rng: Rng, n: int) -> Array:
    """A wave that jumps between -1 and 1 at random times."""
    return np.asarray(np.where(np.cumsum(rng.random(n) < _log(rng, 20, 4000) / RATE) % 2, 1.0, -1.0))


def buzz(rng: Rng, n: int) -> Array:
    """A saw or square wave whose pitch drifts or jumps, as of a motor or a game."""
    frequency = _log(rng, 40, 500) * np.exp(rng.uniform(0, 0.2) * smooth(rng, n, _log(rng, 0.3, 5)))
    if rng.random() < 0.5:
        frequency = frequency * 2 ** (np.repeat(rng.integers(0, 12, n // 1600 + 1), 1600)[:n] / 12)
    phase = np.cumsum(frequency) / RATE % 1
    wave = 2 * phase - 1 if rng.random() < 0.5 else np.sign(phase - rng.uniform(0.1, 0.5))
    return np.asarray(wave + _log(rng, 1e-3, 0.3) * rng.standard_normal(n))


def band_music(rng: Rng, n: int) -> Array:
    """Melody, chords and drums together."""
    parts = [part(rng, n) for part in (melody, chords, drums)]
    return np.asarray(sum(_log(rng, 0.2, 1) * part / (part.std() + 1e-9) for part in parts))


# ---- kinds held out


def wind(rng: Rng, n: int) -> Array:
    """Brown noise in gusts, with a resonance that wanders."""
    noise, sound = rng.standard_normal(n), np.zeros(n)
    place, state = 250 * np.exp(0.7 * smooth(rng, n, 0.8)), np.zeros(2)
    for start in range(0, n, 160):
        w, r = 2 * np.pi * min(place[start], 3000) / RATE, 0.97
        sound[start : start + 160], state = lfilter(
            [1 - r], [1, -2 * r * np.cos(w), r * r], noise[start : start + 160], zi=state
        )
    return np.asarray((sound / sound.std() + 0.5 * coloured(rng, n, 2)) * np.exp(0.7 * smooth(rng, n, 1)))


def rain(rng: Rng, n: int) -> Array:
    drops = rng.standard_normal(n) * (rng.random(n) < _log(rng, 100, 3000) / RATE)
    return band(rng, drops) + 0.01 * rng.standard_normal(n)


def applause(rng: Rng, n: int) -> Array:
    sound = np.zeros(n + 800)
    for start in rng.integers(0, n, int(n / RATE * _log(rng, 20, 300))):
        sound[start : start + 800] += rng.uniform(0.2, 1) * rng.standard_normal(800) * np.exp(-np.arange(800) / 120)
    return band(rng, sound[:n])


def siren(rng: Rng, n: int) -> Array:
    turn = np.sin(2 * np.pi * _log(rng, 0.2, 4) * _time(n))
    return harmonics(rng, _log(rng, 400, 900) * 2 ** (rng.uniform(0.2, 1) * turn))


def plucked(rng: Rng, n: int) -> Array:
    """Strings by Karplus and Strong: a burst of noise in a delay line with a low-pass."""

    def voice(pitch: Array) -> Array:
        delay, length = int(RATE / pitch[0]), max(len(pitch), RATE)
        excitation = np.zeros(length)
        excitation[:delay] = rng.standard_normal(delay)
        denominator = np.zeros(delay + 2)
        denominator[0], denominator[delay], denominator[delay + 1] = 1, -0.498, -0.498
        return np.asarray(lfilter([1.0], denominator, excitation))

    return notes(rng, n, voice)


def bells(rng: Rng, n: int) -> Array:
    def voice(pitch: Array) -> Array:
        t = _time(RATE)
        ratios = (1, 2.0, 2.4, 3.0, 4.5, 5.33, 6.7)
        return np.asarray(sum(np.sin(12.6 * pitch[0] * k * t) * np.exp(-t * k / rng.uniform(0.3, 2)) for k in ratios))

    return notes(rng, n, voice)


def birds(rng: Rng, n: int) -> Array:
    sound, start = np.zeros(n), 0
    while start < n:
        t = _time(min(int(RATE * rng.uniform(0.03, 0.2)), n - start))
        frequency = np.linspace(rng.uniform(2000, 6000), rng.uniform(2000, 6000), len(t))
        sound[start : start + len(t)] = np.sin(2 * np.pi * np.cumsum(frequency) / RATE) * np.hanning(len(t))
        start += len(t) + int(RATE * rng.uniform(0.01, 0.3))
    return sound


def modem(rng: Rng, n: int) -> Array:
    bit = RATE // int(rng.choice([50, 110, 300, 1200]))
    bits = np.repeat(rng.integers(0, 2, n // bit + 1), bit)[:n]
    return np.sin(2 * np.pi * np.cumsum(np.where(bits, 1270, 1070) * rng.uniform(1, 2)) / RATE)


def helicopter(rng: Rng, n: int) -> Array:
    beat = (_time(n) * _log(rng, 8, 25)) % 1
    return coloured(rng, n, 1.5) * np.exp(-beat * 5) + 0.2 * coloured(rng, n, 1)


def theremin(rng: Rng, n: int) -> Array:
    """A voice-like tone that glides all the time, with vibrato and a level that wanders."""
    glide = 2 ** (0.4 * smooth(rng, n, _log(rng, 0.5, 3)) + 0.02 * np.sin(2 * np.pi * 5.5 * _time(n)))
    return harmonics(rng, _log(rng, 120, 500) * glide) * np.exp(0.5 * smooth(rng, n, 2))


def strings(rng: Rng, n: int) -> Array:
    """Three slow melodies at once, with vibrato and an echo."""
    parts = [notes(rng, n, lambda p: harmonics(rng, p, 1.2) * envelope(rng, len(p), 0.1, 4, 0.1)) for _ in range(3)]
    echo = rng.standard_normal(8000) * np.exp(-np.arange(8000) / 1600)
    sound = np.sum(parts, axis=0)
    return np.fft.irfft(np.fft.rfft(sound, n + 8000) * np.fft.rfft(echo, n + 8000), n + 8000)[:n]


def wah(rng: Rng, n: int) -> Array:
    """A melody of saw waves through a resonance that opens and closes: near to vowels."""
    sound = notes(rng, n, lambda p: 2 * (np.cumsum(p) / RATE % 1) - 1)
    place, state, out = 900 * np.exp(0.6 * np.sin(2 * np.pi * _log(rng, 0.5, 5) * _time(n))), np.zeros(2), np.zeros(n)
    for start in range(0, n, 160):
        w, r = 2 * np.pi * place[start] / RATE, 0.96
        out[start : start + 160], state = lfilter(
            [1 - r], [1, -2 * r * np.cos(w), r * r], sound[start : start + 160], zi=state
        )
    return out


def wandering_bands(rng: Rng, n: int) -> Array:
    """Noise in eight bands, each with a level of its own that wanders: speech's spectrum without its source."""
    edges = np.geomspace(100, 7500, 9)
    rate, sound = _log(rng, 1, 8), np.zeros(n)
    for low, high in itertools.pairwise(edges):
        part = sosfilt(butter(2, [low, high], "bandpass", fs=RATE, output="sos"), rng.standard_normal(n))
        sound += part / part.std() * np.exp(rng.uniform(0.5, 1.5) * smooth(rng, n, rate))
    return sound


DESIGN: list[Kind] = [white, pink, brown, band_noise, modulated_noise, hum, tones, beeps, sweep, chords, melody, drums]
DESIGN += [clicks, fm, telegraph, buzz, band_music]
HELD_OUT: list[Kind] = [wind, rain, applause, siren, plucked, bells, birds, modem, helicopter, theremin, strings, wah]
HELD_OUT += [wandering_bands]
