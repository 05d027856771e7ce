"""The networks."""

from deepspeaker.models.build import build_model, choose_device, parameter_count
from deepspeaker.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from deepspeaker.models.describe import Layer, describe, description
from deepspeaker.models.gru import GRU
from deepspeaker.models.layers import length_normalised
from deepspeaker.models.network import Network
from deepspeaker.models.rescnn import ResCNN

__all__ = [
    "GRU",
    "Layer",
    "Network",
    "ResCNN",
    "build_model",
    "choose_device",
    "describe",
    "description",
    "length_normalised",
    "load_checkpoint",
    "network_of",
    "parameter_count",
    "save_checkpoint",
]
