from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deepspeaker.config import Config, ResCNNModel, Triplet
from deepspeaker.features import FeatureIndex
from deepspeaker.models import build_model, load_checkpoint
from deepspeaker.training import CollapseError, CollapseWatch, Interrupted, SpeakerSampler, TripletObjective, train
from tests.training.tiny import checkpoints_of

GOOD = {"loss": 0.04, "active_triplets": 0.4, "positive_cosine": 0.8, "negative_cosine": 0.6, "spread": 0.4}
TOGETHER = {"loss": 0.02, "active_triplets": 0.9, "positive_cosine": 1.0, "negative_cosine": 1.0, "spread": 1e-4}
AT_MARGIN = {"loss": 0.1001, "active_triplets": 1.0, "positive_cosine": 0.9, "negative_cosine": 0.9, "spread": 0.2}


@pytest.mark.parametrize(
    ("bad", "problem"), [(TOGETHER, "all embeddings coincided"), (AT_MARGIN, "the loss sat at the margin")]
)
def test_only_many_bad_steps_in_a_row_are_a_collapse(bad: dict[str, float], problem: str) -> None:
    watch = CollapseWatch(0.1, 5, 1000)
    for metrics in [bad] * 5 + [GOOD] + [bad] * 5:
        watch.see(metrics)
    with pytest.raises(CollapseError, match=f"for 6 steps {problem}") as raised:
        watch.see(bad)
    for cure in ("learning_rate", "early_negatives", "softmax.epochs"):
        assert cure in str(raised.value)
    assert "\n" not in str(raised.value)


def steps_until_collapse(watch: CollapseWatch) -> int:
    with pytest.raises(CollapseError):
        for _ in range(10_000):
            watch.see(TOGETHER)
    return watch.bad_steps


@pytest.mark.parametrize(("patience", "steps", "fresh", "later"), [
    (500, 600, 300, 150),  # half and a quarter of the training
    (500, 100_000, 500, 500),
    (500, 100, 50, 50),
    (20, 600, 20, 20),
])  # fmt: skip
def test_patience_is_limited_to_a_share_of_the_training(patience: int, steps: int, fresh: int, later: int) -> None:
    assert steps_until_collapse(CollapseWatch(0.1, patience, steps)) == fresh + 1
    watch = CollapseWatch(0.1, patience, steps)
    watch.see(GOOD)
    assert steps_until_collapse(watch) == later + 1


@pytest.mark.parametrize(("good", "metrics", "steps"), [(1, TOGETHER, 4), (1, AT_MARGIN, 19), (0, TOGETHER, 49)])
def test_a_training_that_ends_badly_has_collapsed(good: int, metrics: dict[str, float], steps: int) -> None:
    watch = CollapseWatch(0.1, 500, 600)
    for seen in [GOOD] * good + [metrics] * steps:
        watch.see(seen)
    resumed = CollapseWatch(0.1, 500, 600)
    resumed.load_state_dict(watch.state_dict())
    for ending in (watch, resumed):
        assert ending.doubtful == bool(good)
        ending.end()
        ending.see(metrics)
        with pytest.raises(CollapseError, match=f"for its last {steps + 1} steps (all embeddings|the loss sat at)"):
            ending.end()


def test_softmax_training_is_not_watched() -> None:
    watch = CollapseWatch(0.2, 1, 100)
    for _ in range(10):
        watch.see({"loss": 0.2, "accuracy": 0.0})


def test_with_a_patience_of_0_only_the_end_is_judged() -> None:
    watch = CollapseWatch(0.1, 0, 1000)
    for metrics in [GOOD] + [TOGETHER] * 990:
        watch.see(metrics)
    assert watch.doubtful  # so no checkpoint would be saved
    with pytest.raises(CollapseError, match="for its last 990 steps"):
        watch.end()
    watch.see(GOOD)
    watch.end()


class Collapsing(TripletObjective):
    """From step ``first`` to before ``end``, the network maps everything to one vector."""

    def __init__(self, network: torch.nn.Module, first: int, end: int, before: Callable[[int], None]) -> None:
        super().__init__(network, 0.1)
        self.first, self.end, self.before, self.number = first, end, before, 0

    def outputs(self, features: torch.Tensor) -> torch.Tensor:
        outputs = super().outputs(features)
        return outputs * 0 + 1 if self.first <= self.number < self.end else outputs

    def forward(self, features: torch.Tensor, speakers: torch.Tensor, step: int) -> Any:
        self.before(step)
        self.number = step
        return super().forward(features, speakers, step)


