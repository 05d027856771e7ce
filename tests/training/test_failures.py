"""What becomes of a training when values, files or settings are not what they should be."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deepspeaker.config import Optimiser
from deepspeaker.errors import InputError
from deepspeaker.models import load_checkpoint, save_checkpoint
from deepspeaker.training import DivergedError
from deepspeaker.training.collapse import all_finite
from deepspeaker.training.objectives import SoftmaxObjective, TripletObjective
from tests.training.tiny import train_once


def refusal(work: Callable[[], None], kind: type[InputError] = InputError) -> str:
    with pytest.raises(kind) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def times(factor: float, at: int, number: int | None = None) -> Callable[..., Any]:
    """The softmax objective, its loss multiplied at one step; then a signal ``number`` to this process."""
    forward = SoftmaxObjective.forward

    def changed(self: SoftmaxObjective, outputs: torch.Tensor, speakers: torch.Tensor, step: int) -> Any:
        loss, figures = forward(self, outputs, speakers, step)
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
    rate = Optimiser(learning_rate=0.01, gradient_clip=clip)
    said = refusal(lambda: train_once(data_dir, tmp_path, dev=False, optimiser=rate), DivergedError)
    assert f"the gradient of step {found} is not a finite number; lower softmax.optimiser.learning_rate" in said
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
    rate = Optimiser(name=name, learning_rate=1e30)
    said = refusal(
        lambda: train_once(data_dir, tmp_path, dev=False, optimiser=rate, steps_per_epoch=steps_per_epoch),
        DivergedError,
    )
    assert re.search(r"(loss|weights|gradient) .*not (a )?finite number.*\(no checkpoint was saved yet\)", said)
    assert not list(tmp_path.glob("checkpoint_*"))


def test_a_loss_that_is_not_finite_stops_at_its_step(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TripletObjective.forward

    def overflowing(self: TripletObjective, outputs: torch.Tensor, speakers: torch.Tensor, step: int) -> Any:
        return forward(self, outputs * (float("nan") if step == 12 else 1), speakers, step)

    monkeypatch.setattr(TripletObjective, "forward", overflowing)
    said = refusal(lambda: train_once(data_dir, tmp_path, "triplet"), DivergedError)
    assert "the loss of step 13 is not a finite number; lower triplet.optimiser.learning_rate" in said
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
    assert said.startswith(f"{tmp_path}/checkpoint_last.pt: holds no training to go on with; remove {tmp_path}")
