"""Changes of a waveform, against formulas."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deepspeaker.augmentation import (
    clip,
    coloured_noise,
    compress,
    gain,
    generated_noise,
    generated_room,
    hum,
    low_pass,
    mix,
    reverberate,
    room_impulse_response,
    speed,
    telephone,
)

RATE = 16000


def tone(frequency: float, seconds: float = 1.0, level: float = 0.3) -> NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def level_at(signal: NDArray[np.float32], frequency: float) -> float:
    """The level of a tone in dB, from one term of a Fourier transform in float64."""
    time = np.arange(len(signal)) / RATE
    return float(20 * np.log10(np.abs(np.mean(signal * np.exp(-2j * np.pi * frequency * time))) + 1e-12))


def power_between(signal: NDArray[np.float32], low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(signal.astype(np.float64))) ** 2
    frequency = np.fft.rfftfreq(len(signal), 1 / RATE)
    return float(power[(frequency >= low) & (frequency < high)].mean())


@pytest.mark.parametrize("snr", [-5.0, 0.0, 5.0, 12.3, 20.0])
def test_the_snr_of_a_mix_is_exact(snr: float) -> None:
    generator = np.random.default_rng(0)
    speech = (0.05 * generator.standard_normal(3 * RATE) * np.linspace(0, 2, 3 * RATE)).astype(np.float32)
    noise = generated_noise(len(speech), RATE, generator)
    added = mix(speech, noise, snr, RATE).astype(np.float64) - speech
    measured = 10 * np.log10(np.mean(speech.astype(np.float64) ** 2) / np.mean(added**2))
    assert abs(measured - snr) < 0.1
    assert np.corrcoef(added, noise)[0, 1] > 0.9999


def test_reverberation_keeps_power_and_start_and_adds_a_tail() -> None:
    speech = np.zeros(2 * RATE, dtype=np.float32)
    speech[RATE // 2 : RATE] = tone(440, 0.5)
    response = np.zeros(RATE, dtype=np.float32)
    response[[100, 4100]] = 1.0, 0.5  # the direct sound, then an echo 250 ms later
    wet = reverberate(speech, response, RATE)
    expected = speech.astype(np.float64)
    expected[4000:] += 0.5 * speech[:-4000]
    expected *= np.sqrt(np.mean(speech.astype(np.float64) ** 2) / np.mean(expected**2))
    np.testing.assert_allclose(wet, expected, atol=1e-5)
    assert len(wet) == len(speech)


@pytest.mark.parametrize("t60", [0.3, 0.7])
def test_generated_rooms_decay_as_told(t60: float) -> None:
    """The decay is that of Schroeder's backward integral, between -5 and -35 dB."""
    size, source, microphone = np.array([6.0, 5.0, 3.0]), np.array([1.5, 2.0, 1.5]), np.array([4.0, 3.5, 1.2])
    response = room_impulse_response(size, source, microphone, t60, RATE, np.random.default_rng(1))
    energy = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    decay = 10 * np.log10(energy / energy[0])
    first, last = (int(np.argmax(decay < level)) for level in (-5, -35))
    assert abs(2 * (last - first) / RATE - t60) < 0.15 * t60
    direct = float(np.linalg.norm(source - microphone))
    assert int(np.flatnonzero(response)[0]) == round(direct / 343 * RATE)
    assert response.max() == pytest.approx(1 / (4 * np.pi * direct), rel=1e-5)
    generator = np.random.default_rng(2)
    assert all(len(generated_room(RATE, generator)) > 0.2 * RATE for _ in range(5))


def test_noise_has_its_colour_and_hum_its_mains_frequency() -> None:
    generator = np.random.default_rng(3)
    for exponent in (0.0, 1.0, 2.0):
        noise = coloured_noise(4 * RATE, exponent, generator)
        falls = 10 * np.log10(power_between(noise, 400, 600) / power_between(noise, 4000, 6000))
        assert abs(falls - 10 * exponent) < 0.7  # ten times the frequency
        assert np.mean(noise.astype(np.float64) ** 2) == pytest.approx(1.0, rel=1e-5)
    spectrum = np.abs(np.fft.rfft(hum(4 * RATE, RATE, generator)))
    strongest = np.fft.rfftfreq(4 * RATE, 1 / RATE)[spectrum.argmax()]
    assert min(strongest % 50, 50 - strongest % 50, strongest % 60, 60 - strongest % 60) < 2.5


def test_speed_changes_length_and_pitch() -> None:
    slow = speed(tone(1000), 0.8, RATE)
    assert len(slow) == 20000
    assert level_at(slow, 800) > level_at(slow, 1000) + 30


def test_low_pass_and_telephone_keep_only_their_bands() -> None:
    for frequency, kept in ((1000, True), (3200, True), (4500, False), (7000, False)):
        change = level_at(low_pass(tone(frequency), 3600, RATE), frequency) - level_at(tone(frequency), frequency)
        assert abs(change) < 1 if kept else change < -60
    assert np.array_equal(low_pass(tone(1000), 8000, RATE), tone(1000))
    for frequency, kept in ((100, False), (1000, True), (3000, True), (5000, False)):
        change = level_at(telephone(tone(frequency), RATE), frequency) - level_at(tone(frequency), frequency)
        assert abs(change) < 1 if kept else change < -40
    narrow = telephone(tone(1000), RATE)
    assert len(narrow) == RATE


@pytest.mark.parametrize("codec", ["opus", "mp3", "vorbis"])
def test_codecs_keep_length_place_and_level(codec: str) -> None:
    generator = np.random.default_rng(4)
    sound = tone(500, 2) * np.repeat(generator.uniform(0.2, 1.0, 20), RATE // 10).astype(np.float32)
    coded = compress(sound, codec, 1.0, RATE)
    assert len(coded) == len(sound) and coded.dtype == np.float32
    correlation = np.correlate(coded[4000:-4000].astype(np.float64), sound[3000:-3000].astype(np.float64), "valid")
    assert abs(int(np.argmax(correlation)) - 1000) <= 2  # no delay
    assert np.corrcoef(coded, sound)[0, 1] > 0.9
    loud = compress(4 * sound, codec, 1.0, RATE)
    assert 20 * np.log10(np.std(loud) / np.std(coded)) == pytest.approx(20 * np.log10(4), abs=0.5)


def test_gain_and_clipping_cut_off_peaks() -> None:
    sound = tone(200)
    assert np.array_equal(gain(sound, 20.0), np.clip(sound * np.float32(10), -1, 1))
    cut = clip(sound, 12.0)
    ceiling = 0.3 * 10 ** (-12 / 20)
    np.testing.assert_allclose(cut, np.clip(sound, -ceiling, ceiling), atol=1e-5)
    assert np.array_equal(clip(np.zeros(10, np.float32), 12.0), np.zeros(10, np.float32))
