"""MFCCs against kaldi-native-fbank and Lhotse; deltas and CMVN against Kaldi's loops written out."""

from __future__ import annotations

import kaldi_native_fbank
import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.features import energy_vad
from deepspeaker.ivector import MfccExtractor, sliding_cmvn, speech_features, with_deltas
from tests.features.test_fbank import Floats, speechlike


def reference(samples: Floats, num_ceps: int = 20, num_bins: int = 30, high_freq: float = 7600.0) -> Floats:
    """Run kaldi-native-fbank with the options of ``compute-mfcc-feats``."""
    options = kaldi_native_fbank.MfccOptions()
    options.frame_opts.samp_freq = 16000
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = num_bins
    options.mel_opts.low_freq = 20.0
    options.mel_opts.high_freq = high_freq
    options.num_ceps = num_ceps
    options.use_energy = True
    options.raw_energy = True
    options.energy_floor = 0.0
    extractor = kaldi_native_fbank.OnlineMfcc(options)
    extractor.accept_waveform(16000, (samples * 32768).tolist())
    extractor.input_finished()
    return np.array([extractor.get_frame(index) for index in range(extractor.num_frames_ready)])


@pytest.mark.parametrize("seed", range(3))
def test_mfccs_are_those_of_kaldi(seed: int) -> None:
    samples = speechlike(3, seed)
    mfcc, expected = MfccExtractor()(samples), reference(samples)
    assert mfcc.dtype == np.float32
    assert mfcc.shape == expected.shape == (300, 20)
    # A coefficient sums 30 log energies with weights of up to 3, each with the rounding errors of a float32 FFT.
    assert np.median(np.abs(mfcc - expected)) < 2e-5
    assert np.abs(mfcc - expected).max() < 5e-3


def test_mfccs_with_other_options_are_those_of_kaldi() -> None:
    samples = speechlike(2, 5)
    mfcc = MfccExtractor(num_ceps=13, num_bins=23, high_freq=8000.0)(samples)
    assert np.abs(mfcc - reference(samples, 13, 23, 8000.0)).max() < 5e-3


def test_mfccs_are_those_of_lhotse_but_for_the_energy() -> None:
    import torch
    from lhotse.features.kaldi.layers import Wav2MFCC

    samples = speechlike(2, 7)
    layer = Wav2MFCC(num_ceps=20, num_filters=30, high_freq=7600.0)
    with torch.inference_mode():
        expected = layer(torch.from_numpy(samples * np.float32(32768))[None])[0].numpy()
    assert np.abs(MfccExtractor()(samples)[:, 1:] - expected[:, 1:]).max() < 2e-4


def test_more_coefficients_than_bins_are_one_clear_error() -> None:
    with pytest.raises(InputError, match="40 cepstral coefficients of 30 mel bins"):
        MfccExtractor(num_ceps=40)


def kaldi_deltas(features: Floats, order: int, window: int) -> Floats:
    """Follow DeltaFeatures::Process of feature-functions.cc."""
    scales = [np.ones(1)]
    for _ in range(order):
        previous = scales[-1]
        current = np.zeros(len(previous) + 2 * window)
        for j in range(-window, window + 1):
            for k in range(len(previous)):
                current[j + k + window] += j * previous[k]
        scales.append(current / sum(j * j for j in range(-window, window + 1)))
    rows = []
    for t in range(len(features)):
        row = []
        for weights in scales:
            reach = (len(weights) - 1) // 2
            at = np.clip(np.arange(t - reach, t + reach + 1), 0, len(features) - 1)
            row.append(weights @ features[at])
        rows.append(np.concatenate(row))
    return np.array(rows)


@pytest.mark.parametrize(("frames", "order", "window"), [(1, 2, 2), (3, 2, 2), (40, 2, 2), (40, 1, 3), (40, 3, 1)])
def test_deltas_are_those_of_kaldi(frames: int, order: int, window: int) -> None:
    features = np.random.default_rng(frames).normal(size=(frames, 4)).astype(np.float32)
    deltas = with_deltas(features, order, window)
    assert deltas.dtype == np.float32
    assert np.allclose(deltas, kaldi_deltas(features, order, window), atol=1e-6)


def test_deltas_are_those_of_kaldi_native_fbank() -> None:
    features = np.random.default_rng(3).normal(size=(50, 20)).astype(np.float32)
    expected = kaldi_native_fbank.compute_deltas(kaldi_native_fbank.DeltaOptions(), features)
    assert np.allclose(with_deltas(features), expected, atol=1e-6)


def kaldi_sliding(features: Floats, window: int, normalise_variance: bool) -> Floats:
    """Follow SlidingWindowCmnInternal of feature-functions.cc, with center=true."""
    frames = len(features)
    rows = []
    for t in range(frames):
        start = t - window // 2
        end = start + window
        if start < 0:
            end, start = end - start, 0
        if end > frames:
            start, end = max(start - (end - frames), 0), frames
        part = features[start:end].astype(np.float64)
        row = features[t] - part.mean(axis=0)
        rows.append(row / np.sqrt(np.maximum(part.var(axis=0), 1e-10)) if normalise_variance else row)
    return np.array(rows)


@pytest.mark.parametrize("variance", [False, True])
@pytest.mark.parametrize(("frames", "window"), [(1, 300), (250, 300), (301, 300), (500, 100), (500, 101)])
def test_sliding_cmvn_is_that_of_kaldi(frames: int, window: int, variance: bool) -> None:
    features = (np.random.default_rng(frames).normal(size=(frames, 3)) + 20).astype(np.float32)
    result = sliding_cmvn(features, window, normalise_variance=variance)
    assert result.dtype == np.float32
    assert np.allclose(result, kaldi_sliding(features, window, variance), atol=1e-5)


def test_speech_features_are_normalised_before_speech_is_selected() -> None:
    mfcc = MfccExtractor()(speechlike(4, 2))
    speech = energy_vad(mfcc[:, 0]) > 0
    assert 0 < speech.sum() < len(speech)
    assert np.array_equal(speech_features(mfcc), sliding_cmvn(with_deltas(mfcc))[speech])
    per_utterance = speech_features(mfcc, cmvn="utterance")
    assert np.allclose(per_utterance.mean(axis=0), 0, atol=1e-5)
    assert per_utterance.std(axis=0).max() < 1.001
    assert np.array_equal(speech_features(mfcc, cmvn="none"), with_deltas(mfcc)[speech])


def test_unusable_utterances_are_one_clear_error() -> None:
    with pytest.raises(InputError, match="has no frame"):
        speech_features(np.zeros((0, 20), dtype=np.float32))
    with pytest.raises(InputError, match="has no speech frame"):
        speech_features(np.zeros((30, 20), dtype=np.float32))
    with pytest.raises(InputError, match="not finite"):
        speech_features(np.full((30, 20), np.nan, dtype=np.float32))
    with pytest.raises(InputError, match="window of 0 frames"):
        sliding_cmvn(np.zeros((3, 1), dtype=np.float32), 0)
