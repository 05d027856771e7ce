"""What a training stage minimises: a module from network outputs and speakers to a loss and its figures."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from deepspeaker.models import length_normalised
from deepspeaker.training.losses import triplet_loss


class SoftmaxObjective(nn.Module):
    """Cross entropy of a classifier over the training speakers; it is dropped after pre-training.

    With ``head`` "affine", the paper's, the logits are an affine function of the outputs. With "additive_margin" they
    are ``scale`` times the cosines with one direction a speaker, the true speaker's reduced by ``margin``
    (AM-softmax, arXiv 1801.05599).
    """

    def __init__(
        self, embedding_dim: int, speakers: int, head: str = "affine", scale: float = 30.0, margin: float = 0.2
    ) -> None:
        super().__init__()
        self.classifier = nn.Linear(embedding_dim, speakers, bias=head == "affine")
        self.head, self.scale, self.margin = head, scale, margin

    def forward(self, outputs: Tensor, speakers: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Outputs (batch, embedding_dim) before length normalisation, speakers (batch,) -> loss, figures.

        The accuracy is that of the classifier without margin.
        """
        if self.head == "affine":
            logits = self.classifier(outputs)
            loss = F.cross_entropy(logits, speakers)
        else:
            logits = self.scale * length_normalised(outputs) @ length_normalised(self.classifier.weight).T
            margins = F.one_hot(speakers, logits.shape[1]) * (self.scale * self.margin)
            loss = F.cross_entropy(logits - margins, speakers)
        accuracy = float((logits.argmax(dim=1) == speakers).float().mean())
        return loss, {"loss": float(loss.detach()), "accuracy": accuracy}


class TripletObjective(nn.Module):
    """Triplet loss on cosine with hardest negatives of the batch."""

    def __init__(self, margin: float = 0.1) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, outputs: Tensor, speakers: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Outputs (batch, embedding_dim) before length normalisation, speakers (batch,) -> loss, figures."""
        result = triplet_loss(length_normalised(outputs), speakers, self.margin)
        figures = {
            "loss": float(result.loss.detach()),
            "active_triplets": result.active,
            "positive_cosine": result.positive,
            "negative_cosine": result.negative,
        }
        return result.loss, figures
