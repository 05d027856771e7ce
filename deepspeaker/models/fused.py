"""Several networks as one, whose embeddings are concatenated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepspeaker.models.layers import length_normalised
from deepspeaker.models.network import Network


class Fused(Network):
    """Several networks as one: the cosine of its embeddings is the mean of their cosines."""

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__(networks[0].feature_dim, sum(network.embedding_dim for network in networks))
        self.networks = nn.ModuleList(networks)

    def outputs(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the concatenated unit-length embeddings, divided by the root of their number."""
        embeddings = [length_normalised(network(features, lengths)) for network in self.networks]
        return torch.cat(embeddings, dim=1) / math.sqrt(len(embeddings))


def join(networks: Sequence[Network]) -> Network:
    """Return the only network, or all as one."""
    return networks[0] if len(networks) == 1 else Fused(networks)
