"""Triplet loss on cosine similarity, and what its training is watched by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deepspeaker.training.mining import Negatives, choose_negatives


class TripletLoss(NamedTuple):
    """The loss of a batch and the figures that show how training goes."""

    loss: Tensor  # scalar, with gradient
    active: float  # share of triplets whose loss is above zero
    positive: float  # mean cosine of the anchor-positive pairs
    negative: float  # mean cosine of the anchors with their chosen negatives


def triplet_loss(
    embeddings: Tensor,
    speakers: Tensor,
    margin: float = 0.1,
    negatives: Negatives = "hardest",
    *,
    history: Tensor | None = None,
    history_speakers: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> TripletLoss:
    """Triplet loss on cosine, of Deep Speaker (arXiv 1705.02304, section 2.4).

    ``embeddings`` (batch, dim) of unit length, ``speakers`` (batch,) numbers. Every ordered pair of two utterances of
    one speaker is an anchor with a positive; ``negatives`` ("hardest", "semi-hard", "random" by ``generator``; see
    ``choose_negatives``) says which utterance of another speaker is its negative. The loss is the mean over these
    pairs of ``max(0, s_an - s_ap + margin)``; its gradient flows through anchor, positive and negative.

    ``history`` (candidates, dim) of unit length with ``history_speakers`` (candidates,) are further candidates for
    negatives, such as the embeddings of past batches (cross-batch memory, arXiv 1912.06798).

    Raises ``ValueError`` when the batch has no pair of one speaker, or an anchor no negative.
    """
    cosine = embeddings @ embeddings.T
    same = speakers[:, None] == speakers[None, :]
    pair = same & ~torch.eye(len(speakers), dtype=torch.bool, device=same.device)
    if not pair.any() or same.all():
        raise ValueError("a batch needs two speakers and two utterances of one of them")
    anchor, positive = pair.nonzero(as_tuple=True)
    s_ap = cosine[anchor, positive]
    if history is not None and history_speakers is not None:
        cosine = torch.cat([cosine, embeddings @ history.T], dim=1)
        same = torch.cat([same, speakers[:, None] == history_speakers[None, :]], dim=1)
    s_an = cosine[anchor, choose_negatives(negatives, cosine, ~same, anchor, s_ap, generator)]
    excess = s_an - s_ap + margin
    with torch.no_grad():
        active, positive_mean, negative_mean = (excess > 0).float().mean(), s_ap.mean(), s_an.mean()
    return TripletLoss(excess.clamp(min=0.0).mean(), float(active), float(positive_mean), float(negative_mean))
