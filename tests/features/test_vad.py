"""Energy VAD, compared with a port of Kaldi's ``ComputeVadEnergy`` (src/ivector/voice-activity-detection.cc)."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deepspeaker.features import energy_vad


def kaldi_vad(
    log_energy: NDArray[np.float32], threshold: float, mean_scale: float, context: int, proportion: float
) -> list[float]:
    if len(log_energy) == 0:
        return []
    threshold += mean_scale * sum(float(value) for value in log_energy) / len(log_energy)
    decisions = []
    for t in range(len(log_energy)):
        num_count = den_count = 0
        for t2 in range(t - context, t + context + 1):
            if 0 <= t2 < len(log_energy):
                den_count += 1
                if log_energy[t2] > threshold:
                    num_count += 1
        decisions.append(1.0 if num_count >= den_count * proportion else 0.0)
    return decisions


@pytest.mark.parametrize("seed", range(100))
def test_matches_kaldi(seed: int) -> None:
    generator = np.random.default_rng(seed)
    frames = int(generator.integers(0, 80))
    loud = np.repeat(generator.random(frames // 5 + 1) < 0.4, 5)[:frames]
    log_energy = (generator.normal(9, 2, frames) + 6 * loud).astype(np.float32)
    context = int(generator.integers(0, 8))
    proportion = float(generator.choice([0.0, 0.12, 0.3, 0.6, 0.61, 1.0]))
    threshold, scale = float(generator.choice([5.0, 5.5, 12.0])), float(generator.choice([0.0, 0.5, 1.0]))
    vad = energy_vad(log_energy, threshold, scale, context, proportion)
    assert vad.dtype == np.float32
    assert vad.tolist() == kaldi_vad(log_energy, threshold, scale, context, proportion)


def test_defaults_are_those_of_the_recipe() -> None:
    log_energy = np.random.default_rng(0).normal(11, 3, 500).astype(np.float32)
    assert energy_vad(log_energy).tolist() == kaldi_vad(log_energy, 5.5, 0.5, 2, 0.12)


def test_zero_frames_and_one_frame() -> None:
    assert energy_vad(np.zeros(0, dtype=np.float32)).shape == (0,)
    assert energy_vad(np.array([20.0], dtype=np.float32)).tolist() == [1.0]  # 20 > 5.5 + 10
    assert energy_vad(np.array([10.0], dtype=np.float32)).tolist() == [0.0]  # 10 < 5.5 + 5


def test_a_frame_at_the_threshold_is_not_above_it() -> None:
    assert energy_vad(np.array([11.0], dtype=np.float32)).tolist() == [0.0]


def test_context_extends_speech() -> None:
    log_energy = np.full(9, 5.0, dtype=np.float32)
    log_energy[4] = 20.0
    assert energy_vad(log_energy).tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
