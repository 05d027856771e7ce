"""ResCNN, the convolutional network of Deep Speaker (arXiv 1705.02304, table 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepspeaker.models.layers import Downsampling, ResidualBlock
from deepspeaker.models.network import Network
from deepspeaker.models.pooling import build_pooling


class ResCNN(Network):
    """Stages of convolutions and residual blocks, the average over time, and an affine layer.

    The defaults are the paper's network: 24,266,304 parameters with 64 bins (24,165,056 with
    ``batch_norm="channel"``). Padding is masked before each convolution.

    Parameters
    ----------
    feature_dim
        The number of bins of a feature frame.
    channels
        The maps of each stage. A stage begins with a 5x5 convolution of stride 2 in time and frequency.
    blocks
        The residual blocks of each stage, with two 3x3 convolutions each.
    embedding_dim
        The size of an embedding.
    batch_norm
        "sequence" or "channel", see ``deepspeaker.models.batch_norm``.
    pooling
        "mean", "statistics" or "attentive", see ``deepspeaker.models.pooling``.
    """

    def __init__(
        self,
        feature_dim: int,
        channels: Sequence[int] = (64, 128, 256, 512),
        blocks: int = 3,
        embedding_dim: int = 512,
        batch_norm: str = "sequence",
        pooling: str = "mean",
    ) -> None:
        super().__init__(feature_dim, embedding_dim)
        stages: list[nn.Module] = []
        channels_in, bins = 1, feature_dim
        for width in channels:
            bins = (bins + 1) // 2
            stages.append(Downsampling(channels_in, width, bins, batch_norm))
            stages.extend(ResidualBlock(width, bins, batch_norm) for _ in range(blocks))
            channels_in = width
        self.stages = nn.ModuleList(stages)
        self.pooling, values = build_pooling(pooling, channels_in * bins)
        self.affine = nn.Linear(values, embedding_dim, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def outputs(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the output of the affine layer, see ``Network.outputs``."""
        x = features[:, None].contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x, lengths)
            if lengths is not None and isinstance(stage, Downsampling):
                lengths = (lengths + 1) // 2
        affine: Tensor = self.affine(self.pooling(x, lengths))
        return affine
