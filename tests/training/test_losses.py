from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepspeaker.training import triplet_loss
from deepspeaker.training.losses import SoftmaxObjective, TripletObjective
from tests.training.tiny import figures_of


def brute_triplets(embeddings: Tensor, speakers: list[int], margin: float) -> tuple[Tensor, float, float, float]:
    """Loss, active share, mean positive and mean negative cosine, triplet by triplet."""
    losses, positives, negatives = [], [], []
    for anchor, anchor_speaker in enumerate(speakers):
        for positive, positive_speaker in enumerate(speakers):
            if anchor == positive or anchor_speaker != positive_speaker:
                continue
            hardest = None
            for negative, negative_speaker in enumerate(speakers):
                if negative_speaker != anchor_speaker:
                    cosine = (embeddings[anchor] * embeddings[negative]).sum()
                    if hardest is None or cosine > hardest:
                        hardest = cosine
            assert hardest is not None
            s_ap = (embeddings[anchor] * embeddings[positive]).sum()
            losses.append(torch.relu(hardest - s_ap + margin))
            positives.append(float(s_ap.detach()))
            negatives.append(float(hardest.detach()))
    count = len(losses)
    active = sum(float(loss.detach()) > 0 for loss in losses) / count
    return torch.stack(losses).mean(), active, sum(positives) / count, sum(negatives) / count


@pytest.mark.parametrize("seed", range(12))
def test_loss_figures_and_gradient_against_every_triplet(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch = int(torch.randint(4, 17, (), generator=generator))
    # Speaker 0 twice and speaker 9 once at least; the others as it happens, some with a single utterance.
    speakers = [0, 0, 9, *torch.randint(0, 5, (batch - 3,), generator=generator).tolist()]
    margin = [0.1, 0.1, 0.5, 1.0][seed % 4]
    raw = torch.randn(batch, 4, generator=generator, dtype=torch.float64)

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        leaf = x.clone().requires_grad_()
        return leaf, F.normalize(leaf, dim=1)

    leaf, embeddings = both(raw)
    ours = triplet_loss(embeddings, torch.tensor(speakers), margin)
    ours.loss.backward()
    brute_leaf, brute_embeddings = both(raw)
    loss, active, positive, negative = brute_triplets(brute_embeddings, speakers, margin)
    loss.backward()

    assert float(ours.loss.detach()) == pytest.approx(float(loss.detach()), abs=1e-12)
    assert float(ours.active) == pytest.approx(active, abs=1e-6)
    assert float(ours.positive) == pytest.approx(positive, abs=1e-12)
    assert float(ours.negative) == pytest.approx(negative, abs=1e-12)
    assert leaf.grad is not None
    assert brute_leaf.grad is not None
    torch.testing.assert_close(leaf.grad, brute_leaf.grad, rtol=0, atol=1e-12)


def test_gradient_against_finite_differences() -> None:
    speakers = torch.tensor([0, 1, 0, 1, 2, 0])
    raw = torch.randn(6, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: triplet_loss(F.normalize(x, dim=1), speakers, 0.7).loss, raw)


def test_the_order_of_the_batch_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = F.normalize(torch.randn(9, 5, generator=generator, dtype=torch.float64), dim=1)
    speakers = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 3])
    order = torch.randperm(9, generator=generator)
    one, other = triplet_loss(embeddings, speakers), triplet_loss(embeddings[order], speakers[order])
    assert float(one.loss) == pytest.approx(float(other.loss), abs=1e-12)
    assert [float(x) for x in one[1:]] == pytest.approx([float(x) for x in other[1:]], abs=1e-12)


def test_known_values() -> None:
    axes = torch.eye(2, dtype=torch.float64)
    apart = triplet_loss(axes[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1]))
    assert (float(apart.loss), apart.active, apart.positive, apart.negative) == (0.0, 0.0, 1.0, 0.0)
    together = triplet_loss(axes[[0, 0, 0, 0]], torch.tensor([0, 0, 1, 1]))
    assert float(together.loss) == pytest.approx(0.1)
    assert together.active == 1.0
    crossed = triplet_loss(axes[[0, 1, 0, 1]], torch.tensor([0, 0, 1, 1]))
    assert float(crossed.loss) == pytest.approx(1.1)


def test_a_batch_without_pairs_or_with_one_speaker_is_an_error() -> None:
    embeddings = F.normalize(torch.randn(4, 3), dim=1)
    for speakers in ([0, 1, 2, 3], [5, 5, 5, 5]):
        with pytest.raises(ValueError, match="two speakers and two utterances"):
            triplet_loss(embeddings, torch.tensor(speakers))


