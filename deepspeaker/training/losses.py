"""Triplet loss on cosine similarity, and what its training is watched by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TripletLoss(NamedTuple):
    """The loss of a batch and the figures that show how training goes."""

    loss: Tensor  # scalar, with gradient
    active: float  # share of triplets whose loss is above zero
    positive: float  # mean cosine of the anchor-positive pairs
    negative: float  # mean cosine of the anchors with their chosen negatives


def triplet_loss(embeddings: Tensor, speakers: Tensor, margin: float = 0.1) -> TripletLoss:
    """Triplet loss with the hardest negative of the batch, of Deep Speaker (arXiv 1705.02304, section 2.4).

    ``embeddings`` (batch, dim) of unit length, ``speakers`` (batch,) numbers. Every ordered pair of two utterances of
    one speaker is an anchor with a positive; the anchor's negative is the utterance of another speaker with the
    highest cosine. The loss is the mean over these pairs of ``max(0, s_an - s_ap + margin)``.

    Raises ``ValueError`` when the batch has no pair of one speaker or only one speaker.
    """
    cosine = embeddings @ embeddings.T
    same = speakers[:, None] == speakers[None, :]
    pair = same & ~torch.eye(len(speakers), dtype=torch.bool, device=same.device)
    if not pair.any() or same.all():
        raise ValueError("a batch needs two speakers and two utterances of one of them")
    hardest = cosine.masked_fill(same, -torch.inf).amax(dim=1)
    anchor, positive = pair.nonzero(as_tuple=True)
    s_ap, s_an = cosine[anchor, positive], hardest[anchor]
    excess = s_an - s_ap + margin
    with torch.no_grad():
        active, positive, negative = (excess > 0).float().mean(), s_ap.mean(), s_an.mean()
    return TripletLoss(excess.clamp(min=0.0).mean(), float(active), float(positive), float(negative))
