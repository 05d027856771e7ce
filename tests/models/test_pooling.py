from __future__ import annotations

import numpy as np
import pytest
import torch

from deepspeaker.errors import InputError
from deepspeaker.models import Statistics, build_model, build_pooling, describe, parameter_count

NETWORKS = [
    {"name": "rescnn", "channels": [4, 8], "blocks": 1, "batch_norm": "channel"},
    {"name": "gru", "channels": 4, "hidden": 12, "layers": 1},
]


def test_statistics_are_numpys() -> None:
    maps = torch.randn(3, 4, 50, 5, dtype=torch.float64)
    frames = maps.permute(0, 2, 1, 3).reshape(3, 50, 20).numpy()
    pooled = Statistics(20, attentive=False)(maps, None).numpy()
    np.testing.assert_allclose(pooled, np.concatenate([frames.mean(axis=1), frames.std(axis=1)], axis=1), rtol=1e-12)


def test_attention_weighs_each_value() -> None:
    torch.manual_seed(0)
    pooling = Statistics(6, attentive=True).double()
    maps = torch.randn(2, 3, 30, 2, dtype=torch.float64)
    assert pooling.attention is not None
    first, _, second = pooling.attention.children()
    w1, b1, w2, b2 = (p.detach().numpy() for p in [*first.parameters(), *second.parameters()])
    for row, pooled in enumerate(pooling(maps, None).detach().numpy()):
        frames = maps[row].permute(1, 0, 2).reshape(30, 6).numpy()
        scores = np.tanh(frames @ w1.T + b1) @ w2.T + b2
        for value in range(6):
            weights = np.exp(scores[:, value]) / np.exp(scores[:, value]).sum()
            mean = np.average(frames[:, value], weights=weights)
            assert pooled[value] == pytest.approx(mean)
            assert pooled[6 + value] ** 2 == pytest.approx(np.average((frames[:, value] - mean) ** 2, weights=weights))


@pytest.mark.parametrize("kind", ["mean", "statistics", "attentive"])
@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: str(options["name"]))
def test_padding_does_not_change_an_embedding(options: dict[str, object], kind: str) -> None:
    torch.manual_seed(0)
    network = build_model(16, embedding_dim=7, pooling=kind, **options).eval()
    lengths = torch.tensor([1, 2, 17, 64])
    padded = torch.full((4, 64, 16), 1e3)
    alone = []
    for row, length in enumerate(lengths):
        padded[row, :length] = torch.randn(int(length), 16)
        alone.append(network.embed(padded[row : row + 1, :length])[0].detach().numpy())
    np.testing.assert_allclose(network.embed(padded, lengths).detach().numpy(), alone, atol=2e-5)


def test_constant_values_have_a_finite_gradient() -> None:
    maps = torch.ones(2, 3, 10, 2, requires_grad=True)
    Statistics(6, attentive=False)(maps, None).sum().backward()
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()


@pytest.mark.parametrize("kind", ["mean", "statistics", "attentive"])
@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: str(options["name"]))
def test_rows_of_the_table_have_all_parameters(options: dict[str, object], kind: str) -> None:
    network = build_model(16, embedding_dim=7, pooling=kind, **options)
    rows = describe(network, 40)
    assert sum(row.parameters for row in rows) == parameter_count(network)
    assert rows[-1].name == "affine"
    expected = {"mean": [], "statistics": ["statistics"], "attentive": ["attention"]}
    assert [row.name for row in rows if row.name in ("statistics", "attention")] == expected[kind]


def test_an_unknown_pooling_is_named() -> None:
    with pytest.raises(InputError, match=r"model.pooling: max is unknown; use mean, statistics or attentive"):
        build_pooling("max", 4)
