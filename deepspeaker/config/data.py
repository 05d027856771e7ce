"""Sections of stages 0 and 2: the demo corpus and the features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from deepspeaker.config.section import Section

Compression = Literal["none", "speech-feature", "two-byte", "one-byte"]


class Demo(Section):
    """Stage 0: the synthetic demo corpus."""

    train_speakers: int = Field(100, ge=2)
    """Number of training speakers."""
    dev_speakers: int = Field(12, ge=1)
    """Number of development speakers."""
    test_speakers: int = Field(30, ge=2)
    """Number of test speakers."""
    utterances: int = Field(12, ge=2)
    """Number of utterances per speaker."""
    language: Literal["en", "de", "cmn"] = "en"
    """Language: English, German or Mandarin. The voices that the seed chooses are the same in each."""
    phrase: str = ""
    """A phrase that every utterance says, such as a wake phrase; empty for sentences."""
    sessions: int = Field(1, ge=1)
    """Sessions per speaker. Each of several has its own channel, noise, and rate and pitch of the voice."""


class Vad(Section):
    """Kaldi's energy-based voice activity detection, on the raw log-energy."""

    energy_threshold: float = 5.5
    """Log-energy that a frame of speech must exceed, before the mean term is added."""
    energy_mean_scale: float = 0.5
    """Share of the utterance's mean log-energy that is added to the threshold."""
    frames_context: int = Field(2, ge=0)
    """Frames on each side that take part in the decision about a frame."""
    proportion_threshold: float = Field(0.12, ge=0, le=1)
    """Share of the frames in the context that must exceed the threshold."""


class Features(Section):
    """Stage 2: log-mel features, voice activity detection and normalisation."""

    sampling_rate: int = Field(16000, gt=0)
    """Sampling rate of the audio, in Hz."""
    num_bins: int = Field(64, gt=0)
    """Number of log-mel bins."""
    low_freq: float = Field(20.0, ge=0)
    """Lower edge of the mel filters, in Hz."""
    high_freq: float = Field(7600.0, gt=0)
    """Upper edge of the mel filters, in Hz; at most half the sampling rate."""
    frame_length: float = Field(0.025, gt=0)
    """Length of a frame, in seconds."""
    frame_shift: float = Field(0.010, gt=0)
    """Distance between the starts of two frames, in seconds."""
    vad: Vad = Vad()
    """Voice activity detection."""
    variance_floor: float = Field(0.01, ge=0)
    """Minimum variance of a bin for variance normalisation, relative to the mean variance of the utterance's bins."""
    raw_compression: Compression = "speech-feature"
    """Compression of the arks with the features of all frames, by Kaldi's methods; it does not change ``*_nosil``."""
    compression: Compression = "one-byte"
    """Compression of the arks with the normalised speech frames (``*_nosil``), by Kaldi's methods."""

    @model_validator(mode="after")
    def _band_fits(self) -> Features:
        if not self.low_freq < self.high_freq <= self.sampling_rate / 2:
            raise ValueError("low_freq must lie below high_freq, and that at or below half the sampling_rate")
        return self
