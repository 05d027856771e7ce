from __future__ import annotations

import numpy as np
import pytest
import torch

from deepspeaker.config import GRUModel
from deepspeaker.models import GRU, build_model, parameter_count


def test_parameters_match_every_row_of_the_papers_table() -> None:
    network = GRU(64)
    assert parameter_count(network.conv) == 25 * 64 + 2 * 2048  # 6K
    per_layer = [
        sum(p.numel() for name, p in network.gru.named_parameters() if name.startswith("weight") and name[-1] == layer)
        for layer in "012"
    ]
    assert per_layer == [3 * 1024 * (2048 + 1024), 3 * 1024 * 2048, 3 * 1024 * 2048]  # 9.4M, 6.3M, 6.3M
    assert parameter_count(network.affine) == 1024 * 512  # 500K
    assert parameter_count(network) == pytest.approx(22.6e6, rel=0.01)


def test_build_from_the_configuration() -> None:
    options = GRUModel(channels=4, hidden=6, layers=2, embedding_dim=5).model_dump()
    network = build_model(10, **options)
    assert isinstance(network, GRU)
    assert network(torch.randn(3, 20, 10)).shape == (3, 5)


@pytest.mark.parametrize("norm", ["channel", "sequence"])
def test_padding_does_not_change_an_embedding(norm: str) -> None:
    torch.manual_seed(0)
    network = GRU(16, channels=8, hidden=12, layers=3, embedding_dim=7, batch_norm=norm)
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(4, 30, 16) * 3 + 1)  # move the running statistics
    network.eval()
    lengths = torch.tensor([1, 2, 3, 17, 64, 65])
    padded = torch.full((6, 65, 16), 1e3)
    alone = []
    for row, length in enumerate(lengths):
        utterance = torch.randn(1, int(length), 16)
        padded[row, :length] = utterance[0]
        alone.append(network.embed(utterance)[0].detach().numpy())
    together = network.embed(padded, lengths).detach().numpy()
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_forward_pass_matches_the_gru_equations_in_float64() -> None:
    torch.manual_seed(1)
    network = GRU(6, channels=3, hidden=4, layers=2, embedding_dim=5, batch_norm="channel").double().eval()
    features = torch.randn(1, 9, 6, dtype=torch.float64)
    with torch.no_grad():
        maps = network.conv(features[:, None], None)[0].numpy()  # (channels, frames, bins)
        expected = network(features)[0].numpy()
    layer = maps.transpose(1, 0, 2).reshape(maps.shape[1], -1)
    for number in range(2):
        weights = {name: p.detach().numpy() for name, p in network.gru.named_parameters() if name[-1] == str(number)}
        w_r, w_z, w_n = np.split(weights[f"weight_ih_l{number}"], 3)
        u_r, u_z, u_n = np.split(weights[f"weight_hh_l{number}"], 3)
        a_r, a_z, a_n = np.split(weights[f"bias_ih_l{number}"], 3)
        b_r, b_z, b_n = np.split(weights[f"bias_hh_l{number}"], 3)
        state, states = np.zeros(4), []
        for x in layer:
            r = 1 / (1 + np.exp(-(w_r @ x + a_r + u_r @ state + b_r)))
            z = 1 / (1 + np.exp(-(w_z @ x + a_z + u_z @ state + b_z)))
            n = np.tanh(w_n @ x + a_n + r * (u_n @ state + b_n))
            state = (1 - z) * n + z * state
            states.append(state)
        layer = np.array(states)
    np.testing.assert_allclose(network.affine.weight.detach().numpy() @ layer.mean(axis=0), expected, atol=1e-10)
