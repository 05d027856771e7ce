"""What happens to a training when values, files or settings are wrong."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepspeaker.config import Optimizer
from deepspeaker.features import FeatureIndex
from deepspeaker.kaldi import ArkWriter
from deepspeaker.models import load_checkpoint, save_checkpoint
from deepspeaker.training import DivergedError, SoftmaxObjective, TripletObjective, all_finite
from tests.training.tiny import assert_same_training, index_of, kill_me, refusal, train_once


def times(factor: float, at: int, number: int | None = None) -> Callable[..., Any]:
    """A ``forward`` of the softmax objective that multiplies the loss of one step, then sends a signal."""
    forward = SoftmaxObjective.forward

    def changed(self: SoftmaxObjective, features: torch.Tensor, speakers: torch.Tensor, step: int) -> Any:
        loss, metrics = forward(self, features, speakers, step)
        if step == at:
            loss = loss * factor  # affects the gradient, but not the metrics
            if number is not None:
                kill_me(number)
        return loss, metrics

    return changed


def assert_good(folder: Path, step: int, names: tuple[str, ...] = ("last", "best")) -> None:
    for name in names:
        content = load_checkpoint(folder / f"checkpoint_{name}.pt")
        assert all(bool(tensor.isfinite().all()) for tensor in content["network"].values())
    assert load_checkpoint(folder / "checkpoint_last.pt")["step"] == step


@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize(("at", "found"), [(7, 8), (9, 10)])  # within the second epoch, at its last step
def test_a_gradient_that_is_not_finite_becomes_no_checkpoint(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, clip: float, at: int, found: int
) -> None:
    monkeypatch.setattr(SoftmaxObjective, "forward", times(factor, at))
    rate = Optimizer(learning_rate=0.01, gradient_clip=clip)
    line = refusal(lambda: train_once(data_dir, tmp_path, dev=False, optimizer=rate), DivergedError)
    assert f"the gradient of step {found} is not a finite number; lower softmax.optimizer.learning_rate" in line
    assert f"({tmp_path}/checkpoint_last.pt is kept as it was before)" in line
    assert_good(tmp_path, 5)


def test_a_signal_after_such_a_gradient_does_not_save_it(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SoftmaxObjective, "forward", times(float("nan"), 7, signal.SIGTERM))
    assert "the gradient of step 8" in refusal(lambda: train_once(data_dir, tmp_path), DivergedError)
    assert_good(tmp_path, 5)
    monkeypatch.undo()
    train_once(data_dir, tmp_path)  # the kept checkpoint can be resumed
    assert_good(tmp_path, 20, ("last", "best", "average"))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("steps_per_epoch", [1, 4])
def test_weights_that_overflow_become_no_checkpoint(
    data_dir: Path, tmp_path: Path, name: str, steps_per_epoch: int
) -> None:
    rate = Optimizer(name=name, learning_rate=1e30)
    line = refusal(
        lambda: train_once(data_dir, tmp_path, dev=False, optimizer=rate, steps_per_epoch=steps_per_epoch),
        DivergedError,
    )
    assert re.search(r"(loss|weights|gradient) .* finite number.*\(no checkpoint was saved yet\)", line)
    assert not list(tmp_path.glob("checkpoint_*"))


def test_a_loss_that_is_not_finite_stops_at_its_step(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TripletObjective.forward

    def overflowing(self: TripletObjective, features: torch.Tensor, speakers: torch.Tensor, step: int) -> Any:
        return forward(self, features * (float("nan") if step == 12 else 1), speakers, step)

    monkeypatch.setattr(TripletObjective, "forward", overflowing)
    line = refusal(lambda: train_once(data_dir, tmp_path, "triplet"), DivergedError)
    assert "the loss of step 13 is not a finite number; lower triplet.optimizer.learning_rate" in line
    assert_good(tmp_path, 10)


def test_finite_values() -> None:
    good = torch.tensor([1e18, -3.0])
    assert all_finite([good, torch.tensor([2**62])])
    assert all_finite([])
    for bad in (float("nan"), float("inf"), -float("inf"), 3e29):
        assert not all_finite([good, torch.tensor([[0.0, bad]])])


def test_a_checkpoint_without_the_state_of_a_training_is_refused(data_dir: Path, tmp_path: Path) -> None:
    train_once(data_dir, tmp_path, epochs=1)
    best = load_checkpoint(tmp_path / "checkpoint_best.pt")
    save_checkpoint(tmp_path / "checkpoint_last.pt", best)
    line = refusal(lambda: train_once(data_dir, tmp_path, epochs=1))
    assert line.startswith(f"{tmp_path}/checkpoint_last.pt: holds no training to continue; remove {tmp_path}")


@pytest.mark.parametrize("section", ["softmax", "triplet"])
def test_a_truncated_ark_is_named_and_the_last_checkpoint_is_resumed(
    tmp_path: Path, write_features: Callable[..., Path], section: str
) -> None:
    write_features(tmp_path / "train_nosil", 8, 4, prefix="t")
    ark = tmp_path / "train_nosil" / "feats.ark"
    whole = ark.read_bytes()
    more: dict[str, Any] = {"accumulate": 2, "epochs": 3} | ({"cross_batch_memory": 12} if section == "triplet" else {})

    def truncate(number: int) -> None:
        if number == 14:  # in the second epoch
            os.truncate(ark, len(whole) // 2)

    train_once(tmp_path, tmp_path / "straight", section, dev=False, **more)
    broken = tmp_path / "broken"
    line = refusal(lambda: train_once(tmp_path, broken, section, dev=False, before=truncate, **more))
    assert re.search(r"train_nosil/feats\.scp: t0\d-0\d: ", line)
    assert load_checkpoint(broken / "checkpoint_last.pt")["step"] == 5
    ark.write_bytes(whole)
    train_once(tmp_path, broken, section, dev=False, **more)
    assert_same_training(tmp_path / "straight", broken)


def spoil(folder: Path, number: int, frames: slice) -> str:
    """Put a NaN into these frames of an utterance, and return its id."""
    index = FeatureIndex(folder)
    rows = [index.read(utterance).copy() for utterance in range(len(index))]
    names = index.utterances
    index.close()
    index_of.cache_clear()  # the file is replaced
    rows[number][frames, 3] = np.nan
    with ArkWriter(folder / "feats.ark", folder / "feats.scp") as writer:
        for name, values in zip(names, rows, strict=True):
            writer.write(name, values)
    return names[number]


@pytest.mark.parametrize("section", ["softmax", "triplet"])
def test_a_training_utterance_with_a_nan_is_named(
    tmp_path: Path, write_features: Callable[..., Path], section: str
) -> None:
    write_features(tmp_path / "train_nosil", 8, 4, prefix="t")
    name = spoil(tmp_path / "train_nosil", 13, slice(None))
    line = refusal(lambda: train_once(tmp_path, tmp_path / "training", section, dev=False))
    assert line.startswith(f"{tmp_path}/train_nosil/feats.scp: {name} has values that are not finite numbers; make")


def test_a_development_utterance_with_a_nan_is_named_before_training_begins(
    tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    write_features(tmp_path / "train_nosil", 8, 4, prefix="t")
    write_features(tmp_path / "dev_nosil", 3, 4, prefix="d")
    name = spoil(tmp_path / "dev_nosil", 7, slice(0, 1))
    line = refusal(lambda: train_once(tmp_path, tmp_path / "training", before=lambda step: pytest.fail("trained")))
    assert line.startswith(f"{tmp_path}/dev_nosil/feats.scp: {name} has values that are not finite numbers; make its")
    assert not (tmp_path / "training").exists()
