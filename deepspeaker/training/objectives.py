"""The objectives of the two trainings: a network with its loss.

``forward(features, speakers, step)`` of an objective takes this rank's shard of the features (rows, frames, bins), the
speakers (batch,) of the whole batch, on the CPU, and the number of the batch. It returns the loss and the metrics of
the whole batch as one float64 tensor, in the order of ``metrics``. Nothing in it waits for the device. The gradient of
the whole batch is the sum of the ranks' gradients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepspeaker.config import Head, Negatives
from deepspeaker.models import length_normalised
from deepspeaker.training.distributed import all_gather, all_reduce, shard
from deepspeaker.training.losses import triplet_loss


class Objective(nn.Module):
    """A network and its loss; the base of the two objectives below."""

    #: Names of the metrics that ``forward`` returns.
    metrics: tuple[str, ...]

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.autocast = False  # whether the network computes in bfloat16
        self._compiled: tuple[Any, ...] = ()  # a tuple keeps it from becoming a second submodule

    def compile_network(self) -> None:
        """Compile the network for training. Evaluation, with utterances of many lengths, uses the plain network."""
        self._compiled = (torch.compile(self.network),)

    def outputs(self, features: Tensor) -> Tensor:
        """Return the network's outputs, shape (rows, dim), in float32 and before length normalisation."""
        network = self._compiled[0] if self._compiled else self.network
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.autocast):
            outputs: Tensor = network(features)
        return outputs

    def state_without_network(self) -> dict[str, Tensor]:
        """Return the state of the objective without that of the network."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("network.")}


class SoftmaxObjective(Objective):
    r"""Cross entropy of a classifier over the training speakers, which is dropped after pre-training.

    With the logits :math:`z` and the true speaker :math:`y` of each row, the loss is the mean over the batch of

    .. math:: -\log \frac{e^{z_y}}{\sum_j e^{z_j}}.

    The logits depend on ``head``. Here :math:`\theta_j` is the angle between the network's output and the direction of
    speaker :math:`j`, :math:`s` the scale and :math:`m` the margin:

    - "affine": an affine function of the output, as in the Deep Speaker paper;
    - "additive_margin" (AM-softmax [1]_): :math:`z_y = s (\cos\theta_y - m)` and :math:`z_j = s \cos\theta_j`;
    - "additive_angular_margin" (ArcFace [2]_): :math:`z_y = s \cos(\theta_y + m)` and :math:`z_j = s \cos\theta_j`.

    Parameters
    ----------
    network
        Maps features (rows, frames, bins) to outputs (rows, embedding_dim).
    embedding_dim
        Dimension of the outputs.
    speakers
        Number of training speakers, VTLP copies included.
    head, scale, margin
        The classifier.

    Notes
    -----
    The metric "accuracy" ignores the margin. Above the angle :math:`\pi - m`, where ArcFace's cosine would rise again,
    the logit falls linearly in :math:`\cos\theta_y`.

    References
    ----------
    .. [1] Wang et al., "Additive margin softmax for face verification", arXiv 1801.05599.
    .. [2] Deng et al., "ArcFace: additive angular margin loss for deep face recognition", arXiv 1801.07698.

    Examples
    --------
    The output equals the direction of its speaker, so AM-softmax has the logits 10 (1 - 0.2) and 0:

    >>> objective = SoftmaxObjective(nn.Identity(), 2, 2, "additive_margin", scale=10.0, margin=0.2)
    >>> _ = objective.classifier.weight.data.copy_(torch.eye(2))
    >>> loss, metrics = objective(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), step=0)
    >>> round(float(loss.detach()), 6), round(math.log(1 + math.exp(-8)), 6)
    (0.000335, 0.000335)
    >>> dict(zip(objective.metrics, metrics.tolist()))["accuracy"]
    1.0
    """

    metrics = ("loss", "accuracy")

    def __init__(
        self,
        network: nn.Module,
        embedding_dim: int,
        speakers: int,
        head: Head = "affine",
        scale: float = 30.0,
        margin: float = 0.2,
    ) -> None:
        super().__init__(network)
        self.classifier = nn.Linear(embedding_dim, speakers, bias=head == "affine")
        self.head, self.scale, self.margin = head, scale, margin

    def forward(self, features: Tensor, speakers: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return loss and metrics of a batch."""
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
        return loss, all_reduce(torch.stack([loss.detach(), right.to(loss.dtype)])).double()

    def _with_margin(self, true: Tensor) -> Tensor:
        """Apply the margin to the cosines with the true speakers, shape (rows, 1)."""
        if self.head == "additive_margin":
            return true - self.margin
        # cos(t + m) = cos t cos m - sin t sin m, up to the angle pi - m.
        clipped = true.clamp(-1 + 1e-7, 1 - 1e-7)
        turned = clipped * math.cos(self.margin) - (1 - clipped.square()).sqrt() * math.sin(self.margin)
        return torch.where(true > -math.cos(self.margin), turned, true - 1 + math.cos(self.margin))


