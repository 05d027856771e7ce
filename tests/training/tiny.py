"""Trainings so small that they take a moment."""

from __future__ import annotations

import csv
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from deepspeaker.config import Config, Optimiser, ResCNNModel, Softmax, Triplet
from deepspeaker.features import FeatureIndex
from deepspeaker.models import build_model, load_checkpoint
from deepspeaker.training import SpeakerSampler, UtteranceSampler
from deepspeaker.training.batches import Sampler
from deepspeaker.training.checkpoints import Checkpoints
from deepspeaker.training.loop import train
from deepspeaker.training.losses import Objective, SoftmaxObjective, TripletObjective

#: For trainings by command, as sections of a configuration.
SMALL: dict[str, dict[str, Any]] = {
    "model": {"channels": [4, 8], "blocks": 1, "embedding_dim": 8},
    "softmax": {"epochs": 2, "steps_per_epoch": 4, "crop_frames": 16, "batch_size": 8, "precision": "float32"},
    "triplet": {
        "precision": "float32",
        "epochs": 2,
        "steps_per_epoch": 4,
        "crop_frames": 16,
        "speakers_per_batch": 4,
        "utterances_per_speaker": 2,
    },
}

CONFIG = Config(
    model=ResCNNModel(channels=[4, 8], blocks=1, embedding_dim=8),
    softmax=Softmax(
        epochs=4,
        steps_per_epoch=5,
        crop_frames=16,
        batch_size=8,
        precision="float32",
        optimiser=Optimiser(learning_rate=0.01, warmup_steps=3, weight_decay=0.01, gradient_clip=1.0),
    ),
    triplet=Triplet(
        epochs=4,
        steps_per_epoch=5,
        crop_frames=16,
        speakers_per_batch=4,
        utterances_per_speaker=2,
        precision="float32",
        optimiser=Optimiser(name="sgd", learning_rate=0.02, momentum=0.9, schedule="linear"),
    ),
)


@functools.cache
def index_of(folder: Path) -> FeatureIndex:
    """Built once: polars, which builds it, has threads and must not be used again in a fork."""
    return FeatureIndex(folder)


def nothing(step: int) -> None:
    pass


def checkpoints_of(folder: Path, config: Config, section: str, seed: int, index: FeatureIndex) -> Checkpoints:
    last = folder / "checkpoint_last.pt"
    about = {
        "config": config.model_dump(),
        "stage": section,
        "seed": seed,
        "feature_dim": index.feature_dim,
        "speakers": index.speakers,
        "origin": "",
    }
    return Checkpoints(folder, about, load_checkpoint(last) if last.is_file() else None)


def train_once(
    data_dir: Path,
    folder: Path,
    section: str = "softmax",
    *,
    before: Callable[[int], None] = nothing,
    dev: bool = True,
    seed: int = 3,
    **changes: Any,
) -> None:
    """Trains as the stages do, with ``changes`` to the section's options."""
    options = getattr(CONFIG, section).model_copy(update=changes)
    config = CONFIG.model_copy(update={section: options})
    index = index_of(data_dir / "train_nosil")
    dev_index = index_of(data_dir / "dev_nosil") if dev else None
    torch.manual_seed(seed)
    network = build_model(index.feature_dim, **config.model.model_dump())
    objective: Objective
    sampler: Sampler
    if section == "softmax":
        objective = SoftmaxObjective(network, network.embedding_dim, len(index.speakers))
        sampler = UtteranceSampler(len(index), options.batch_size, seed)
    else:
        objective = TripletObjective(
            network,
            options.margin,
            options.negatives,
            early_negatives=options.early_negatives,
            early_steps=options.early_steps * options.accumulate,
            history=options.history,
            embedding_dim=network.embedding_dim,
            seed=seed,
        )
        sampler = SpeakerSampler(
            index.of_speaker,
            options.speakers_per_batch,
            options.utterances_per_speaker,
            seed,
            frames=index.frames,
            crop_frames=options.crop_frames,
        )
    forward = objective.forward

    def watched(features: torch.Tensor, speakers: torch.Tensor, step: int) -> Any:
        before(step)
        return forward(features, speakers, step)

    objective.forward = watched
    train(
        objective,
        sampler,
        index,
        dev_index,
        options,
        (20.0, 7600.0),
        checkpoints_of(folder, config, section, seed, index),
        device=torch.device("cpu"),
        progress=False,
    )


def figures_of(objective: Objective, *inputs: Any) -> dict[str, float]:
    """The figures of a step, by name."""
    return dict(zip(objective.figures, objective(*inputs)[1].tolist(), strict=True))


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "train.csv").read_text(encoding="utf-8").splitlines()))


def identical(one: Any, other: Any) -> bool:
    """Bit by bit, through dictionaries and lists."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(identical(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(identical, one, other))
    return bool(one == other)


def assert_same_training(one: Path, other: Path) -> None:
    for name in ("last", "best", "average"):
        path = f"checkpoint_{name}.pt"
        assert identical(load_checkpoint(one / path), load_checkpoint(other / path)), path
    assert (one / "train.csv").read_bytes() == (other / "train.csv").read_bytes()


def kill_me(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
