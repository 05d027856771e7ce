"""Log-mel features, compared with kaldi-native-fbank and with Kaldi's definition in float64."""

from __future__ import annotations

from pathlib import Path

import kaldi_native_fbank
import numpy as np
import pytest
from numpy.typing import NDArray

from deepspeaker.audio import read_audio
from deepspeaker.features import FbankExtractor

PIECES = Path(__file__).resolve().parents[3] / "shared" / "corpora" / "librispeech-pieces" / "LibriSpeech"
Floats = NDArray[np.float32]


def speechlike(seconds: float, seed: int, rate: int = 16000) -> Floats:
    """Return bursts of a gliding pitch with harmonics, hisses and noise, quantised to 16 bits like real files."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    pitch = 120 + 60 * np.sin(2 * np.pi * 0.7 * time + generator.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voiced = sum(np.sin(number * phase + generator.uniform(0, 6)) / number for number in range(1, 30))
    voiced *= np.clip(np.sin(2 * np.pi * 2.3 * time), 0, 1)
    hiss = generator.normal(size=len(time)) * np.clip(np.sin(2 * np.pi * 1.9 * time + 2), 0, 1) ** 2
    mixed = 0.1 * voiced + 0.03 * hiss + 0.001 * generator.normal(size=len(time))
    return (np.round(mixed * 32768) / 32768).astype(np.float32)


def reference(samples: Floats, rate: int = 16000, **mel: float) -> Floats:
    """Run kaldi-native-fbank with the options of ``compute-fbank-feats``; column 0 is the raw log-energy."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = int(mel.get("num_bins", 64))
    options.mel_opts.low_freq = mel.get("low_freq", 20.0)
    options.mel_opts.high_freq = mel.get("high_freq", 7600.0)
    options.use_energy = True
    options.raw_energy = True
    options.energy_floor = 0.0
    extractor = kaldi_native_fbank.OnlineFbank(options)
    extractor.accept_waveform(rate, (samples * 32768).tolist())
    extractor.input_finished()
    return np.array([extractor.get_frame(index) for index in range(extractor.num_frames_ready)])


def definition(samples: Floats, frame: int) -> NDArray[np.float64]:
    """Compute a frame in float64, as in Kaldi's feature-window.cc and mel-computations.cc."""
    first = 160 * frame + 80 - 200
    at = np.arange(first, first + 400)
    while ((at < 0) | (at >= len(samples))).any():  # mirrored at the edges
        at = np.where(at < 0, -at - 1, at)
        at = np.where(at >= len(samples), 2 * len(samples) - 1 - at, at)
    window = 32768.0 * samples.astype(np.float64)[at]
    window -= window.mean()
    window[1:] -= 0.97 * window[:-1]
    window[0] -= 0.97 * window[0]
    window *= (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft(window, 512)) ** 2

    def mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.asarray(1127 * np.log1p(np.asarray(hertz) / 700))

    points = np.linspace(mel(20.0), mel(7600.0), 66)
    energies = []
    for left, centre, right in zip(points[:-2], points[1:-1], points[2:], strict=True):
        position = mel(np.arange(256) * 16000 / 512)
        rise, fall = (position - left) / (centre - left), (right - position) / (right - centre)
        energies.append((np.clip(np.minimum(rise, fall), 0, None) * power[:256]).sum())
    return np.log(np.maximum(energies, np.finfo(np.float32).eps))


def check_close(features: Floats, expected: Floats) -> None:
    assert features.shape == expected.shape
    difference = np.abs(features - expected)
    assert np.median(difference) < 1e-5
    assert np.percentile(difference, 99) < 5e-4
    # The rounding errors of a float32 FFT are a share of the frame's peak.
    power, expected_power = np.exp(features.astype(np.float64)), np.exp(expected.astype(np.float64))
    assert np.all(np.abs(power - expected_power) <= 2e-5 * expected_power.max(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(4))
def test_matches_kaldi_native_fbank_on_synthetic_speech(seed: int) -> None:
    samples = speechlike(4, seed)
    features, log_energy = FbankExtractor()(samples)
    expected = reference(samples)
    assert features.dtype == log_energy.dtype == np.float32
    check_close(features, expected[:, 1:])
    assert np.abs(log_energy - expected[:, 0]).max() < 1e-4


@pytest.mark.skipif(not PIECES.is_dir(), reason=f"no real speech in {PIECES}")
def test_matches_kaldi_native_fbank_on_real_speech() -> None:
    paths = sorted(PIECES.glob("*/*/*/*.flac"))[::8][:12]
    assert paths
    for path in paths:
        samples = read_audio(str(path))
        features, log_energy = FbankExtractor()(samples)
        expected = reference(samples)
        check_close(features, expected[:, 1:])
        assert np.abs(log_energy - expected[:, 0]).max() < 1e-4


@pytest.mark.parametrize("options", [{"num_bins": 40, "low_freq": 0.0, "high_freq": 8000.0}, {"num_bins": 23}])
def test_matches_kaldi_native_fbank_with_other_filters(options: dict[str, float]) -> None:
    samples = speechlike(2, 9)
    check_close(FbankExtractor(**options)(samples)[0], reference(samples, **options)[:, 1:])


def test_matches_kaldi_native_fbank_at_8_kilohertz() -> None:
    samples = speechlike(2, 9, 8000)
    features, _ = FbankExtractor(8000, num_bins=30, high_freq=3700.0)(samples)
    check_close(features, reference(samples, 8000, num_bins=30, high_freq=3700.0)[:, 1:])


def test_matches_the_definition_in_float64() -> None:
    samples = speechlike(1.003, 5)
    features, _ = FbankExtractor()(samples)
    for frame in (0, 1, 2, 17, 50, len(features) - 2, len(features) - 1):
        expected = definition(samples, frame)
        power, true_power = np.exp(features[frame].astype(np.float64)), np.exp(expected)
        assert np.all(np.abs(power - true_power) <= 1e-5 * true_power.max())
        assert np.median(np.abs(features[frame] - expected)) < 1e-5


def test_digital_silence_has_the_floor_of_kaldi() -> None:
    samples = speechlike(2, 3)
    samples[8000:16000] = 0
    features, log_energy = FbankExtractor()(samples)
    expected = reference(samples)
    assert np.array_equal(features[60], np.full(64, np.log(np.finfo(np.float32).eps), dtype=np.float32))
    assert np.abs(log_energy - expected[:, 0]).max() < 1e-4
    check_close(features, expected[:, 1:])
    assert np.isfinite(FbankExtractor()(np.zeros(1600, dtype=np.float32))[1]).all()


@pytest.mark.parametrize("samples", [160, 161, 239, 240, 399, 400, 401, 560, 15999, 16000, 16079, 16080])
def test_frame_counts_and_short_inputs_match_kaldi(samples: int) -> None:
    signal = speechlike(1.1, 1)[:samples]
    features, log_energy = FbankExtractor()(signal)
    assert features.shape == ((samples + 80) // 160, 64)
    assert log_energy.shape == (len(features),)
    check_close(features, reference(signal)[:, 1:])


def test_the_same_samples_give_the_same_bytes() -> None:
    samples = speechlike(3, 2)
    first, second = FbankExtractor()(samples), FbankExtractor()(samples.copy())
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))
