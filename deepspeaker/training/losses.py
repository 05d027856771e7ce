"""Losses: triplet mining, the triplet loss, and the two objectives that a network is trained with.

An objective is a module that holds the network. Its ``forward(features, speakers, step)`` takes the features (rows,
frames, bins) of this rank's shard of a batch, the speakers (batch,) of the whole batch (on the CPU, where the sampler
has them) and the number of the batch. It returns the loss with its gradient and, as one float64 tensor, the figures
of the whole batch that ``figures`` names. Nothing in it waits for the device.

With several ranks, the sum over the ranks of the gradients is the gradient of the whole batch.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepspeaker.models import length_normalised
from deepspeaker.training.distributed import all_gather, all_reduced, shard

Negatives = Literal["hardest", "semi-hard", "random"]


class TripletLoss(NamedTuple):
    """The loss of a batch and the figures that show how training goes, all of them scalar tensors."""

    loss: Tensor  # with gradient
    active: Tensor  # share of triplets whose loss is above zero
    positive: Tensor  # mean cosine of the anchor-positive pairs
    negative: Tensor  # mean cosine of the anchors with their negatives


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
    """Triplet loss on cosine (Deep Speaker, arXiv 1705.02304, section 2.4).

    Every ordered pair of two utterances of one speaker is an anchor and its positive. The loss is the mean over these
    pairs of ``max(0, s_an - s_ap + margin)``; its gradient flows through anchor, positive and negative.

    Parameters
    ----------
    embeddings : Tensor, shape (batch, dim)
        Rows of unit length.
    speakers : Tensor, shape (batch,)
        Speaker numbers. If they lie on the CPU, nothing waits for the device of the embeddings.
    negatives : {"hardest", "semi-hard", "random"}
        Which utterance of another speaker is a pair's negative; see ``choose_negatives``.
    history, history_speakers : Tensor, shapes (candidates, dim) and (candidates,)
        Further candidates for negatives, such as the embeddings of past batches (cross-batch memory, arXiv
        1912.06798).
    generator : torch.Generator
        Decides the "random" negatives.

    Raises
    ------
    ValueError
        If no speaker has two utterances, or all utterances are of one speaker.
    """
    same = speakers[:, None] == speakers[None, :]
    pair = same & ~torch.eye(len(speakers), dtype=torch.bool, device=same.device)
    if not pair.any() or same.all():
        raise ValueError("a batch needs two speakers and two utterances of one of them")
    device = embeddings.device
    anchor, positive = (rows.to(device, non_blocking=True) for rows in pair.nonzero(as_tuple=True))
    other = ~same.to(device, non_blocking=True)
    cosine = embeddings @ embeddings.T
    s_ap = cosine[anchor, positive]
    if history is not None and history_speakers is not None:
        cosine = torch.cat([cosine, embeddings @ history.T], dim=1)
        speakers = speakers.to(device, non_blocking=True)
        other = torch.cat([other, speakers[:, None] != history_speakers[None, :]], dim=1)
    s_an = cosine[anchor, choose_negatives(negatives, cosine, other, anchor, s_ap, generator)]
    excess = s_an - s_ap + margin
    with torch.no_grad():
        active, positive_mean, negative_mean = (excess > 0).float().mean(), s_ap.mean(), s_an.mean()
    return TripletLoss(excess.clamp(min=0.0).mean(), active, positive_mean, negative_mean)


def choose_negatives(
    kind: Negatives, cosine: Tensor, other: Tensor, anchor: Tensor, s_ap: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Chooses the negative of each anchor-positive pair; of equal cosines, the first candidate.

    - "hardest": the highest cosine.
    - "semi-hard" (FaceNet, arXiv 1503.03832): the highest cosine below the positive's; if there is none, the lowest.
    - "random": any candidate, each with the same probability.

    Parameters
    ----------
    cosine : Tensor, shape (batch, candidates)
        Cosine of each utterance of the batch with each candidate.
    other : Tensor of bool, shape (batch, candidates)
        Whether the candidate is of another speaker. Each anchor needs such a candidate.
    anchor, s_ap : Tensor, shape (pairs,)
        The row of each pair's anchor, and the cosine of the pair.
    generator : torch.Generator
        Decides the "random" negatives; a generator of the CPU.

    Returns
    -------
    Tensor, shape (pairs,)
        Columns of ``cosine``.
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


class Objective(nn.Module):
    """A network and what it is trained for; the base of the two objectives below."""

    #: What the tensor of figures holds.
    figures: tuple[str, ...]

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.autocast = False  # whether the network computes in bfloat16
        self._compiled: tuple[Any, ...] = ()  # a tuple keeps it from becoming a second submodule

    def compile_network(self) -> None:
        """Compiles the network for training; its evaluation, with utterances of many lengths, stays as it is."""
        self._compiled = (torch.compile(self.network),)

    def outputs(self, features: Tensor) -> Tensor:
        """The network's outputs (rows, embedding_dim) in float32, before length normalisation."""
        network = self._compiled[0] if self._compiled else self.network
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.autocast):
            outputs: Tensor = network(features)
        return outputs

    def own_state(self) -> dict[str, Tensor]:
        """The state of the objective without the network's."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("network.")}


class SoftmaxObjective(Objective):
    """Cross entropy of a classifier over the training speakers, which is dropped after pre-training.

    With ``head`` "affine", the paper's, the logits are an affine function of the outputs. The other heads take
    ``scale`` times the cosines with one direction for each speaker and make the true speaker's smaller: by ``margin``
    with "additive_margin" (AM-softmax, arXiv 1801.05599), by adding ``margin`` radians to its angle with
    "additive_angular_margin" (ArcFace, arXiv 1801.07698). The accuracy is that of the classifier without margin.
    """

    figures = ("loss", "accuracy")

    def __init__(
        self,
        network: nn.Module,
        embedding_dim: int,
        speakers: int,
        head: str = "affine",
        scale: float = 30.0,
        margin: float = 0.2,
    ) -> None:
        super().__init__(network)
        self.classifier = nn.Linear(embedding_dim, speakers, bias=head == "affine")
        self.head, self.scale, self.margin = head, scale, margin

    def forward(self, features: Tensor, speakers: Tensor, step: int) -> tuple[Tensor, Tensor]:
        batch = len(speakers)
        target = speakers[shard(batch)].to(features.device, non_blocking=True)
        outputs = self.outputs(features)
        if self.head == "affine":
            logits = plain = self.classifier(outputs)
        else:
            cosine = length_normalised(outputs) @ length_normalised(self.classifier.weight).T
            plain = self.scale * cosine
            true = cosine.gather(1, target[:, None])
            logits = plain.scatter(1, target[:, None], self.scale * self._with_margin(true))
        loss = F.cross_entropy(logits, target, reduction="sum") / batch
        right = (plain.argmax(dim=1) == target).sum() / batch
        return loss, all_reduced(torch.stack([loss.detach(), right.to(loss.dtype)])).double()

    def _with_margin(self, true: Tensor) -> Tensor:
        """The cosines (rows, 1) with the true speakers, made smaller by the margin."""
        if self.head == "additive_margin":
            return true - self.margin
        # Past the angle pi - margin the cosine would rise again; from there it falls on in a straight line.
        clipped = true.clamp(-1 + 1e-7, 1 - 1e-7)
        turned = clipped * math.cos(self.margin) - (1 - clipped.square()).sqrt() * math.sin(self.margin)
        return torch.where(true > -math.cos(self.margin), turned, true - 1 + math.cos(self.margin))


class TripletObjective(Objective):
    """Triplet loss on cosine, with triplets from the batch of all ranks.

    The first ``early_steps`` batches choose their negatives by ``early_negatives``, the others by ``negatives``. The
    last ``history`` embeddings of dimension ``embedding_dim`` are further candidates for negatives (cross-batch
    memory); they are part of the module's state. Random negatives are a function of ``seed`` and step. The figure
    ``spread`` is 1 - the squared length of the mean embedding: 0 if all embeddings coincide.
    """

    figures = ("loss", "active_triplets", "positive_cosine", "negative_cosine", "spread")
    history_embeddings: Tensor
    history_speakers: Tensor

    def __init__(
        self,
        network: nn.Module,
        margin: float = 0.1,
        negatives: Negatives = "hardest",
        *,
        early_negatives: Negatives = "semi-hard",
        early_steps: int = 0,
        history: int = 0,
        embedding_dim: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(network)
        self.margin, self.negatives, self.seed = margin, negatives, seed
        self.early_negatives, self.early_steps = early_negatives, early_steps
        self.register_buffer("history_embeddings", torch.zeros(history, embedding_dim))
        self.register_buffer("history_speakers", torch.full((history,), -1))

    def forward(self, features: Tensor, speakers: Tensor, step: int) -> tuple[Tensor, Tensor]:
        embeddings = all_gather(length_normalised(self.outputs(features)), len(speakers))
        # All batches are of one size, so the step tells how much of the history is filled.
        filled = min(step * len(speakers), len(self.history_speakers))
        result = triplet_loss(
            embeddings,
            speakers,
            self.margin,
            self.early_negatives if step < self.early_steps else self.negatives,
            history=self.history_embeddings[:filled] if filled else None,
            history_speakers=self.history_speakers[:filled] if filled else None,
            generator=torch.Generator().manual_seed(_seed_of_step(self.seed, step)),
        )
        self._remember(embeddings.detach(), speakers)
        spread = 1.0 - embeddings.detach().mean(dim=0).square().sum().double()
        figures = (result.loss.detach(), result.active, result.positive, result.negative)
        return result.loss, torch.stack([*(figure.double() for figure in figures), spread])

    def _remember(self, embeddings: Tensor, speakers: Tensor) -> None:
        """Puts the newest embeddings first; the oldest fall out."""
        size = len(self.history_speakers)
        if size:
            speakers = speakers.to(embeddings.device, non_blocking=True)
            self.history_embeddings = torch.cat([embeddings, self.history_embeddings])[:size].clone()
            self.history_speakers = torch.cat([speakers, self.history_speakers])[:size].clone()


def _seed_of_step(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
