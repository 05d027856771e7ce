"""Losses, samplers and the training loop."""

from deepspeaker.training.augmented import CropChanges, Sources
from deepspeaker.training.batches import Batch, PairSampler, Sampler, SpeakerSampler, UtteranceSampler
from deepspeaker.training.checkpoints import Checkpoints
from deepspeaker.training.collapse import CollapseError, CollapseWatch, DivergedError, all_finite
from deepspeaker.training.distributed import (
    all_reduce,
    check_agreement,
    check_batch,
    rank,
    shard,
    synchronise_batch_norm,
    world_size,
)
from deepspeaker.training.loading import BatchLoader
from deepspeaker.training.loop import gradient_sync, learning_rate, train
from deepspeaker.training.losses import TripletLoss, choose_negatives, triplet_loss
from deepspeaker.training.monitoring import Development
from deepspeaker.training.objectives import Objective, SoftmaxObjective, TripletObjective
from deepspeaker.training.optimizer import build_optimizer
from deepspeaker.training.processes import Interrupted, failure_cause, launch, process_group
from deepspeaker.training.stages import fast_precision, train_softmax, train_triplet

__all__ = [
    "Batch",
    "BatchLoader",
    "Checkpoints",
    "CollapseError",
    "CollapseWatch",
    "CropChanges",
    "Development",
    "DivergedError",
    "Interrupted",
    "Objective",
    "PairSampler",
    "Sampler",
    "SoftmaxObjective",
    "Sources",
    "SpeakerSampler",
    "TripletLoss",
    "TripletObjective",
    "UtteranceSampler",
    "all_finite",
    "all_reduce",
    "build_optimizer",
    "check_agreement",
    "check_batch",
    "choose_negatives",
    "failure_cause",
    "fast_precision",
    "gradient_sync",
    "launch",
    "learning_rate",
    "process_group",
    "rank",
    "shard",
    "synchronise_batch_norm",
    "train",
    "train_softmax",
    "train_triplet",
    "triplet_loss",
    "world_size",
]
