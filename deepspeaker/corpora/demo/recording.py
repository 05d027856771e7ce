"""Sessions of the demo speakers: the voice and the channel of each, and how it records speech."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from deepspeaker.corpora.demo.espeak import Voice
from deepspeaker.corpora.demo.speakers import (
    CHANNEL_STREAM,
    PARTS,
    SESSION_STREAM,
    DemoSpeaker,
    random_stream,
    varied,
)

SAMPLE_RATE = 16000


@dataclasses.dataclass(frozen=True)
class Session:
    """What the utterances of a session share."""

    voice: Voice
    channel: NDArray[np.float64]
    """A smooth gain: the amplitudes in dB of the first cosines over the mel scale."""
    snr_db: tuple[float, float] = (20.0, 40.0)
    """Limits of the ratio of speech to noise."""
    colour: tuple[float, float] = (0.0, 1.0)
    """Limits of the noise's colour: its power is proportional to frequency ** -colour; 0 is white, 1 is pink."""


def plan_sessions(seed: int, speaker: DemoSpeaker, count: int) -> list[Session]:
    """Return the sessions of a speaker: a mild channel, to which each of several sessions adds its differences."""
    place = (PARTS.index(speaker.part), speaker.index)
    channel = random_stream(seed, CHANNEL_STREAM, *place).normal(scale=1.5, size=4)
    if count == 1:
        return [Session(speaker.voice, channel)]
    sessions = []
    for number in range(count):
        generator = random_stream(seed, SESSION_STREAM, *place, number)
        voice, filtered = varied(speaker.voice, generator), channel + generator.normal(scale=3.0, size=4)
        snr_db, colour = generator.uniform(15, 35), generator.uniform(0, 1)
        sessions.append(Session(voice, filtered, (snr_db - 3, snr_db + 3), (colour, colour)))
    return sessions


def record(speech: NDArray[np.float64], session: Session, generator: np.random.Generator) -> NDArray[np.int16]:
    """Apply the channel of a session, noise and a level.

    Noise, within the limits of the session, and level (peak 2 to 18 dB below full scale) are drawn for each utterance.
    If they were constant for a speaker, they would identify the speaker.
    """
    length = len(speech)
    padded = -(-length // 4096) * 4096  # the FFT is slow if the length has large prime factors
    frequencies = np.fft.rfftfreq(padded, 1 / SAMPLE_RATE)
    mel = np.log1p(frequencies / 700) / np.log1p(SAMPLE_RATE / 2 / 700)
    gain_db = sum(level * np.cos(np.pi * (k + 1) * mel) for k, level in enumerate(session.channel))
    filtered = np.fft.irfft(np.fft.rfft(speech, padded) * 10 ** (gain_db / 20), padded)[:length]

    colour = generator.uniform(*session.colour)
    snr_db = generator.uniform(*session.snr_db)
    peak_db = generator.uniform(-18, -2)
    spectrum = np.fft.rfft(generator.standard_normal(padded)) * np.maximum(frequencies, 50) ** (-colour / 2)
    noise = np.fft.irfft(spectrum, padded)[:length]
    noise *= np.sqrt(np.mean(filtered**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)

    mixed = filtered + noise
    scaled = np.rint(mixed * (32767 * 10 ** (peak_db / 20) / np.abs(mixed).max()))
    samples: NDArray[np.int16] = scaled.astype(np.int16)
    return samples
