"""The networks of Deep Speaker, their checkpoints, and tables of their layers."""

from deepspeaker.models.build import build_model, choose_device, parameter_count
from deepspeaker.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from deepspeaker.models.describe import Layer, describe, description
from deepspeaker.models.folding import folded
from deepspeaker.models.fused import Fused, join
from deepspeaker.models.gru import GRU
from deepspeaker.models.layers import SequenceBatchNorm, batch_norm, clipped_relu, length_normalised
from deepspeaker.models.network import Network
from deepspeaker.models.pooling import Statistics, build_pooling
from deepspeaker.models.rescnn import ResCNN

__all__ = [
    "GRU",
    "Fused",
    "Layer",
    "Network",
    "ResCNN",
    "SequenceBatchNorm",
    "Statistics",
    "batch_norm",
    "build_model",
    "build_pooling",
    "choose_device",
    "clipped_relu",
    "describe",
    "description",
    "folded",
    "join",
    "length_normalised",
    "load_checkpoint",
    "network_of",
    "parameter_count",
    "save_checkpoint",
]
