"""Which negative each anchor-positive pair of a batch is set against."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Negatives = Literal["hardest", "semi-hard", "random"]


def choose_negatives(
    kind: Negatives, cosine: Tensor, other: Tensor, anchor: Tensor, s_ap: Tensor, generator: torch.Generator | None
) -> Tensor:
    """For each anchor-positive pair the column of ``cosine`` that is its negative, (pairs,).

    ``cosine`` (batch, candidates) holds the cosine of each utterance of the batch with each candidate, ``other``
    (batch, candidates) whether the candidate is of another speaker; pair ``i`` has the utterance ``anchor[i]`` as its
    anchor and its positive at the cosine ``s_ap[i]``. Each anchor needs a candidate of another speaker.

    - "hardest": the highest cosine.
    - "semi-hard" (FaceNet, arXiv 1503.03832): the highest cosine below ``s_ap``; where all are at it or above, the
      lowest.
    - "random": any, each as likely as another, by ``generator`` (on the CPU).

    Of equal cosines the first candidate is taken.
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
    counts = other.sum(dim=1)[anchor].cpu()
    drawn = torch.rand(len(anchor), generator=generator, dtype=torch.float64)
    place = (drawn * counts).long().clamp(max=counts - 1).to(cosine.device)
    # The place-th candidate of another speaker: where the running count passes it.
    return torch.searchsorted(other.cumsum(dim=1)[anchor], place[:, None] + 1)[:, 0]
