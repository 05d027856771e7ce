"""From the ``model`` section of a configuration to a network."""

from __future__ import annotations

from typing import Any

import torch

from deepspeaker.errors import InputError
from deepspeaker.models.gru import GRU
from deepspeaker.models.network import Network
from deepspeaker.models.rescnn import ResCNN

_NETWORKS: dict[str, type[Network]] = {"rescnn": ResCNN, "gru": GRU}


def build_model(feature_dim: int, name: str = "rescnn", **options: Any) -> Network:
    """A network with fresh weights (from torch's random state) for features of ``feature_dim`` bins."""
    if name not in _NETWORKS:
        raise InputError(f"model.name: {name} is unknown; take {' or '.join(_NETWORKS)}")
    network = _NETWORKS[name](feature_dim, **options)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def choose_device(name: str) -> torch.device:
    """The device that "auto" (a GPU where there is one), "cpu" or "cuda" stands for."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no usable GPU is here; take --device auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def parameter_count(network: torch.nn.Module) -> int:
    """The number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())
