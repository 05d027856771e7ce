"""The networks."""

from deepspeaker.models.build import build_model, choose_device, parameter_count
from deepspeaker.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from deepspeaker.models.layers import length_normalised
from deepspeaker.models.rescnn import ResCNN

__all__ = [
    "ResCNN",
    "build_model",
    "choose_device",
    "length_normalised",
    "load_checkpoint",
    "network_of",
    "parameter_count",
    "save_checkpoint",
]
