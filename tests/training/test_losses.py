"""The triplet loss and the choice of negatives, against loops over all triplets."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deepspeaker.config import Negatives
from deepspeaker.training import TripletObjective, choose_negatives, triplet_loss
from tests.training.tiny import all_triplets


def batch_of(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embeddings and speakers of a batch and of a memory."""
    generator = torch.Generator().manual_seed(seed)
    size = int(torch.randint(5, 20, (), generator=generator))
    # Speaker 0 has two utterances at least and speaker 9 one; some of the others have a single one.
    speakers = torch.cat([torch.tensor([0, 0, 9]), torch.randint(0, 5, (size - 3,), generator=generator)])
    memory_speakers = torch.randint(0, 7, (int(torch.randint(0, 12, (), generator=generator)),), generator=generator)
    embeddings = F.normalize(torch.randn(size, 3, generator=generator, dtype=torch.float64), dim=1)
    memory = F.normalize(torch.randn(len(memory_speakers), 3, generator=generator, dtype=torch.float64), dim=1)
    if has_ties(seed):
        embeddings = embeddings[torch.randint(0, 3, (size,), generator=generator)]
    return embeddings, speakers, memory, memory_speakers


def has_ties(seed: int) -> bool:
    return seed % 3 == 0


def pairs_of(speakers: Tensor) -> tuple[Tensor, Tensor]:
    pair = (speakers[:, None] == speakers[None, :]) & ~torch.eye(len(speakers), dtype=torch.bool)
    anchor, positive = pair.nonzero(as_tuple=True)
    return anchor, positive


@pytest.mark.parametrize("kind", ["hardest", "semi-hard"])
@pytest.mark.parametrize("seed", range(30))
def test_negatives_against_all_triplets(kind: Negatives, seed: int) -> None:
    embeddings, speakers, memory, memory_speakers = batch_of(seed)
    expected = torch.tensor([s_an for _, s_an in all_triplets(embeddings, speakers, kind, memory, memory_speakers)])
    anchor, positive = pairs_of(speakers)
    # In steps of 2^-40, so that equal embeddings have equal cosines here as in the loop.
    cosine = (embeddings @ torch.cat([embeddings, memory]).T * 2**40).round() / 2**40
    other = speakers[:, None] != torch.cat([speakers, memory_speakers])[None, :]
    chosen = choose_negatives(kind, cosine, other, anchor, cosine[anchor, positive])
    assert other[anchor, chosen].all()
    torch.testing.assert_close(cosine[anchor, chosen], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["hardest", "semi-hard"])
@pytest.mark.parametrize("seed", [seed for seed in range(30) if not has_ties(seed)])
def test_loss_metrics_and_gradient_against_all_triplets(kind: Negatives, seed: int) -> None:
    margin = [0.1, 0.2, 0.5, 1.0][seed % 4]
    raw, speakers, memory, memory_speakers = batch_of(seed)
    leaf, reference = raw.clone().requires_grad_(), raw.clone().requires_grad_()
    embeddings = F.normalize(leaf, dim=1)
    ours = triplet_loss(embeddings, speakers, margin, kind, memory=memory, memory_speakers=memory_speakers)
    ours.loss.backward()
    triplets = all_triplets(F.normalize(reference, dim=1), speakers, kind, memory, memory_speakers)
    positives, negatives = (torch.stack(cosines) for cosines in zip(*triplets, strict=True))
    losses = torch.relu(negatives - positives + margin)
    losses.mean().backward()
    expected = (losses.mean(), (losses > 0).double().mean(), positives.mean(), negatives.mean())
    assert [value.item() for value in ours] == pytest.approx([value.item() for value in expected], abs=1e-6)
    assert ours.loss.item() == pytest.approx(expected[0].item(), abs=1e-12)
    torch.testing.assert_close(leaf.grad, reference.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["hardest", "semi-hard"])
