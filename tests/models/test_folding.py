from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from deepspeaker.models import Network, SequenceBatchNorm, build_model, folded

NETWORKS = {
    "rescnn": {"channels": [4, 8], "blocks": 2},
    "gru": {"name": "gru", "channels": 4, "hidden": 8, "layers": 1},
    "deep_speech_2": {"name": "gru", "channels": 4, "hidden": 8, "layers": 2, "recurrence": "deep_speech_2"},
}


def trained(batch_norm: str, options: dict[str, Any]) -> Network:
    """Return a network whose batch norms have other scales, shifts and statistics than at the start."""
    torch.manual_seed(0)
    network = build_model(7, embedding_dim=16, batch_norm=batch_norm, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    for _ in range(3):
        network.train()(3.0 + 2.0 * torch.randn(4, 30, 7))
    return network.eval()


@pytest.mark.parametrize("batch_norm", ["channel", "sequence"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("lengths", [None, [25, 13, 1]])
def test_embeddings_equal_those_of_the_network(name: str, batch_norm: str, lengths: list[int] | None) -> None:
    network = trained(batch_norm, NETWORKS[name]).double()
    features = torch.randn(3, 25, 7, dtype=torch.float64)
    frames = None if lengths is None else torch.tensor(lengths)
    torch.testing.assert_close(
        folded(network).embed(features, frames), network.embed(features, frames), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("batch_norm", ["channel", "sequence"])
def test_no_batch_norm_is_left_and_the_network_stays_as_it_was(batch_norm: str) -> None:
    network = trained(batch_norm, NETWORKS["rescnn"]).train()
    before = copy.deepcopy(network.state_dict())
    result = folded(network)
    norms = nn.BatchNorm1d | nn.BatchNorm2d | SequenceBatchNorm
    assert not any(isinstance(module, norms) for module in result.modules())
    assert not result.training
    assert network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
