"""What becomes of a training when values, files or settings are not what they should be."""

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
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.kaldi import ArkWriter
from deepspeaker.models import load_checkpoint, save_checkpoint
from deepspeaker.training import DivergedError, SoftmaxObjective, TripletObjective, all_finite
from tests.training.tiny import assert_same_training, index_of, train_once


def refusal(work: Callable[[], None], kind: type[InputError] = InputError) -> str:
    with pytest.raises(kind) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def times(factor: float, at: int, number: int | None = None) -> Callable[..., Any]:
    """The softmax objective, its loss multiplied at one step; then a signal ``number`` to this process."""
    forward = SoftmaxObjective.forward

    def changed(self: SoftmaxObjective, features: torch.Tensor, speakers: torch.Tensor, step: int) -> Any:
        loss, figures = forward(self, features, speakers, step)
        if step == at:
            loss = loss * factor  # the gradient; the figures are as they were
            if number is not None:
                os.kill(os.getpid(), number)
        return loss, figures

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
    said = refusal(lambda: train_once(data_dir, tmp_path, dev=False, optimizer=rate), DivergedError)
    assert f"the gradient of step {found} is not a finite number; lower softmax.optimizer.learning_rate" in said
    assert f"({tmp_path}/checkpoint_last.pt is kept as it was before)" in said
    assert_good(tmp_path, 5)


def test_a_signal_after_such_a_gradient_does_not_save_it(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SoftmaxObjective, "forward", times(float("nan"), 7, signal.SIGTERM))
    assert "the gradient of step 8" in refusal(lambda: train_once(data_dir, tmp_path), DivergedError)
    assert_good(tmp_path, 5)
    monkeypatch.undo()
    train_once(data_dir, tmp_path)  # what was kept can be gone on with
    assert_good(tmp_path, 20, ("last", "best", "average"))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("steps_per_epoch", [1, 4])
def test_weights_beyond_all_bounds_become_no_checkpoint(
    data_dir: Path, tmp_path: Path, name: str, steps_per_epoch: int
) -> None:
    rate = Optimizer(name=name, learning_rate=1e30)
    said = refusal(
        lambda: train_once(data_dir, tmp_path, dev=False, optimizer=rate, steps_per_epoch=steps_per_epoch),
        DivergedError,
    )
    assert re.search(r"(loss|weights|gradient) .* finite number.*\(no checkpoint was saved yet\)", said)
    assert not list(tmp_path.glob("checkpoint_*"))


def test_a_loss_that_is_not_finite_stops_at_its_step(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TripletObjective.forward

    def overflowing(self: TripletObjective, features: torch.Tensor, speakers: torch.Tensor, step: int) -> Any:
        return forward(self, features * (float("nan") if step == 12 else 1), speakers, step)

    monkeypatch.setattr(TripletObjective, "forward", overflowing)
    said = refusal(lambda: train_once(data_dir, tmp_path, "triplet"), DivergedError)
    assert "the loss of step 13 is not a finite number; lower triplet.optimizer.learning_rate" in said
    assert_good(tmp_path, 10)


def test_what_counts_as_finite() -> None:
    good = torch.tensor([1e18, -3.0])
    assert all_finite([good, torch.tensor([2**62])])
    assert all_finite([])
    for bad in (float("nan"), float("inf"), -float("inf"), 3e29):
        assert not all_finite([good, torch.tensor([[0.0, bad]])])


def test_a_checkpoint_that_is_not_one_to_go_on_with_is_refused(data_dir: Path, tmp_path: Path) -> None:
    train_once(data_dir, tmp_path, epochs=1)
    best = load_checkpoint(tmp_path / "checkpoint_best.pt")
    save_checkpoint(tmp_path / "checkpoint_last.pt", best)
    said = refusal(lambda: train_once(data_dir, tmp_path, epochs=1))
    assert said.startswith(f"{tmp_path}/checkpoint_last.pt: holds no training to continue; remove {tmp_path}")


@pytest.mark.parametrize("section", ["softmax", "triplet"])
def test_an_ark_that_breaks_is_named_and_what_was_saved_last_is_resumed(
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
    said = refusal(lambda: train_once(tmp_path, broken, section, dev=False, before=truncate, **more))
    assert re.search(r"train_nosil/feats\.scp: t0\d-0\d: ", said)
    assert load_checkpoint(broken / "checkpoint_last.pt")["step"] == 5
    ark.write_bytes(whole)
    train_once(tmp_path, broken, section, dev=False, **more)
    assert_same_training(tmp_path / "straight", broken)


def spoil(folder: Path, number: int, frames: slice) -> str:
    """Puts a NaN into these frames of an utterance; gives its id."""
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
def test_a_training_utterance_with_values_that_are_not_finite_is_named(
    tmp_path: Path, write_features: Callable[..., Path], section: str
) -> None:
    write_features(tmp_path / "train_nosil", 8, 4, prefix="t")
    name = spoil(tmp_path / "train_nosil", 13, slice(None))
    said = refusal(lambda: train_once(tmp_path, tmp_path / "training", section, dev=False))
    assert said.startswith(f"{tmp_path}/train_nosil/feats.scp: {name} has values that are not finite numbers; make")


def test_a_development_utterance_with_such_values_is_named_before_anything_is_trained(
    tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    write_features(tmp_path / "train_nosil", 8, 4, prefix="t")
    write_features(tmp_path / "dev_nosil", 3, 4, prefix="d")
    name = spoil(tmp_path / "dev_nosil", 7, slice(0, 1))
    said = refusal(lambda: train_once(tmp_path, tmp_path / "training", before=lambda step: pytest.fail("trained")))
    assert said.startswith(f"{tmp_path}/dev_nosil/feats.scp: {name} has values that are not finite numbers; make its")
    assert not (tmp_path / "training").exists()
