"""Kaldi's energy-based voice activity detection (``compute-vad``)."""

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
    """Return 1.0 for each speech frame and 0.0 for each other frame.

    A frame is speech if at least ``proportion_threshold`` of the frames around it exceed
    ``energy_threshold + energy_mean_scale * mean(log_energy)``.

    Parameters
    ----------
    log_energy
        (frames,), of samples on the 16-bit scale.
    energy_threshold, energy_mean_scale
        The constant part of the threshold, and the share of the utterance's mean log-energy in it.
    frames_context
        How many frames count on either side; fewer at the edges.
    proportion_threshold
        The share of these frames that must exceed the threshold.

    Returns
    -------
    NDArray
        (frames,).

    References
    ----------
    ``ComputeVadEnergy`` in Kaldi's src/ivector/voice-activity-detection.cc.

    Examples
    --------
    >>> energy_vad(np.array([5, 5, 5, 20, 5, 5, 5], dtype=np.float32))
    array([0., 1., 1., 1., 1., 1., 0.], dtype=float32)
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
