"""The choice of negatives against loops over all triplets, and the losses made of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deepspeaker.training import triplet_loss
from deepspeaker.training.losses import choose_negatives


def batch_of(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embeddings and speakers of a batch, and of a history."""
    generator = torch.Generator().manual_seed(seed)
    size = int(torch.randint(5, 20, (), generator=generator))
    speakers = torch.cat([torch.tensor([0, 0, 9]), torch.randint(0, 5, (size - 3,), generator=generator)])
    history_speakers = torch.randint(0, 7, (int(torch.randint(0, 12, (), generator=generator)),), generator=generator)
    embeddings = F.normalize(torch.randn(size, 3, generator=generator, dtype=torch.float64), dim=1)
    history = F.normalize(torch.randn(len(history_speakers), 3, generator=generator, dtype=torch.float64), dim=1)
    if seed % 3 == 0:  # ties: embeddings that come twice
        embeddings = embeddings[torch.randint(0, 3, (size,), generator=generator)]
    return embeddings, speakers, history, history_speakers


def brute(kind: str, embeddings: Tensor, speakers: Tensor, history: Tensor, history_speakers: Tensor) -> list[float]:
    """The cosine of the negative of every anchor-positive pair, in O(B^3) steps."""
    chosen = []
    candidates = list(zip(embeddings, speakers.tolist(), strict=True))
    candidates += zip(history, history_speakers.tolist(), strict=True)
    for a, anchor in enumerate(embeddings):
        for p, positive in enumerate(embeddings):
            if a == p or speakers[a] != speakers[p]:
                continue
            s_ap = float(anchor @ positive)
            best: float | None = None
            lowest = float("inf")
            for negative, speaker in candidates:
                if speaker == int(speakers[a]):
                    continue
                s_an = float(anchor @ negative)
                lowest = min(lowest, s_an)
                allowed = kind == "hardest" or s_an < s_ap - 1e-12
                if allowed and (best is None or s_an > best):
                    best = s_an
            chosen.append(lowest if best is None else best)
    return chosen


def pairs_of(speakers: Tensor) -> tuple[Tensor, Tensor]:
    pair = (speakers[:, None] == speakers[None, :]) & ~torch.eye(len(speakers), dtype=torch.bool)
    anchor, positive = pair.nonzero(as_tuple=True)
    return anchor, positive


@pytest.mark.parametrize("kind", ["hardest", "semi-hard"])
@pytest.mark.parametrize("seed", range(30))
def test_hardest_and_semi_hard_against_all_triplets(kind: str, seed: int) -> None:
    embeddings, speakers, history, history_speakers = batch_of(seed)
    expected = torch.tensor(brute(kind, embeddings, speakers, history, history_speakers), dtype=torch.float64)
    anchor, positive = pairs_of(speakers)
    # In steps of 2^-40, so that equal embeddings have equal cosines here as in the loop.
    cosine = (embeddings @ torch.cat([embeddings, history]).T * 2**40).round() / 2**40
    other = speakers[:, None] != torch.cat([speakers, history_speakers])[None, :]
    s_ap = cosine[anchor, positive]
    chosen = choose_negatives(kind, cosine, other, anchor, s_ap, None)
    assert other[anchor, chosen].all()
    torch.testing.assert_close(cosine[anchor, chosen], expected, rtol=0, atol=1e-9)

    loss = triplet_loss(embeddings, speakers, 0.2, kind, history=history, history_speakers=history_speakers)
    positives = (embeddings @ embeddings.T)[anchor, positive]
    by_hand = (expected - positives + 0.2).clamp(min=0)
    if seed % 3:  # among ties the rounding of the cosines decides which one is below the positive
        assert float(loss.loss) == pytest.approx(float(by_hand.mean()), abs=1e-9)
        assert float(loss.negative) == pytest.approx(float(expected.mean()), abs=1e-9)


def test_random_negatives_are_of_other_speakers_each_as_likely_and_a_function_of_the_generator() -> None:
    embeddings, speakers, history, history_speakers = batch_of(4)
    anchor, positive = pairs_of(speakers)
    cosine = embeddings @ torch.cat([embeddings, history]).T
    other = speakers[:, None] != torch.cat([speakers, history_speakers])[None, :]
    counts = torch.zeros(len(anchor), cosine.shape[1])
    rounds = 4000
    for seed in range(rounds):
        generator = torch.Generator().manual_seed(seed)
        chosen = choose_negatives("random", cosine, other, anchor, cosine[anchor, positive], generator)
        assert other[anchor, chosen].all()
        counts[torch.arange(len(anchor)), chosen] += 1
    again = choose_negatives(
        "random", cosine, other, anchor, cosine[anchor, positive], torch.Generator().manual_seed(rounds - 1)
    )
    assert torch.equal(again, chosen)
    expected = other[anchor] / other[anchor].sum(dim=1, keepdim=True)
    assert float((counts / rounds - expected).abs().max()) < 0.05


@pytest.mark.parametrize("kind", ["hardest", "semi-hard", "random"])
def test_the_gradient_of_each_choice_against_finite_differences(kind: str) -> None:
    speakers = torch.tensor([0, 1, 0, 1, 2, 0])
    raw = torch.randn(6, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)

    def loss(x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return triplet_loss(F.normalize(x, dim=1), speakers, 0.7, kind, generator=generator).loss  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(loss, raw)


def test_semi_hard_takes_the_lowest_where_all_are_harder() -> None:
    axes = torch.eye(3, dtype=torch.float64)
    embeddings = torch.stack([axes[0], axes[1], axes[0], F.normalize(axes[0] + axes[2], dim=0)])
    result = triplet_loss(embeddings, torch.tensor([0, 0, 1, 1]), 0.1, "semi-hard")
    # Of anchor 0 (positive at 0) the negatives stand at 1 and 0.71, of anchor 1 both at 0, not below its positive;
    # of anchors 2 and 3 (positive at 0.71) the negative at 0 is below.
    assert float(result.negative) == pytest.approx((2**-0.5 + 0 + 0 + 0) / 4, abs=1e-12)
