"""What the triplet objective does over the steps: the negatives' schedule and the history of embeddings."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

from deepspeaker.models import build_model
from deepspeaker.training.losses import Negatives, Objective, SoftmaxObjective, TripletObjective
from tests.training.tiny import figures_of

SPEAKERS = torch.tensor([0, 0, 1, 1, 2, 2, 3])


def outputs_of(step: int) -> torch.Tensor:
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def mined(step: int, kind: Negatives, margin: float, past: list[tuple[np.ndarray, int]] | None = None) -> float:
    """The loss of a step, triplet by triplet; ``past`` has further candidates with their speakers."""
    rows = outputs_of(step).numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    candidates = [*zip(rows, SPEAKERS.tolist(), strict=True), *(past or [])]
    losses = []
    for anchor, (one, speaker) in enumerate(candidates[:7]):
        for positive, (other, its) in enumerate(candidates[:7]):
            if anchor == positive or speaker != its:
                continue
            negatives = [float(one @ vector) for vector, whose in candidates if whose != speaker]
            if kind == "semi-hard":
                easier = [cosine for cosine in negatives if cosine < one @ other]
                negative = max(easier) if easier else min(negatives)
            else:
                negative = max(negatives)
            losses.append(max(0.0, negative - float(one @ other) + margin))
    return float(np.mean(losses))


def test_early_negatives_hold_for_the_first_steps_and_no_longer() -> None:
    objective = TripletObjective(nn.Identity(), 0.3, "hardest", early_negatives="semi-hard", early_steps=4)
    for step in (0, 3, 4, 9, 2):  # a function of the step: a resumed training chooses as an undisturbed one
        kind: Negatives = "semi-hard" if step < 4 else "hardest"
        assert mined(step, "semi-hard", 0.3) != pytest.approx(mined(step, "hardest", 0.3), abs=1e-6)
        figures = figures_of(objective, outputs_of(step), SPEAKERS, step)
        assert figures["loss"] == pytest.approx(mined(step, kind, 0.3), abs=1e-12)


@pytest.mark.parametrize("size", [3, 7, 10, 30])
def test_history_has_the_newest_first_and_forgets_the_oldest(size: int) -> None:
    objective = TripletObjective(nn.Identity(), 0.3, "hardest", history=size, embedding_dim=5).double()
    kept: deque[tuple[np.ndarray, int]] = deque(maxlen=size)
    for step in range(6):
        figures = figures_of(objective, outputs_of(step), SPEAKERS, step)
        assert figures["loss"] == pytest.approx(mined(step, "hardest", 0.3, list(kept)), abs=1e-12)
        rows = torch.nn.functional.normalize(outputs_of(step)).numpy()
        for row, speaker in zip(rows[::-1], SPEAKERS.tolist()[::-1], strict=True):
            kept.appendleft((row, speaker))  # the end of the deque falls out
        known = objective.history_speakers >= 0
        assert objective.history_speakers[known].tolist() == [speaker for _, speaker in kept]
        np.testing.assert_allclose(objective.history_embeddings[known], np.stack([row for row, _ in kept]), atol=1e-12)
    again = TripletObjective(nn.Identity(), 0.3, "hardest", history=size, embedding_dim=5).double()
    again.load_state_dict(objective.state_dict())
    assert torch.equal(again(outputs_of(9), SPEAKERS, 9)[1], objective(outputs_of(9), SPEAKERS, 9)[1])


@pytest.mark.parametrize(
    "name", ["affine", "additive_margin", "additive_angular_margin", "hardest", "semi-hard", "random"]
)
def test_forward_and_backward_need_no_value_of_the_device(name: str) -> None:
    """On the meta device tensors have no values: what waited for one, as ``float(loss)`` does, would fail."""
    network = build_model(7, channels=[3, 4], blocks=1, embedding_dim=6)
    objective: Objective
    if name.startswith("a"):
        objective = SoftmaxObjective(network, 6, 4, name)
    else:
        objective = TripletObjective(network, 0.1, name, history=10, embedding_dim=6)  # type: ignore[arg-type]
    objective.to("meta")
    objective.outputs = network.__call__  # type: ignore[method-assign]  # meta has no autocast
    for step in range(3):
        loss, figures = objective(torch.randn(7, 12, 7, device="meta"), SPEAKERS, step)
        loss.backward()
        assert (loss.shape, figures.shape, figures.dtype) == ((), (len(objective.figures),), torch.float64)
    assert all(parameter.grad is not None for parameter in objective.parameters())
    with pytest.raises((RuntimeError, NotImplementedError)):
        float(loss.detach())
