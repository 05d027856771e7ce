"""Signals and networks for the tests of exported models."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deepspeaker.models import Network, build_model

Floats = NDArray[np.float32]
KINDS = ("speech", "silent ends", "digital silence inside", "clipped", "noise", "quiet", "offset")
NETWORKS: dict[str, dict[str, Any]] = {
    "rescnn": {"channels": [4, 8, 8], "blocks": 1, "pooling": "attentive"},
    "gru": {"name": "gru", "channels": 4, "hidden": 16, "layers": 3},
}


def signal(samples: int, kind: str = "speech", seed: int = 0, rate: int = 16000) -> Floats:
    """Return bursts of a gliding pitch with harmonics and noise, changed as ``kind`` says."""
    generator = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    pitch = 150 + 60 * np.sin(2 * np.pi * 0.7 * time + generator.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voiced = sum(np.sin(number * phase + generator.uniform(0, 6)) / number for number in range(1, 20))
    voiced *= np.clip(np.sin(2 * np.pi * 2.3 * time + generator.uniform(0, 6)), 0, 1)
    mixed = 0.1 * voiced + 0.003 * generator.normal(size=samples)
    if kind == "silent ends":
        mixed[: samples // 3] *= 1e-3
        mixed[samples - samples // 4 :] = 0
    elif kind == "digital silence inside":
        mixed[samples // 3 : 2 * samples // 3] = 0
    elif kind == "clipped":
        mixed = np.clip(20 * mixed, -1, 1)
    elif kind == "noise":
        mixed = 0.05 * generator.normal(size=samples)
    elif kind == "quiet":
        mixed *= 1e-2
    elif kind == "offset":
        mixed += 0.2
    return (np.round(mixed * 32768) / 32768).clip(-1, 1).astype(np.float32)


def trained(name: str, batch_norm: str, feature_dim: int = 64, dim: int = 32) -> Network:
    """Return a network whose batch norms have scales, shifts and statistics that are not those of the start."""
    torch.manual_seed(0)
    network = build_model(feature_dim, embedding_dim=dim, batch_norm=batch_norm, **NETWORKS[name])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    for _ in range(20):
        network.train()(torch.randn(4, 60, feature_dim))
    return network.eval()