def train_collapsing(
    data_dir: Path,
    folder: Path,
    first: int,
    end: int,
    before: Callable[[int], None] = lambda step: None,
    dev_index: FeatureIndex | None = None,
    **options: Any,
) -> None:
    index = FeatureIndex(data_dir / "train_nosil")
    triplet = Triplet(steps_per_epoch=5, crop_frames=16, precision="float32", margin=0.1, **options)
    config = Config(model=ResCNNModel(channels=[4, 8], blocks=1, embedding_dim=8), triplet=triplet)
    torch.manual_seed(0)
    network = build_model(index.feature_dim, **config.model.model_dump())
    train(
        Collapsing(network, first, end, before),
        SpeakerSampler(index.of_speaker, 4, 2, 0, frames=index.frames, crop_frames=16),
        index,
        dev_index,
        triplet,
        (20.0, 7600.0),
        checkpoints_of(folder, config, "triplet", 0, index),
        device=torch.device("cpu"),
        progress=False,
    )


def steps_of(folder: Path) -> list[int]:
    """The step of the last checkpoint, and its number of bad steps; best has the same weights."""
    last = load_checkpoint(folder / "checkpoint_last.pt")
    best = load_checkpoint(folder / "checkpoint_best.pt")
    assert all(torch.equal(best["network"][name], tensor) for name, tensor in last["network"].items())
    return [last["step"], last["watch"]["steps"]]


def test_a_training_that_collapses_stops_and_keeps_the_last_good_checkpoint(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CollapseError, match="for 21 steps all embeddings coincided"):
        train_collapsing(data_dir, tmp_path, 10, 999, epochs=40, collapse_patience=20)
    assert steps_of(tmp_path) == [10, 0]


def test_with_a_patience_of_0_a_training_may_collapse_and_recover(data_dir: Path, tmp_path: Path) -> None:
    train_collapsing(data_dir, tmp_path, 10, 190, epochs=40, collapse_patience=0)
    assert steps_of(tmp_path) == [200, 0]


def test_a_training_that_ends_collapsed_is_no_success(data_dir: Path, tmp_path: Path) -> None:
    """The default patience of 500 steps is longer than this training."""
    for _ in range(2):  # repeating the command does not help
        with pytest.raises(CollapseError, match="for its last 17 steps all embeddings coincided"):
            train_collapsing(data_dir, tmp_path, 13, 999, epochs=6)
        assert steps_of(tmp_path) == [10, 0]
    assert not (tmp_path / "checkpoint_average.pt").exists()


def test_a_signal_while_the_network_collapses_keeps_the_good_checkpoint(data_dir: Path, tmp_path: Path) -> None:
    def stop(step: int) -> None:
        if step == 17:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"at step 18 of 100; it may be collapsing and is not saved, .* is kept"):
        train_collapsing(data_dir, tmp_path, 12, 999, stop, epochs=20)
    assert steps_of(tmp_path) == [10, 0]


def test_a_training_that_recovers_continues_and_its_bad_epochs_are_not_averaged(data_dir: Path, tmp_path: Path) -> None:
    train_collapsing(data_dir, tmp_path, 13, 32, epochs=8)
    assert steps_of(tmp_path) == [40, 0]
    network = load_checkpoint(tmp_path / "checkpoint_last.pt")["network"]
    average = load_checkpoint(tmp_path / "checkpoint_average.pt")["network"]
    assert not all(torch.equal(average[name], tensor) for name, tensor in network.items())
    train_collapsing(data_dir, tmp_path / "late", 33, 37, epochs=8)  # epoch 7, one of the last two, ends badly
    network = load_checkpoint(tmp_path / "late" / "checkpoint_last.pt")["network"]
    average = load_checkpoint(tmp_path / "late" / "checkpoint_average.pt")["network"]
    assert all(torch.equal(average[name], tensor) for name, tensor in network.items())
