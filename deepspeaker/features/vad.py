"""Kaldi's energy voice activity detection (the rule of ``compute-vad``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def energy_vad(
    log_energy: NDArray[np.float32],
    energy_threshold: float = 5.5,
    energy_mean_scale: float = 0.5,
    frames_context: int = 2,
    proportion_threshold: float = 0.12,
) -> NDArray[np.float32]:
    """Log-energy (frames,) on the 16-bit scale -> 1.0 for a speech frame, else 0.0, (frames,).

    A frame is speech when at least ``proportion_threshold`` of the frames within ``frames_context`` on either side
    (fewer at the edges) exceed ``energy_threshold + energy_mean_scale * mean(log_energy)``.
    """
    frames = len(log_energy)
    if frames == 0:
        return np.zeros(0, dtype=np.float32)
    threshold = energy_threshold + energy_mean_scale * float(np.mean(log_energy, dtype=np.float64))
    above = np.concatenate([[0], np.cumsum(log_energy > threshold)])
    first = np.maximum(np.arange(frames) - frames_context, 0)
    end = np.minimum(np.arange(frames) + frames_context + 1, frames)
    speech = above[end] - above[first] >= (end - first) * proportion_threshold
    return np.asarray(speech, dtype=np.float32)
