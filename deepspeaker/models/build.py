"""Build a network from the ``model`` section of a configuration."""

from __future__ import annotations

from typing import Any

import torch

from deepspeaker.errors import InputError
from deepspeaker.models.gru import GRU
from deepspeaker.models.network import Network
from deepspeaker.models.rescnn import ResCNN

_NETWORKS: dict[str, type[Network]] = {"rescnn": ResCNN, "gru": GRU}


def build_model(feature_dim: int, name: str = "rescnn", **options: Any) -> Network:
    """Build a network with fresh weights, drawn from torch's random state.

    Parameters
    ----------
    feature_dim
        The number of bins of a feature frame.
    name
        "rescnn" or "gru".
    **options
        The other arguments of the network's class.

    Raises
    ------
    InputError
        The name is unknown.

    Examples
    --------
    >>> network = build_model(64, channels=[4, 8], blocks=1, embedding_dim=16).eval()
    >>> network.embed(torch.zeros(2, 100, 64)).shape
    torch.Size([2, 16])
    """
    if name not in _NETWORKS:
        raise InputError(f"model.name: {name} is unknown; use {' or '.join(_NETWORKS)}")
    network = _NETWORKS[name](feature_dim, **options)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def choose_device(name: str) -> torch.device:
    """Return the device for "cpu", "cuda", or "auto": a GPU if there is one, else the CPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: found no usable GPU; use --device auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def parameter_count(network: torch.nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters())
