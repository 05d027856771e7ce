"""GRU, the recurrent network of Deep Speaker (arXiv 1705.02304, table 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepspeaker.models.layers import Downsampling, average_over_time
from deepspeaker.models.network import Network


class GRU(Network):
    """Log-mel frames -> utterance embedding.

    A 5x5 convolution with stride 2 in time and frequency to ``channels`` maps, ``layers`` forward GRU layers of
    ``hidden`` units, the average over time, an affine layer. The paper's has 64 maps, three layers of 1024 units, 64
    bins and embeddings of 512: 22.6 million parameters.

    The maps go into the GRU after batch norm and a ReLU clipped at 20. ``forward`` and ``embed`` are those of
    ``Network``; a GRU that runs forward in time never sees the padding behind an utterance.
    """

    def __init__(
        self,
        feature_dim: int,
        channels: int = 64,
        hidden: int = 1024,
        layers: int = 3,
        embedding_dim: int = 512,
        batch_norm: str = "sequence",
    ) -> None:
        super().__init__(feature_dim, embedding_dim)
        bins = (feature_dim + 1) // 2
        self.conv = Downsampling(1, channels, bins, batch_norm)
        self.gru = nn.GRU(channels * bins, hidden, layers, batch_first=True)
        self.affine = nn.Linear(hidden, embedding_dim, bias=False)
        nn.init.kaiming_normal_(self.conv.conv.weight, mode="fan_out", nonlinearity="relu")
        for name, parameter in self.gru.named_parameters():
            # Each gate has a matrix of its own: orthogonal ones keep what the state holds, whatever its size.
            if name.startswith("weight_hh"):
                for gate in parameter.data.chunk(3):
                    nn.init.orthogonal_(gate)
            elif name.startswith("weight_ih"):
                for gate in parameter.data.chunk(3):
                    nn.init.xavier_uniform_(gate)
            else:
                nn.init.zeros_(parameter)

    def outputs(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        maps = self.conv(features[:, None].contiguous(memory_format=torch.channels_last), lengths)
        states, _ = self.gru(maps.transpose(1, 2).flatten(2))
        if lengths is not None:
            lengths = (lengths + 1) // 2
        affine: Tensor = self.affine(average_over_time(states.transpose(1, 2)[..., None], lengths))
        return affine
