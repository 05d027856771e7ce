"""Losses, samplers, the loop."""

from deepspeaker.training.loop import Interrupted
from deepspeaker.training.losses import TripletLoss, triplet_loss
from deepspeaker.training.sampler import Batch, SpeakerSampler, UtteranceSampler
from deepspeaker.training.stages import train_softmax, train_triplet

__all__ = [
    "Batch",
    "Interrupted",
    "SpeakerSampler",
    "TripletLoss",
    "UtteranceSampler",
    "train_softmax",
    "train_triplet",
    "triplet_loss",
]
