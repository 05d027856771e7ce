"""The triplet loss and its mining."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deepspeaker.config import Negatives


class TripletLoss(NamedTuple):
    """The triplet loss of a batch and its metrics, all scalar tensors."""

    #: Mean over the triplets, with gradient.
    loss: Tensor
    #: Share of the triplets with a loss above zero.
    active: Tensor
    #: Mean cosine of anchor and positive.
    positive: Tensor
    #: Mean cosine of anchor and negative.
    negative: Tensor


def triplet_loss(
    embeddings: Tensor,
    speakers: Tensor,
    margin: float = 0.1,
    negatives: Negatives = "hardest",
    *,
    pairs: tuple[Tensor, Tensor] | None = None,
    memory: Tensor | None = None,
    memory_speakers: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> TripletLoss:
    r"""Compute the triplet loss on cosine similarity.

    Every ordered pair of two utterances of one speaker, or only each of the given ``pairs``, is an anchor :math:`a`
    with a positive :math:`p`. With the chosen negative :math:`n`, an utterance of another speaker, and the cosines
    :math:`s`, the loss is the mean over all pairs of

    .. math:: \max(0, s_{an} - s_{ap} + \text{margin}).

    Its gradient flows through anchor, positive and negative. This is the loss of section 2.4 in [1]_.

    Parameters
    ----------
    embeddings : Tensor, shape (batch, dim)
        Rows of unit length.
    speakers : Tensor, shape (batch,)
        Speaker numbers. If they are on the CPU, nothing waits for the device of the embeddings.
    margin
        The margin.
    negatives
        How each pair's negative is chosen; see ``choose_negatives``.
    pairs : Tensor, shapes (pairs,) and (pairs,)
        Rows of the anchors and of their positives, on the CPU. All other utterances of other speakers are candidates
        for negatives, those of the anchor's own speaker never are.
    memory, memory_speakers : Tensor, shapes (candidates, dim) and (candidates,)
        Embeddings of past batches as further candidates for negatives (cross-batch memory [2]_).
    generator
        Decides the "random" negatives.

    Raises
    ------
    ValueError
        If no speaker has two utterances, or all utterances are of one speaker.

    References
    ----------
    .. [1] Li et al., "Deep Speaker: an end-to-end neural speaker embedding system", arXiv 1705.02304.
    .. [2] Wang et al., "Cross-batch memory for embedding learning", arXiv 1912.06798.

    Examples
    --------
    The embeddings of speaker 0 differ, and one of them equals that of speaker 1:

    >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    >>> result = triplet_loss(embeddings, torch.tensor([0, 0, 1, 1]), margin=0.1)
    >>> round(float(result.loss), 3)  # the mean of 1.1, 0.1, 0.1 and 0.1
    0.35
    >>> float(result.active), float(result.positive), float(result.negative)
    (1.0, 0.5, 0.75)
    """
    same = speakers[:, None] == speakers[None, :]
    if pairs is None:
        pair = same & ~torch.eye(len(speakers), dtype=torch.bool, device=same.device)
        anchor, positive = pair.nonzero(as_tuple=True)
    else:
        anchor, positive = pairs
    if not len(anchor) or same.all():
        raise ValueError("a batch needs two speakers and two utterances of one of them")
    device = embeddings.device
    anchor, positive = (rows.to(device, non_blocking=True) for rows in (anchor, positive))
    other = ~same.to(device, non_blocking=True)
    cosine = embeddings @ embeddings.T
    s_ap = cosine[anchor, positive]
    if memory is not None and memory_speakers is not None:
        cosine = torch.cat([cosine, embeddings @ memory.T], dim=1)
        speakers = speakers.to(device, non_blocking=True)
        other = torch.cat([other, speakers[:, None] != memory_speakers[None, :]], dim=1)
    s_an = cosine[anchor, choose_negatives(negatives, cosine, other, anchor, s_ap, generator)]
    excess = s_an - s_ap + margin
    with torch.no_grad():
        active, positive_mean, negative_mean = (excess > 0).float().mean(), s_ap.mean(), s_an.mean()
    return TripletLoss(excess.clamp(min=0.0).mean(), active, positive_mean, negative_mean)


def choose_negatives(
    kind: Negatives,
    cosine: Tensor,
    other: Tensor,
    anchor: Tensor,
    s_ap: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose the negative of each anchor-positive pair; among equal cosines, the first candidate.

    Parameters
    ----------
    kind
        - "hardest": the candidate with the highest cosine.
        - "semi-hard" [1]_: the highest cosine below that of the positive; if none is below, the lowest cosine.
        - "random": any candidate, with equal probabilities.
    cosine : Tensor, shape (batch, candidates)
        Cosine of each utterance of the batch with each candidate.
    other : Tensor of bool, shape (batch, candidates)
        Whether the candidate is of another speaker. Each anchor needs such a candidate.
    anchor, s_ap : Tensor, shape (pairs,)
        The row of each pair's anchor, and the cosine of the pair.
    generator
        Decides the "random" negatives; a generator of the CPU.

    Returns
    -------
    Tensor, shape (pairs,)
        Columns of ``cosine``.

    References
    ----------
    .. [1] Schroff et al., "FaceNet: a unified embedding for face recognition and clustering", arXiv 1503.03832.

    Examples
    --------
    One anchor, whose positive has the cosine 0.7. The first candidate is the anchor itself, so it is excluded.

    >>> cosine = torch.tensor([[1.0, 0.9, 0.6, -0.2]])
    >>> other = torch.tensor([[False, True, True, True]])
    >>> anchor, s_ap = torch.tensor([0]), torch.tensor([0.7])
    >>> choose_negatives("hardest", cosine, other, anchor, s_ap).item()
    1
    >>> choose_negatives("semi-hard", cosine, other, anchor, s_ap).item()
    2
    """
    cosine = cosine.detach()
    if kind == "hardest":
        return cosine.masked_fill(~other, -torch.inf).argmax(dim=1)[anchor]
    if kind == "semi-hard":
        of_pair = other[anchor]
        easier = of_pair & (cosine[anchor] < s_ap.detach()[:, None])
        highest = cosine[anchor].masked_fill(~easier, -torch.inf).argmax(dim=1)
        lowest = cosine[anchor].masked_fill(~of_pair, torch.inf).argmin(dim=1)
        return torch.where(easier.any(dim=1), highest, lowest)
    counts = other.sum(dim=1)[anchor]
    drawn = torch.rand(len(anchor), generator=generator, dtype=torch.float64).to(cosine.device, non_blocking=True)
    place = (drawn * counts).long().clamp(max=counts - 1)
    # The place-th candidate of another speaker is where the running count passes it.
    return torch.searchsorted(other.cumsum(dim=1)[anchor], place[:, None] + 1)[:, 0]