def test_triplet_objective_normalises_the_outputs_first() -> None:
    outputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(2)) * 30
    speakers = torch.tensor([0, 0, 1, 1, 2, 2])
    objective = TripletObjective(nn.Identity(), 0.2)
    loss, figures = objective(outputs, speakers, 0)[0], figures_of(objective, outputs, speakers, 0)
    expected, active, positive, negative = brute_triplets(F.normalize(outputs.double(), dim=1), speakers.tolist(), 0.2)
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-6)
    assert figures == pytest.approx(
        {
            "loss": float(expected),
            "active_triplets": active,
            "positive_cosine": positive,
            "negative_cosine": negative,
            "spread": 1 - float(F.normalize(outputs.double(), dim=1).mean(dim=0).square().sum()),
        },
        abs=1e-6,
    )


def test_softmax_objective_is_the_mean_cross_entropy_of_its_classifier() -> None:
    torch.manual_seed(0)
    objective = SoftmaxObjective(nn.Identity(), 4, 3)
    outputs, speakers = torch.randn(5, 4), torch.tensor([0, 2, 1, 1, 0])
    loss, figures = objective(outputs, speakers, 0)[0], figures_of(objective, outputs, speakers, 0)
    weight, bias = (parameter.detach().double() for parameter in objective.classifier.parameters())
    logits = outputs.double() @ weight.T + bias
    shares = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    expected = -sum(float(shares[row, speaker].log()) for row, speaker in enumerate(speakers)) / 5
    right = sum(int(shares[row].argmax()) == int(speaker) for row, speaker in enumerate(speakers)) / 5
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-6)
    assert figures == pytest.approx({"loss": expected, "accuracy": right}, abs=1e-6)


@pytest.mark.parametrize("head", ["additive_margin", "additive_angular_margin"])
@pytest.mark.parametrize(("scale", "margin"), [(7.0, 0.3), (30.0, 0.2), (64.0, 0.5)])
def test_the_margin_heads_against_their_formulas_written_out(head: str, scale: float, margin: float) -> None:
    """In float64, by angles: AM-softmax has s (cos t - m), ArcFace s cos(t + m) where t + m is below pi."""
    torch.manual_seed(3)
    objective = SoftmaxObjective(nn.Identity(), 4, 3, head, scale=scale, margin=margin).double()
    generator = torch.Generator().manual_seed(4)
    outputs = torch.randn(40, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    speakers = torch.randint(0, 3, (40,), generator=generator)
    loss, figures = objective(outputs, speakers, 0)[0], figures_of(objective, outputs, speakers, 0)
    (gradient,) = torch.autograd.grad(loss, outputs)
    w = objective.classifier.weight.detach().numpy()

    def written_out(x: np.ndarray) -> tuple[float, int, int]:
        losses, hits, beyond = [], 0, 0
        for row, speaker in zip(x, speakers.tolist(), strict=True):
            angles = [np.arccos(row @ other / np.sqrt(row @ row) / np.sqrt(other @ other)) for other in w]
            exponents = [scale * np.cos(angle) for angle in angles]
            hits += int(np.argmax(exponents)) == speaker
            if head == "additive_margin":
                exponents[speaker] = scale * (np.cos(angles[speaker]) - margin)
            elif angles[speaker] + margin < np.pi:
                exponents[speaker] = scale * np.cos(angles[speaker] + margin)
            else:  # a straight line in the cosine that goes on from -1 at the angle pi - margin
                beyond += 1
                exponents[speaker] = scale * (-1 - (np.cos(np.pi - margin) - np.cos(angles[speaker])))
            highest = max(exponents)
            total = highest + np.log(sum(np.exp(exponent - highest) for exponent in exponents))
            losses.append(total - exponents[speaker])
        return float(np.mean(losses)), hits, beyond

    x = outputs.detach().numpy()
    expected, hits, beyond = written_out(x)
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert figures["accuracy"] == pytest.approx(hits / 40)
    assert objective.classifier.bias is None
    if head == "additive_angular_margin" and margin == 0.5:
        assert beyond  # some of the rows lie there
    for row in range(0, 40, 5):
        for column in range(4):
            step = np.zeros_like(x)
            step[row, column] = 1e-6
            slope = (written_out(x + step)[0] - written_out(x - step)[0]) / 2e-6
            assert gradient[row, column].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)
