"""Noises and rooms that are made, for those who have no recordings of any."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Speed of sound in m/s.
_SPEED_OF_SOUND = 343.0


def coloured_noise(length: int, exponent: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return noise whose power falls with the frequency as ``f ** -exponent``: 0 is white, 1 pink, 2 brown.

    Returns
    -------
    NDArray
        (length,), with a power of 1.
    """
    from scipy.fft import irfft, next_fast_len, rfftfreq

    size = next_fast_len(max(length, 2), real=True)
    frequency = np.maximum(rfftfreq(size), 1.0 / 800)  # flat below 20 Hz at 16 kHz
    spectrum = generator.standard_normal((len(frequency), 2), dtype=np.float32).view(np.complex64)[:, 0]
    noise = irfft(spectrum * (frequency ** (-exponent / 2)).astype(np.float32), size)[:length]
    return _unit(noise)


def hum(length: int, sampling_rate: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return the hum of a 50 or 60 Hz mains: up to 20 harmonics with random levels and phases, (length,), power 1."""
    mains = float(generator.choice([50.0, 60.0])) * generator.uniform(0.998, 1.002)
    harmonics = np.arange(1, 1 + int(generator.integers(5, 21)))
    angle = 2 * np.pi * mains / sampling_rate * np.arange(length)
    levels = 10 ** (-generator.uniform(0.0, 30.0, len(harmonics)) / 20)
    phases = generator.uniform(0.0, 2 * np.pi, len(harmonics))
    wave = sum(level * np.sin(n * angle + phase) for n, level, phase in zip(harmonics, levels, phases, strict=True))
    return _unit(np.asarray(wave))


def generated_noise(length: int, sampling_rate: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return a random noise, (length,), power 1: coloured, with slowly changing loudness; one in four has a hum."""
    noise = coloured_noise(length, generator.uniform(0.0, 2.0), generator)
    knots = np.arange(0, length + sampling_rate, sampling_rate // 2)
    loudness = np.interp(np.arange(length), knots, generator.uniform(-6.0, 6.0, len(knots)))
    noise = noise * (10 ** (loudness / 20)).astype(np.float32)
    if generator.random() < 0.25:
        noise = _unit(noise) + hum(length, sampling_rate, generator) * np.float32(generator.uniform(0.5, 2.0))
    return _unit(noise)


def room_impulse_response(
    size: NDArray[np.float64],
    source: NDArray[np.float64],
    microphone: NDArray[np.float64],
    t60: float,
    sampling_rate: int,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the impulse response of a rectangular room.

    Parameters
    ----------
    size, source, microphone
        (3,) each: the room's length, width and height, and two places in it, in metres.
    t60
        The time in which the sound falls by 60 dB, in seconds.
    sampling_rate
        In Hz.
    generator
        Draws the late reverberation.

    Returns
    -------
    NDArray
        (samples,), about ``t60`` long.

    Notes
    -----
    Early reflections are image sources [1]_, with the walls' reflection from Eyring's formula. Where images are too
    many to count, they are Gaussian noise that decays exponentially [2]_. Its level is theirs: images arrive at a rate
    of 4 pi c^3 t^2 / V, each with the power 1 / (4 pi c t)^2, so the power per second is c / (4 pi V).

    Lhotse's ``FastRandomRIRGenerator`` needs torchaudio and draws from torch's global generator.

    References
    ----------
    .. [1] Allen and Berkley, "Image method for efficiently simulating small-room acoustics", JASA 65, 1979.
    .. [2] Polack, "La transmission de l'énergie sonore dans les salles", Université du Maine, 1988.
    """
    volume, surface = float(np.prod(size)), 2 * float(size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    reflection = float(np.exp(-0.161 * volume / (surface * t60) / 2))  # of the amplitude
    response = np.zeros(int(t60 * sampling_rate) + sampling_rate // 10)
    side, mirrored = np.meshgrid([-1, 0, 1], [0, 1])
    offset = 2 * side.ravel()[:, None] * size + (1 - 2 * mirrored.ravel()[:, None]) * source - microphone  # (6, 3)
    bounces = np.abs(2 * side.ravel() - mirrored.ravel())
    first, second, third = (grid.ravel() for grid in np.meshgrid(*[np.arange(6)] * 3))
    distance = np.sqrt(offset[first, 0] ** 2 + offset[second, 1] ** 2 + offset[third, 2] ** 2)
    amplitude = reflection ** (bounces[first] + bounces[second] + bounces[third]) / (4 * np.pi * distance)
    late = 2 * float(size.min()) / _SPEED_OF_SOUND  # the images farther away are not among these
    direct = float(np.linalg.norm(source - microphone)) / _SPEED_OF_SOUND
    early = (distance / _SPEED_OF_SOUND < late) | (distance <= direct * _SPEED_OF_SOUND + 1e-9)
    np.add.at(response, np.round(distance[early] / _SPEED_OF_SOUND * sampling_rate).astype(int), amplitude[early])
    time = np.arange(len(response)) / sampling_rate
    power = _SPEED_OF_SOUND / (4 * np.pi * volume * sampling_rate) * 10 ** (-6 * time / t60)
    noise = np.sqrt(power) * generator.standard_normal(len(response))
    return np.asarray(response + np.where(time >= max(late, direct), noise, 0.0), dtype=np.float32)


def generated_room(sampling_rate: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return the impulse response of a random room: 3 to 10 m long, T60 0.2 to 0.9 s, both sides 0.5 m from walls."""
    size = generator.uniform([3.0, 2.5, 2.3], [10.0, 8.0, 4.0])
    source, microphone = (generator.uniform(0.5, size - 0.5) for _ in range(2))
    t60 = generator.uniform(0.2, 0.9)
    return room_impulse_response(size, source, microphone, t60, sampling_rate, generator)


def _unit(signal: NDArray[Any]) -> NDArray[np.float32]:
    """Scale a signal to a power of 1."""
    return np.asarray(signal / np.sqrt(np.mean(np.square(signal, dtype=np.float64))), dtype=np.float32)
