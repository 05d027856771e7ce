"""The front end in one module of torch, compared with stage 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepspeaker.config import Features
from deepspeaker.features import FbankExtractor, FrontEnd, energy_vad, mean_variance_normalised
from deepspeaker.kaldi import ArkWriter, read_matrix
from tests.inference.signals import KINDS, signal

Floats = NDArray[np.float32]
LENGTHS = [160, 239, 240, 399, 400, 401, 559, 560, 561, 1000, 7777, 16000, 16079, 16080, 48001, 100003, 320000]


def stage_2(samples: Floats, features: Features) -> tuple[Floats, Floats, Floats, Floats]:
    """Return what stage 2 computes, before the compression, in the order of ``FrontEndOutput``."""
    extractor = FbankExtractor(
        features.sampling_rate,
        features.num_bins,
        features.low_freq,
        features.high_freq,
        features.frame_length,
        features.frame_shift,
    )
    log_mel, log_energy = extractor(samples)
    speech = energy_vad(log_energy, **features.vad.model_dump())
    normalised = mean_variance_normalised(log_mel[speech > 0], features.variance_floor) if speech.any() else log_mel[:0]
    return normalised, speech, log_energy, log_mel


def check(samples: Floats, features: Features) -> None:
    """Compare the front end with stage 2. The rounding errors of a frame's power are a share of the frame's peak."""
    with torch.inference_mode():
        output = FrontEnd(features)(torch.from_numpy(samples))
    got, speech, log_energy, log_mel = (tensor.numpy() for tensor in output)
    expected, expected_speech, expected_energy, expected_mel = stage_2(samples, features)
    assert log_mel.dtype == speech.dtype == log_energy.dtype == got.dtype == np.float32
    assert log_mel.shape == expected_mel.shape
    assert np.abs(log_energy - expected_energy).max(initial=0) < 1e-5
    power, expected_power = np.exp(log_mel.astype(np.float64)), np.exp(expected_mel.astype(np.float64))
    assert np.all(np.abs(power - expected_power) <= 1e-5 * expected_power.max(axis=1, keepdims=True))
    assert np.median(np.abs(log_mel - expected_mel)) < 1e-5
    assert np.array_equal(speech, expected_speech)
    if not speech.any():
        assert np.array_equal(got, np.zeros((1, features.num_bins), dtype=np.float32))
        return
    own = mean_variance_normalised(log_mel[speech > 0], features.variance_floor)
    assert got.shape == expected.shape
    assert np.abs(got - own).max() < 1e-6
    assert np.median(np.abs(got - expected)) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", LENGTHS)
def test_equals_stage_2(samples: int, kind: str) -> None:
    check(signal(samples, kind, samples), Features(compression="none"))


@settings(max_examples=40, deadline=None)
@given(st.integers(160, 40000), st.sampled_from(KINDS), st.integers(0, 10**6))
def test_equals_stage_2_at_any_length(samples: int, kind: str, seed: int) -> None:
    check(signal(samples, kind, seed), Features(compression="none"))


@pytest.mark.parametrize(
    "changed",
    [
        {"num_bins": 40, "low_freq": 0.0, "high_freq": 8000.0},
        {"sampling_rate": 8000, "high_freq": 3700.0, "num_bins": 30},
        {"sampling_rate": 11025, "high_freq": 5000.0},  # frames of 275 samples, an odd number
        {"frame_length": 0.032, "frame_shift": 0.016},
        {"frame_length": 0.020, "frame_shift": 0.020},
        {"vad": {"energy_threshold": 7.0, "energy_mean_scale": 0.3, "frames_context": 0}},
        {"vad": {"frames_context": 7, "proportion_threshold": 0.6}},
        {"variance_floor": 0.5},
    ],
)
@pytest.mark.parametrize("samples", [4000, 16001, 33333])
def test_equals_stage_2_with_other_options(changed: dict[str, Any], samples: int) -> None:
    features = Features.model_validate({"compression": "none", **changed})
    for kind in KINDS:
        check(signal(samples, kind, samples, features.sampling_rate), features)


@pytest.mark.parametrize("samples", [0, 1, 79, 80, 81, 100, 159])
def test_audio_shorter_than_a_frame_gives_at_most_one(samples: int) -> None:
    output = FrontEnd(Features())(torch.zeros(samples))
    frames = (samples + 80) // 160
    assert output.log_mel.shape == (frames, 64)
    assert output.speech.shape == output.log_energy.shape == (frames,)
    assert output.features.shape == (1, 64)
    assert all(torch.isfinite(tensor).all() for tensor in output)


@pytest.mark.parametrize("samples", [160, 16000, 99999])
def test_digital_silence_has_no_speech(samples: int) -> None:
    check(np.zeros(samples, dtype=np.float32), Features())


@pytest.mark.parametrize("compression", ["one-byte", "two-byte"])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_rounded_as_in_an_ark(compression: str, kind: str, tmp_path: Path) -> None:
    samples = torch.from_numpy(signal(30000, kind))
    exact = FrontEnd(Features(compression="none"))(samples).features.numpy()
    features = Features.model_validate({"compression": compression})
    rounded = FrontEnd(features)(samples).features.numpy()
    with ArkWriter(tmp_path / "x.ark", tmp_path / "x.scp", compression) as writer:
        location = writer.write("x", exact)
    assert np.abs(rounded - read_matrix(location)).max() < 2e-6
    assert np.abs(rounded - exact).max() <= 0.51 * np.ptp(exact) / (255 if compression == "one-byte" else 65535) + 2e-6


def test_a_constant_matrix_is_rounded_as_in_an_ark(tmp_path: Path) -> None:
    samples = torch.from_numpy(signal(400, "noise")[:160])  # one frame, so that all values are zero
    features = Features.model_validate({"vad": {"energy_threshold": 0.0}})
    rounded = FrontEnd(features)(samples).features.numpy()
    with ArkWriter(tmp_path / "x.ark", tmp_path / "x.scp", "one-byte") as writer:
        location = writer.write("x", np.zeros((1, 64), dtype=np.float32))
    assert np.array_equal(rounded, read_matrix(location))


def test_a_saved_state_needs_no_lhotse(tmp_path: Path) -> None:
    front_end = FrontEnd(Features())
    assert set(front_end.state_dict()) == {"window", "mel_filters"}
    samples = torch.from_numpy(signal(20000))
    torch.save(front_end.state_dict(), tmp_path / "state.pt")
    torch.save([*front_end(samples)], tmp_path / "output.pt")
    torch.save(samples, tmp_path / "samples.pt")
    script = """
import sys, torch
from deepspeaker.config import Features
from deepspeaker.features import FrontEnd
front_end = FrontEnd(Features(), torch.load("state.pt"))
for one, other in zip(front_end(torch.load("samples.pt")), torch.load("output.pt"), strict=True):
    assert torch.equal(one, other)
assert "lhotse" not in sys.modules
"""
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(root)}
    )


def test_a_loaded_state_replaces_the_buffers() -> None:
    state = {name: tensor + 1 for name, tensor in FrontEnd(Features()).state_dict().items()}
    front_end = FrontEnd(Features(), state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in front_end.state_dict().items())
