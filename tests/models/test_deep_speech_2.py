"""The GRU in the reading of Deep Speech 2, against loops over frames in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepspeaker.config import GRUModel
from deepspeaker.errors import InputError
from deepspeaker.models import GRU, Network, build_model, describe, folded, parameter_count

SIZES = {"channels": 3, "hidden": 4, "layers": 2, "embedding_dim": 5}


def network_of(scale: float = 1.0, feature_dim: int = 6) -> GRU:
    """A network with other scales and shifts than at the start; ``scale`` decides how often states are clipped."""
    torch.manual_seed(0)
    network = GRU(feature_dim, **SIZES, recurrence="deep_speech_2")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5 * scale, 2 * scale)
            nn.init.normal_(module.bias)
    return network


def moved(network: Network) -> Network:
    """The network in evaluation mode, with statistics that are not those of the start."""
    with torch.no_grad():
        for _ in range(5):
            network.train()(3 * torch.randn(4, 30, network.feature_dim) + 1)
    return network.eval()


def plain_layers(network: GRU, maps: Tensor, stop: list[Tensor] | None = None) -> Tensor:
    """The layers by their equations, with each state of each utterance alone: (batch, frames, size) -> states."""
    for layer in network.gru.layers:  # type: ignore[union-attr]
        products = maps @ layer.weight_ih.T
        mean, variance = products.mean(dim=(0, 1)), products.var(dim=(0, 1), unbiased=False)
        normed = (products - mean) / (variance + 1e-5).sqrt() * layer.norm.weight + layer.norm.bias
        u_z, u_r, u_c = layer.weight_hh.chunk(3)
        rows = []
        for utterance in normed:
            state, states = torch.zeros(len(u_z), dtype=maps.dtype), []
            for frame in utterance:
                z, r, c = frame.chunk(3)
                z, r = 1 / (1 + torch.exp(-(z + u_z @ state))), 1 / (1 + torch.exp(-(r + u_r @ state)))
                before = c + r * (u_c @ state)
                if stop is not None:
                    stop.append(before.detach())
                candidate = torch.where(before < 0, 0 * before, torch.where(before > 20, 0 * before + 20, before))
                state = (1 - z) * candidate + z * state
                states.append(state)
            rows.append(torch.stack(states))
        maps = torch.stack(rows)
    return maps


@pytest.mark.parametrize("scale", [1.0, 12.0])
def test_outputs_and_gradients_in_training_equal_the_equations(scale: float) -> None:
    network = network_of(scale).double().train()
    features = torch.randn(3, 9, 6, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 5, dtype=torch.float64)
    (network(features) * weights).sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}  # type: ignore[union-attr]
    assert features.grad is not None
    ours["features"] = features.grad.clone()
    network.zero_grad()
    features.grad = None
    maps = network.conv(features[:, None], None).transpose(1, 2).flatten(2)
    inputs: list[Tensor] = []
    outputs = network.affine(plain_layers(network, maps, inputs).mean(dim=1))
    torch.testing.assert_close(network(features), outputs, rtol=0, atol=1e-10)
    (outputs * weights).sum().backward()
    theirs = {name: parameter.grad for name, parameter in network.named_parameters()} | {"features": features.grad}
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-9, atol=1e-9, msg=name)
    candidates = torch.stack(inputs)
    assert (candidates < 0).any() and ((candidates > 0) & (candidates < 20)).any()
    assert (candidates > 20).any() == (scale > 1)


def test_gradient_against_finite_differences() -> None:
    layer = network_of().double().gru.layers[0]  # type: ignore[union-attr, index]
    x = torch.randn(5, 3, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))


def test_parameters_match_every_row_of_the_papers_table() -> None:
    network = GRU(64, recurrence="deep_speech_2")
    rows = {f"{row.name} {n}": row.parameters for n, row in enumerate(describe(network, 100))}
    first, other = 3 * 1024 * (2048 + 1024) + 6 * 1024, 3 * 1024 * 2048 + 6 * 1024
    assert list(rows.values()) == [25 * 64 + 2 * 2048, first, other, other, 1024 * 512]
    assert [round(value / 1e6, 1) for value in (first, other)] == [9.4, 6.3]
    assert round(sum(rows.values()) / 1e6) == 23
    # As many as with torch's layers, which have two biases where these have scale and shift.
    assert parameter_count(network) == parameter_count(GRU(64)) == sum(rows.values())


def test_build_from_the_configuration() -> None:
    network = build_model(10, **GRUModel(**SIZES, recurrence="deep_speech_2").model_dump())  # type: ignore[arg-type]
    assert network(torch.randn(3, 20, 10)).shape == (3, 5)
    assert "gru.layers.0.norm.running_mean" in network.state_dict()
    with pytest.raises(InputError, match="recurrence: lstm is unknown; use torch or deep_speech_2"):
        build_model(10, "gru", recurrence="lstm")


def test_padding_does_not_change_an_embedding() -> None:
    network = moved(network_of())
    lengths = torch.tensor([1, 2, 17, 64, 65])
    padded = torch.full((5, 65, 6), 1e3)
    alone = []
    for row, length in enumerate(lengths):
        padded[row, :length] = torch.randn(int(length), 6)
        alone.append(network.embed(padded[row : row + 1, :length])[0])
    torch.testing.assert_close(network.embed(padded, lengths), torch.stack(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 12.0])
def test_folded_layers_and_the_onnx_graph_compute_the_same(scale: float, tmp_path: Path) -> None:
    from deepspeaker.export import write_network_onnx

    network = moved(network_of(scale))
    exact, fast = moved(network_of(scale)).double(), folded(network)
    assert not any(isinstance(module, nn.BatchNorm1d) for module in fast.gru.modules())  # type: ignore[union-attr]
    write_network_onnx(network, tmp_path / "x.onnx")
    graph = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    for frames in (1, 2, 25, 300):
        features = torch.randn(2, frames, 6) * 2
        expected: NDArray[np.float64] = exact.embed(features.double()).detach().numpy()
        np.testing.assert_allclose(fast.embed(features), expected, atol=1e-5)
        np.testing.assert_allclose(graph.run(None, {"features": features.numpy()})[0], expected, atol=1e-5)


def test_bfloat16_trains_the_recurrence_in_float32() -> None:
    network = network_of().train()
    features = torch.randn(4, 20, 6)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(features)
    assert outputs.dtype == torch.float32
    outputs.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    exact = network(features)
    assert float((outputs - exact).detach().abs().max()) < 0.05 * float(exact.detach().abs().max())
