"""ResCNN, the convolutional network of Deep Speaker (arXiv 1705.02304, table 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepspeaker.models.layers import Downsampling, ResidualBlock, average_over_time
from deepspeaker.models.network import Network


class ResCNN(Network):
    """Log-mel frames -> utterance embedding.

    One stage for each number in ``channels``: a 5x5 convolution with stride 2 in time and frequency, then ``blocks``
    residual blocks of two 3x3 convolutions. The paper's network has channels (64, 128, 256, 512), three blocks,
    64 bins and embeddings of 512: 24,266,304 parameters with ``batch_norm="sequence"`` (every row of the paper's
    table fits that reading), 24,165,056 with "channel".

    ``forward`` and ``embed`` are those of ``Network``; padding is masked before each convolution.
    """

    def __init__(
        self,
        feature_dim: int,
        channels: Sequence[int] = (64, 128, 256, 512),
        blocks: int = 3,
        embedding_dim: int = 512,
        batch_norm: str = "sequence",
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
        self.affine = nn.Linear(channels_in * bins, embedding_dim, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def outputs(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        x = features[:, None].contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x, lengths)
            if lengths is not None and isinstance(stage, Downsampling):
                lengths = (lengths + 1) // 2
        affine: Tensor = self.affine(average_over_time(x, lengths))
        return affine