@pytest.mark.parametrize("seed", range(10))
def test_only_the_sampled_pairs_count_and_no_negative_is_of_the_speaker(kind: Negatives, seed: int) -> None:
    """Anchor, positive, anchor, positive and so on; speakers have several pairs."""
    generator = torch.Generator().manual_seed(seed)
    speakers = torch.cat([torch.tensor([0, 1]), torch.randint(0, 3, (5,), generator=generator)]).repeat_interleave(2)
    raw = torch.randn(14, 3, generator=generator, dtype=torch.float64)
    leaf, reference = raw.clone().requires_grad_(), raw.clone().requires_grad_()
    objective = TripletObjective(torch.nn.Identity(), 0.3, kind, sampled_pairs=True)
    loss, _ = objective(leaf, speakers, 0)
    loss.backward()
    rows, losses = F.normalize(reference, dim=1), []
    for a in range(0, 14, 2):
        s_ap = rows[a] @ rows[a + 1]
        found = [rows[a] @ rows[n] for n in range(14) if speakers[n] != speakers[a]]
        easier = [s_an for s_an in found if kind == "hardest" or s_an < s_ap]
        losses.append(torch.relu((max(easier) if easier else min(found)) - s_ap + 0.3))
    expected = torch.stack(losses).mean()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    torch.testing.assert_close(leaf.grad, reference.grad, rtol=0, atol=1e-12)


def test_random_negatives_are_of_other_speakers_equally_likely_and_decided_by_the_generator() -> None:
    embeddings, speakers, memory, memory_speakers = batch_of(4)
    anchor, positive = pairs_of(speakers)
    cosine = embeddings @ torch.cat([embeddings, memory]).T
    other = speakers[:, None] != torch.cat([speakers, memory_speakers])[None, :]

    def choose(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return choose_negatives("random", cosine, other, anchor, cosine[anchor, positive], generator)

    counts = torch.zeros(len(anchor), cosine.shape[1])
    rounds = 4000
    for seed in range(rounds):
        chosen = choose(seed)
        assert other[anchor, chosen].all()
        counts[torch.arange(len(anchor)), chosen] += 1
    assert torch.equal(choose(rounds - 1), chosen)
    expected = other[anchor] / other[anchor].sum(dim=1, keepdim=True)
    assert float((counts / rounds - expected).abs().max()) < 0.05


@pytest.mark.parametrize("kind", ["hardest", "semi-hard", "random"])
def test_gradient_against_finite_differences(kind: Negatives) -> None:
    speakers = torch.tensor([0, 1, 0, 1, 2, 0])
    raw = torch.randn(6, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)

    def loss(x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return triplet_loss(F.normalize(x, dim=1), speakers, 0.7, kind, generator=generator).loss

    assert torch.autograd.gradcheck(loss, raw)


def test_semi_hard_uses_the_lowest_cosine_where_all_are_harder() -> None:
    axes = torch.eye(3, dtype=torch.float64)
    embeddings = torch.stack([axes[0], axes[1], axes[0], F.normalize(axes[0] + axes[2], dim=0)])
    result = triplet_loss(embeddings, torch.tensor([0, 0, 1, 1]), 0.1, "semi-hard")
    # Anchor 0 (positive at 0) has negatives at 1 and 0.71; anchor 1 has both at 0, which is not below its positive.
    # Anchors 2 and 3 (positive at 0.71) have a negative at 0, which is below.
    assert float(result.negative) == pytest.approx((2**-0.5 + 0 + 0 + 0) / 4, abs=1e-12)


def test_the_order_of_the_batch_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = F.normalize(torch.randn(9, 5, generator=generator, dtype=torch.float64), dim=1)
    speakers = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 3])
    order = torch.randperm(9, generator=generator)
    one, other = triplet_loss(embeddings, speakers), triplet_loss(embeddings[order], speakers[order])
    assert [float(x) for x in one] == pytest.approx([float(x) for x in other], abs=1e-12)


def test_known_values() -> None:
    axes, speakers = torch.eye(2, dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    apart = triplet_loss(axes[[0, 0, 1, 1]], speakers)
    assert [float(x) for x in apart] == [0.0, 0.0, 1.0, 0.0]
    together = triplet_loss(axes[[0, 0, 0, 0]], speakers)
    assert (float(together.loss), float(together.active)) == (pytest.approx(0.1), 1.0)
    assert float(triplet_loss(axes[[0, 1, 0, 1]], speakers).loss) == pytest.approx(1.1)


def test_a_batch_without_pairs_or_with_one_speaker_is_an_error() -> None:
    embeddings = F.normalize(torch.randn(4, 3), dim=1)
    for speakers in ([0, 1, 2, 3], [5, 5, 5, 5]):
        with pytest.raises(ValueError, match="two speakers and two utterances"):
            triplet_loss(embeddings, torch.tensor(speakers))
