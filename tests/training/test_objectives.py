"""The objectives against their formulas, over several steps, and without waiting for the device."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepspeaker.config import Negatives
from deepspeaker.models import build_model
from deepspeaker.training import Objective, SoftmaxObjective, TripletObjective
from tests.training.tiny import all_triplets, metrics_of

SPEAKERS = torch.tensor([0, 0, 1, 1, 2, 2, 3])


def outputs_of(step: int) -> Tensor:
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64) * 30


def expected_loss(step: int, kind: Negatives, memory: Tensor | None = None, of: Tensor | None = None) -> float:
    triplets = all_triplets(F.normalize(outputs_of(step)), SPEAKERS, kind, memory, of)
    return float(torch.stack([torch.relu(s_an - s_ap + 0.3) for s_ap, s_an in triplets]).mean())


def test_triplet_objective_normalises_the_outputs_and_reports_the_batch() -> None:
    metrics = metrics_of(TripletObjective(nn.Identity(), 0.3), outputs_of(0), SPEAKERS, 0)
    embeddings = F.normalize(outputs_of(0))
    positives, negatives = torch.tensor(all_triplets(embeddings, SPEAKERS, "hardest")).double().T
    losses = torch.relu(negatives - positives + 0.3)
    assert metrics == pytest.approx(
        {
            "loss": float(losses.mean()),
            "active_triplets": float((losses > 0).double().mean()),
            "positive_cosine": float(positives.mean()),
            "negative_cosine": float(negatives.mean()),
            "spread": 1 - float(embeddings.mean(dim=0).square().sum()),
        },
        abs=1e-6,
    )


def test_early_negatives_apply_to_the_first_steps_only() -> None:
    objective = TripletObjective(nn.Identity(), 0.3, "hardest", early_negatives="semi-hard", early_steps=4)
    for step in (0, 3, 4, 9, 2):  # the choice is a function of the step, so a resumed training makes the same one
        assert expected_loss(step, "semi-hard") != pytest.approx(expected_loss(step, "hardest"), abs=1e-6)
        metrics = metrics_of(objective, outputs_of(step), SPEAKERS, step)
        kind: Negatives = "semi-hard" if step < 4 else "hardest"
        assert metrics["loss"] == pytest.approx(expected_loss(step, kind), abs=1e-12)


@pytest.mark.parametrize("size", [3, 7, 10, 30])
def test_cross_batch_memory_keeps_the_newest_embeddings_first(size: int) -> None:
    def objective_of() -> TripletObjective:
        return TripletObjective(nn.Identity(), 0.3, "hardest", cross_batch_memory=size, embedding_dim=5).double()

    objective = objective_of()
    kept: deque[tuple[Tensor, Tensor]] = deque(maxlen=size)
    for step in range(6):
        metrics = metrics_of(objective, outputs_of(step), SPEAKERS, step)
        memory, speakers = (torch.stack(column) for column in zip(*kept, strict=True)) if kept else (None, None)
        assert metrics["loss"] == pytest.approx(expected_loss(step, "hardest", memory, speakers), abs=1e-12)
        for row, speaker in zip(F.normalize(outputs_of(step)).flip(0), SPEAKERS.flip(0), strict=True):
            kept.appendleft((row, speaker))  # the end of the deque is dropped
        filled = objective.cross_batch_speakers >= 0
        assert objective.cross_batch_speakers[filled].tolist() == [int(speaker) for _, speaker in kept]
        torch.testing.assert_close(objective.cross_batch_embeddings[filled], torch.stack([row for row, _ in kept]))
    again = objective_of()
    again.load_state_dict(objective.state_dict())
    assert torch.equal(again(outputs_of(9), SPEAKERS, 9)[1], objective(outputs_of(9), SPEAKERS, 9)[1])


def test_softmax_objective_is_the_mean_cross_entropy_of_its_classifier() -> None:
    torch.manual_seed(0)
    objective = SoftmaxObjective(nn.Identity(), 4, 3)
    outputs, speakers = torch.randn(5, 4), torch.tensor([0, 2, 1, 1, 0])
    loss, metrics = objective(outputs, speakers, 0)[0], metrics_of(objective, outputs, speakers, 0)
    weight, bias = (parameter.detach().double() for parameter in objective.classifier.parameters())
    logits = outputs.double() @ weight.T + bias
    shares = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    expected = -sum(float(shares[row, speaker].log()) for row, speaker in enumerate(speakers)) / 5
    accuracy = sum(int(shares[row].argmax()) == int(speaker) for row, speaker in enumerate(speakers)) / 5
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-6)
    assert metrics == pytest.approx({"loss": expected, "accuracy": accuracy}, abs=1e-6)


@pytest.mark.parametrize("head", ["additive_margin", "additive_angular_margin"])
@pytest.mark.parametrize(("scale", "margin"), [(7.0, 0.3), (30.0, 0.2), (64.0, 0.5)])
def test_margin_heads_against_their_formulas(head: str, scale: float, margin: float) -> None:
    """In float64, by angles: AM-softmax has s (cos t - m), ArcFace s cos(t + m) where t + m is below pi."""
    torch.manual_seed(3)
    objective = SoftmaxObjective(nn.Identity(), 4, 3, head, scale=scale, margin=margin).double()
    generator = torch.Generator().manual_seed(4)
    outputs = torch.randn(40, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    speakers = torch.randint(0, 3, (40,), generator=generator)
    loss, metrics = objective(outputs, speakers, 0)[0], metrics_of(objective, outputs, speakers, 0)
    (gradient,) = torch.autograd.grad(loss, outputs)
    w = objective.classifier.weight.detach().numpy()

    def reference(x: np.ndarray) -> tuple[float, int, int]:
        losses, hits, beyond = [], 0, 0
        for row, speaker in zip(x, speakers.tolist(), strict=True):
            angles = [np.arccos(row @ other / np.sqrt(row @ row) / np.sqrt(other @ other)) for other in w]
            exponents = [scale * np.cos(angle) for angle in angles]
            hits += int(np.argmax(exponents)) == speaker
            if head == "additive_margin":
                exponents[speaker] = scale * (np.cos(angles[speaker]) - margin)
            elif angles[speaker] + margin < np.pi:
                exponents[speaker] = scale * np.cos(angles[speaker] + margin)
            else:  # a straight line in the cosine that continues from -1 at the angle pi - margin
                beyond += 1
                exponents[speaker] = scale * (-1 - (np.cos(np.pi - margin) - np.cos(angles[speaker])))
            highest = max(exponents)
            total = highest + np.log(sum(np.exp(exponent - highest) for exponent in exponents))
            losses.append(total - exponents[speaker])
        return float(np.mean(losses)), hits, beyond

    x = outputs.detach().numpy()
    expected, hits, beyond = reference(x)
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert metrics["accuracy"] == pytest.approx(hits / 40)
    assert objective.classifier.bias is None
    if head == "additive_angular_margin" and margin == 0.5:
        assert beyond  # some of the rows are on the straight line
    for row in range(0, 40, 5):
        for column in range(4):
            step = np.zeros_like(x)
            step[row, column] = 1e-6
            slope = (reference(x + step)[0] - reference(x - step)[0]) / 2e-6
            assert gradient[row, column].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    "name", ["affine", "additive_margin", "additive_angular_margin", "hardest", "semi-hard", "random"]
)
def test_forward_and_backward_never_wait_for_the_device(name: str) -> None:
    """On the meta device tensors have no values, so reading one, as ``float(loss)`` does, fails."""
    network = build_model(7, channels=[3, 4], blocks=1, embedding_dim=6)
    objective: Objective
    if name.startswith("a"):
        objective = SoftmaxObjective(network, 6, 4, name)
    else:
        objective = TripletObjective(network, 0.1, name, cross_batch_memory=10, embedding_dim=6)  # type: ignore[arg-type]
    objective.to("meta")
    objective.outputs = network.__call__  # type: ignore[method-assign]  # meta has no autocast
    for step in range(3):
        loss, metrics = objective(torch.randn(7, 12, 7, device="meta"), SPEAKERS, step)
        loss.backward()
        assert (loss.shape, metrics.shape, metrics.dtype) == ((), (len(objective.metrics),), torch.float64)
    assert all(parameter.grad is not None for parameter in objective.parameters())
    with pytest.raises((RuntimeError, NotImplementedError)):
        float(loss.detach())
