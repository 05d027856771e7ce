"""What a training stage minimises: a module from network outputs and speakers to a loss and its figures.

``forward(outputs, speakers, step)`` takes the outputs (rows, embedding_dim) of this process' share of the batch, before
length normalisation, and the speakers (batch,) of the whole batch; alone, the share is the batch. The loss is such that
the gradients summed over the processes are those of the whole batch; the figures are those of the whole batch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepspeaker.models import length_normalised
from deepspeaker.training.distributed import gathered, share, summed
from deepspeaker.training.losses import triplet_loss
from deepspeaker.training.mining import Negatives


class SoftmaxObjective(nn.Module):
    """Cross entropy of a classifier over the training speakers; it is dropped after pre-training.

    With ``head`` "affine", the paper's, the logits are an affine function of the outputs. The other heads have
    ``scale`` times the cosines with one direction a speaker, the true speaker's made smaller: by ``margin`` with
    "additive_margin" (AM-softmax, arXiv 1801.05599), by adding ``margin`` radians to its angle with
    "additive_angular_margin" (ArcFace, arXiv 1801.07698).
    """

    def __init__(
        self, embedding_dim: int, speakers: int, head: str = "affine", scale: float = 30.0, margin: float = 0.2
    ) -> None:
        super().__init__()
        self.classifier = nn.Linear(embedding_dim, speakers, bias=head == "affine")
        self.head, self.scale, self.margin = head, scale, margin

    def forward(self, outputs: Tensor, speakers: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        """The accuracy is that of the classifier without margin."""
        batch, speakers = len(speakers), speakers[share(len(speakers))]
        if self.head == "affine":
            logits = plain = self.classifier(outputs)
        else:
            cosine = length_normalised(outputs) @ length_normalised(self.classifier.weight).T
            plain = self.scale * cosine
            true = cosine.gather(1, speakers[:, None])
            logits = plain.scatter(1, speakers[:, None], self.scale * self._made_smaller(true))
        loss = F.cross_entropy(logits, speakers, reduction="sum") / batch
        right = (plain.argmax(dim=1) == speakers).sum() / batch
        total = summed(torch.stack([loss.detach(), right.to(loss.dtype)]))
        return loss, {"loss": float(total[0]), "accuracy": float(total[1])}

    def _made_smaller(self, true: Tensor) -> Tensor:
        if self.head == "additive_margin":
            return true - self.margin
        # Past the angle pi - margin the cosine would rise again; there it goes on falling in a straight line.
        clipped = true.clamp(-1 + 1e-7, 1 - 1e-7)
        turned = clipped * math.cos(self.margin) - (1 - clipped.square()).sqrt() * math.sin(self.margin)
        return torch.where(true > -math.cos(self.margin), turned, true - 1 + math.cos(self.margin))


class TripletObjective(nn.Module):
    """Triplet loss on cosine, its triplets chosen in the batch of all processes.

    During the first ``early_steps`` steps the negatives are chosen as ``early_negatives`` says, then as ``negatives``
    (see ``choose_negatives``). ``history`` past embeddings of dimension ``embedding_dim`` are further candidates for
    negatives; they are part of the module's state. Random negatives are a function of ``seed`` and step.
    """

    history_embeddings: Tensor
    history_speakers: Tensor

    def __init__(
        self,
        margin: float = 0.1,
        negatives: Negatives = "hardest",
        *,
        early_negatives: Negatives = "semi-hard",
        early_steps: int = 0,
        history: int = 0,
        embedding_dim: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.margin, self.negatives, self.seed = margin, negatives, seed
        self.early_negatives, self.early_steps = early_negatives, early_steps
        self.register_buffer("history_embeddings", torch.zeros(history, embedding_dim))
        self.register_buffer("history_speakers", torch.full((history,), -1))

    def forward(self, outputs: Tensor, speakers: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        """``spread`` is 1 - the squared length of the mean embedding: 0 when all embeddings coincide."""
        embeddings = gathered(length_normalised(outputs), len(speakers))
        known = self.history_speakers >= 0
        result = triplet_loss(
            embeddings,
            speakers,
            self.margin,
            self.early_negatives if step < self.early_steps else self.negatives,
            history=self.history_embeddings[known] if known.any() else None,
            history_speakers=self.history_speakers[known] if known.any() else None,
            generator=torch.Generator().manual_seed(_mixed(self.seed, step)),
        )
        self._remember(embeddings.detach(), speakers)
        figures = {
            "loss": float(result.loss.detach()),
            "active_triplets": result.active,
            "positive_cosine": result.positive,
            "negative_cosine": result.negative,
            "spread": 1.0 - float(embeddings.detach().mean(dim=0).square().sum()),
        }
        return result.loss, figures

    def _remember(self, embeddings: Tensor, speakers: Tensor) -> None:
        """The newest embeddings come first; the oldest fall out."""
        size = len(self.history_speakers)
        if size:
            self.history_embeddings = torch.cat([embeddings, self.history_embeddings])[:size].clone()
            self.history_speakers = torch.cat([speakers, self.history_speakers])[:size].clone()


def _mixed(seed: int, step: int) -> int:
    """A seed for one step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
