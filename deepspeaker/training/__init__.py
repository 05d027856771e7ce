"""Losses, samplers, the training loop."""

from deepspeaker.training.batches import Batch, SpeakerSampler, UtteranceSampler
from deepspeaker.training.collapse import CollapseError, DivergedError
from deepspeaker.training.losses import TripletLoss, triplet_loss
from deepspeaker.training.processes import Interrupted, launch
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
