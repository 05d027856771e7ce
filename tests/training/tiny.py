"""Trainings so small that they take a moment, and what tests compare them by."""

from __future__ import annotations

import csv
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import deepspeaker
from deepspeaker.config import Config, Optimizer, ResCNNModel, Softmax, Triplet
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.models import build_model, load_checkpoint
from deepspeaker.training import (
    Checkpoints,
    Objective,
    PairSampler,
    Sampler,
    SoftmaxObjective,
    SpeakerSampler,
    TripletObjective,
    UtteranceSampler,
    train,
)

#: Sections of a configuration, for trainings by command.
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
        optimizer=Optimizer(learning_rate=0.01, warmup_steps=3, weight_decay=0.01, gradient_clip=1.0),
    ),
    triplet=Triplet(
        epochs=4,
        steps_per_epoch=5,
        crop_frames=16,
        speakers_per_batch=4,
        utterances_per_speaker=2,
        precision="float32",
        optimizer=Optimizer(name="sgd", learning_rate=0.02, momentum=0.9, schedule="linear"),
    ),
)


@functools.cache
def index_of(folder: Path) -> FeatureIndex:
    """The index, built once: polars starts threads, so it must not run again in a fork."""
    return FeatureIndex(folder)


def do_nothing(step: int) -> None:
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
    before: Callable[[int], None] = do_nothing,
    dev: bool = True,
    seed: int = 3,
    **changes: Any,
) -> None:
    """Train as the stages do, with ``changes`` to the section's options."""
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
            sampled_pairs=options.sampler == "pairs",
            cross_batch_memory=options.cross_batch_memory,
            embedding_dim=network.embedding_dim,
            seed=seed,
        )
        crops = {"frames": index.frames, "crop_frames": options.crop_frames}
        speakers, each = options.speakers_per_batch, options.utterances_per_speaker
        sampler = SpeakerSampler(index.of_speaker, speakers, each, seed, **crops)
        if options.sampler == "pairs":
            sampler = PairSampler(index.of_speaker, index.speaker, options.pairs_per_batch, seed, **crops)
    forward = objective.forward

    def watched(features: Tensor, speakers: Tensor, step: int) -> Any:
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


def metrics_of(objective: Objective, *inputs: Any) -> dict[str, float]:
    return dict(zip(objective.metrics, objective(*inputs)[1].tolist(), strict=True))


def all_triplets(
    embeddings: Tensor, speakers: Tensor, kind: str, memory: Tensor | None = None, memory_speakers: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """The cosines of each anchor-positive pair and of its negative, by a loop over all triplets."""
    batch = list(zip(embeddings, speakers.tolist(), strict=True))
    candidates = batch.copy()
    if memory is not None and memory_speakers is not None:
        candidates += zip(memory, memory_speakers.tolist(), strict=True)
    triplets = []
    for a, (anchor, speaker) in enumerate(batch):
        negatives = [anchor @ vector for vector, other in candidates if other != speaker]
        for p, (positive, other) in enumerate(batch):
            if a == p or other != speaker:
                continue
            s_ap = anchor @ positive
            easier = [s_an for s_an in negatives if kind == "hardest" or s_an < s_ap - 1e-12]
            triplets.append((s_ap, max(easier) if easier else min(negatives)))
    return triplets


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "train.csv").read_text(encoding="utf-8").splitlines()))


def identical(one: Any, other: Any) -> bool:
    """Compare bit by bit, through dictionaries and lists."""
    if isinstance(one, Tensor):
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


def signal_at(step: int, number: int = signal.SIGTERM) -> Callable[[int], None]:
    """For ``train_once(before=...)``: send a signal to this process before a step."""
    return lambda at: kill_me(number) if at == step else None


def refusal(work: Callable[[], None], kind: type[InputError] = InputError) -> str:
    """The one line of the error that ``work`` raises."""
    with pytest.raises(kind) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def environment(**more: str) -> dict[str, str]:
    """The environment of a child process that imports this project."""
    return os.environ | {"PYTHONPATH": str(Path(deepspeaker.__file__).parents[1]), "OMP_NUM_THREADS": "1"} | more
