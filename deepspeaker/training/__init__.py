"""Losses, samplers, the loop."""

from deepspeaker.training.collapse import CollapseError, DivergedError
from deepspeaker.training.interruption import Interrupted
from deepspeaker.training.launch import launch
from deepspeaker.training.losses import TripletLoss, triplet_loss
from deepspeaker.training.sampler import Batch, SpeakerSampler, UtteranceSampler
from deepspeaker.training.stages import train_softmax, train_triplet

__all__ = [
    "Batch",
    "CollapseError",
    "DivergedError",
    "Interrupted",
    "SpeakerSampler",
    "TripletLoss",
    "UtteranceSampler",
    "launch",
    "train_softmax",
    "train_triplet",
    "triplet_loss",
]