class TripletObjective(Objective):
    """Triplet loss on cosine, with triplets from the batch of all ranks (see ``triplet_loss``).

    Parameters
    ----------
    network
        Maps features (rows, frames, bins) to outputs (rows, embedding_dim).
    margin
        The margin.
    negatives, early_negatives
        How negatives are chosen: by ``early_negatives`` in the first ``early_steps`` batches, then by ``negatives``.
    early_steps
        Number of early batches.
    sampled_pairs
        Whether the rows of a batch are anchor, positive, anchor, positive and so on (``PairSampler``), and only these
        pairs count. Otherwise all ordered pairs of one speaker count.
    cross_batch_memory
        Number of past embeddings that are further candidates for negatives; they are part of the module's state.
    embedding_dim
        Dimension of the outputs; only the cross-batch memory needs it.
    seed
        Decides the "random" negatives, together with the step.

    Notes
    -----
    The metric "spread" is 1 - the squared length of the mean embedding. It is 0 if all embeddings coincide.

    Examples
    --------
    >>> objective = TripletObjective(nn.Identity(), margin=0.1)
    >>> outputs = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0], [4.0, 0.0]])
    >>> loss, metrics = objective(outputs, torch.tensor([0, 0, 1, 1]), step=0)
    >>> {name: round(value, 3) for name, value in zip(objective.metrics, metrics.tolist())}
    {'loss': 0.35, 'active_triplets': 1.0, 'positive_cosine': 0.5, 'negative_cosine': 0.75, 'spread': 0.375}
    """

    metrics = ("loss", "active_triplets", "positive_cosine", "negative_cosine", "spread")
    cross_batch_embeddings: Tensor
    cross_batch_speakers: Tensor

    def __init__(
        self,
        network: nn.Module,
        margin: float = 0.1,
        negatives: Negatives = "hardest",
        *,
        early_negatives: Negatives = "semi-hard",
        early_steps: int = 0,
        sampled_pairs: bool = False,
        cross_batch_memory: int = 0,
        embedding_dim: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(network)
        self.margin, self.negatives, self.seed = margin, negatives, seed
        self.early_negatives, self.early_steps, self.sampled_pairs = early_negatives, early_steps, sampled_pairs
        self.register_buffer("cross_batch_embeddings", torch.zeros(cross_batch_memory, embedding_dim))
        self.register_buffer("cross_batch_speakers", torch.full((cross_batch_memory,), -1))

    def forward(self, features: Tensor, speakers: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return loss and metrics of a batch, and remember its embeddings."""
        embeddings = all_gather(length_normalised(self.outputs(features)), len(speakers))
        # All batches have one size, so the step tells how much of the memory is filled.
        filled = min(step * len(speakers), len(self.cross_batch_speakers))
        rows = torch.arange(len(speakers))
        result = triplet_loss(
            embeddings,
            speakers,
            self.margin,
            self.early_negatives if step < self.early_steps else self.negatives,
            pairs=(rows[::2], rows[1::2]) if self.sampled_pairs else None,
            memory=self.cross_batch_embeddings[:filled] if filled else None,
            memory_speakers=self.cross_batch_speakers[:filled] if filled else None,
            generator=torch.Generator().manual_seed(_seed_of_step(self.seed, step)),
        )
        self._remember(embeddings.detach(), speakers)
        spread = 1.0 - embeddings.detach().mean(dim=0).square().sum().double()
        metrics = (result.loss.detach(), result.active, result.positive, result.negative)
        return result.loss, torch.stack([*(metric.double() for metric in metrics), spread])

    def _remember(self, embeddings: Tensor, speakers: Tensor) -> None:
        """Put the newest embeddings first and drop the oldest."""
        size = len(self.cross_batch_speakers)
        if size:
            speakers = speakers.to(embeddings.device, non_blocking=True)
            self.cross_batch_embeddings = torch.cat([embeddings, self.cross_batch_embeddings])[:size].clone()
            self.cross_batch_speakers = torch.cat([speakers, self.cross_batch_speakers])[:size].clone()


def _seed_of_step(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
