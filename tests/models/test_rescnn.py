from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import correlate2d

from deepspeaker.errors import InputError
from deepspeaker.models import (
    ResCNN,
    SequenceBatchNorm,
    batch_norm,
    build_model,
    clipped_relu,
    length_normalised,
    parameter_count,
)

Floats = NDArray[np.float64]
NORMS = ("channel", "sequence")
EPSILON = 1e-5


def plain_norm(maps: Floats, scale: Floats, shift: Floats, kind: str) -> Floats:
    """Normalise (batch, channels, frames, bins) with the statistics of the batch, group by group."""
    result = np.empty_like(maps)
    _, channels, _, bins = maps.shape
    if kind == "channel":
        groups = [np.s_[:, channel] for channel in range(channels)]
    else:
        groups = [np.s_[:, channel, :, number] for channel in range(channels) for number in range(bins)]
    for group, group_scale, group_shift in zip(groups, scale, shift, strict=True):
        values = maps[group]
        mean = values.sum() / values.size
        variance = ((values - mean) ** 2).sum() / values.size
        result[group] = (values - mean) / np.sqrt(variance + EPSILON) * group_scale + group_shift
    return result


def plain_convolution(maps: Floats, weight: Floats, stride: int) -> Floats:
    padding = weight.shape[-1] // 2
    padded = np.pad(maps, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    return np.array(
        [
            [
                sum(correlate2d(channel, kernel, mode="valid") for channel, kernel in zip(one, kernels, strict=True))
                for kernels in weight
            ]
            for one in padded
        ]
    )[:, :, ::stride, ::stride]


def plain_rescnn(network: ResCNN, features: Floats, widths: int, blocks: int, kind: str) -> Floats:
    """Compute the forward pass from the paper's table, with the weights in the order of the network."""
    values = [p.detach().double().numpy() for p in network.parameters()]

    def conv_norm(maps: Floats, stride: int) -> Floats:
        weight, scale, shift = values.pop(0), values.pop(0), values.pop(0)
        return plain_norm(plain_convolution(maps, weight, stride), scale, shift, kind)

    maps = features[:, None]
    for _ in range(widths):
        maps = np.clip(conv_norm(maps, 2), 0, 20)
        for _ in range(blocks):
            inner = np.clip(conv_norm(maps, 1), 0, 20)
            maps = np.clip(conv_norm(inner, 1) + maps, 0, 20)
    (affine,) = values
    return maps.mean(axis=2).reshape(len(maps), -1) @ affine.T


def trained(network: ResCNN, seed: int = 0, steps: int = 3) -> ResCNN:
    """Train a little, so that running statistics, scales and shifts leave their initial values."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    network.train()
    for _ in range(steps):
        features = torch.randn(6, 20, network.feature_dim, generator=generator) * 2 + 1
        loss = network(features).square().mean() - network(features[:, :11]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def paper_network() -> ResCNN:
    return build_model(64)


def test_parameters_match_every_row_of_the_papers_table(paper_network: ResCNN) -> None:
    stages = iter(paper_network.stages)
    downsampling_rows = {64: 25 * 64 + 4096, 128: 208_896, 256: 823_296, 512: 3_280_896}
    block_rows = {64: 40_960, 128: 151_552, 256: 593_920, 512: 2_363_392}
    for width, row in downsampling_rows.items():
        downsampling = next(stages)
        assert downsampling.conv.stride == (2, 2)
        assert downsampling.conv.kernel_size == (5, 5)
        assert parameter_count(downsampling) == row
        for _ in range(3):
            block = next(stages)
            assert block.conv1.kernel_size == block.conv2.kernel_size == (3, 3)
            assert block.conv1.out_channels == block.conv2.out_channels == width
            assert parameter_count(block.conv1) + parameter_count(block.norm1) == block_rows[width]
            assert parameter_count(block.conv2) + parameter_count(block.norm2) == block_rows[width]
            assert parameter_count(block) == 2 * block_rows[width]
    assert next(stages, None) is None
    assert parameter_count(paper_network.affine) == 2048 * 512 == 1_048_576
    assert parameter_count(paper_network) == 24_266_304


def test_parameter_count_with_channel_norm() -> None:
    network = build_model(64, batch_norm="channel")
    channels = (1, 64, 128, 256, 512)
    expected = 2048 * 512
    for before, width in pairwise(channels):
        expected += 25 * before * width + 6 * 9 * width * width + 7 * 2 * width
    assert parameter_count(network) == expected == 24_165_056


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(4, 3, 7, 5), (4, 1, 7, 5), (4, 3, 7, 1), (4, 3, 1, 5), (1, 3, 7, 5), (2, 1, 3, 1)])
@pytest.mark.parametrize("kind", NORMS)
def test_batch_norm_matches_plain_statistics(
    kind: str, shape: tuple[int, int, int, int], memory_format: torch.memory_format
) -> None:
    generator = np.random.default_rng(3)
    maps = generator.normal(2, 3, shape) * generator.uniform(0.2, 4, (1, shape[1], 1, shape[3]))
    norm = batch_norm(kind, shape[1], shape[3]).double()
    affected = norm.norm if isinstance(norm, SequenceBatchNorm) else norm
    with torch.no_grad():
        affected.weight.copy_(torch.from_numpy(generator.uniform(0.5, 2, len(affected.weight))))
        affected.bias.copy_(torch.from_numpy(generator.normal(size=len(affected.bias))))
    ours = norm(torch.from_numpy(maps).to(memory_format=memory_format)).detach().numpy()
    expected = plain_norm(maps, affected.weight.detach().numpy(), affected.bias.detach().numpy(), kind)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_sequence_norm_evaluates_with_running_statistics() -> None:
    norm = SequenceBatchNorm(2, 3).double()
    maps = torch.randn(5, 2, 9, 3, dtype=torch.float64) + torch.arange(6).view(2, 1, 3)
    norm(maps)
    mean = 0.1 * maps.mean((0, 2))
    variance = 0.9 + 0.1 * maps.var((0, 2), correction=1)
    other = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    expected = (other - mean[:, None]) / (variance[:, None] + EPSILON).sqrt()
    torch.testing.assert_close(norm.eval()(other), expected, rtol=0, atol=1e-12)


def test_clipped_relu_and_its_gradient() -> None:
    x = torch.tensor([-1e9, -1.0, 0.5, 19.5, 20.5, 1e9], requires_grad=True)
    y = clipped_relu(x)
    assert y.tolist() == [0.0, 0.0, 0.5, 19.5, 20.0, 20.0]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("kind", NORMS)
def test_output_shape_for_any_length(kind: str) -> None:
    network = build_model(7, channels=[2, 3], blocks=1, embedding_dim=5, batch_norm=kind).eval()
    for frames in (*range(1, 20), 400):
        outputs = network(torch.randn(2, frames, 7))
        assert outputs.shape == (2, 5)
        assert outputs.dtype == torch.float32
        assert bool(outputs.isfinite().all())


@pytest.mark.parametrize("feature_dim", [1, 2, 5, 40])
@pytest.mark.parametrize("kind", NORMS)
def test_backward_pass_with_any_feature_dimension(feature_dim: int, kind: str) -> None:
    network = build_model(feature_dim, channels=[2, 3, 2], blocks=1, embedding_dim=4, batch_norm=kind)
    network(torch.randn(3, 9, feature_dim)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_every_stage_halves_frames_and_bins_rounding_up() -> None:
    network = build_model(13, channels=[2, 2, 2], blocks=0, embedding_dim=4).eval()
    for frames in range(1, 34):
        seen: list[tuple[int, ...]] = []
        hooks = [s.register_forward_hook(lambda m, i, o, seen=seen: seen.append(o.shape)) for s in network.stages]
        network(torch.randn(1, frames, 13))
        for hook in hooks:
            hook.remove()
        expected, at = [], (frames, 13)
        for _ in range(3):
            at = (int(np.ceil(at[0] / 2)), int(np.ceil(at[1] / 2)))
            expected.append((1, 2, *at))
        assert seen == expected


@pytest.mark.parametrize("kind", NORMS)
def test_padding_does_not_change_an_embedding(kind: str) -> None:
    torch.manual_seed(1)
    network = trained(build_model(9, channels=[4, 6], blocks=2, embedding_dim=8, batch_norm=kind))
    lengths = torch.tensor([1, 2, 3, 4, 5, 7, 8, 13, 16, 33, 50])
    utterances = [torch.randn(int(length), 9) for length in lengths]
    # The values of the padding must not matter.
    padded = torch.full((len(lengths), 50, 9), 1000.0)
    for row, utterance in enumerate(utterances):
        padded[row, : len(utterance)] = utterance
    with torch.inference_mode():
        together, unit = network(padded, lengths), network.embed(padded, lengths)
        for row, utterance in enumerate(utterances):
            alone = network(utterance[None])[0]
            assert float((together[row] - alone).abs().max()) <= 1e-5 * max(1.0, float(alone.abs().max()))
            assert float((unit[row] - network.embed(utterance[None])[0]).abs().max()) <= 1e-5


@pytest.mark.parametrize("kind", NORMS)
def test_forward_pass_matches_a_numpy_implementation_of_the_paper(kind: str) -> None:
    torch.manual_seed(2)
    network = trained(build_model(11, channels=[3, 4], blocks=2, embedding_dim=6, batch_norm=kind)).double().train()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:  # wide enough for some values to reach the upper clip
                parameter.mul_(8.0).add_(torch.randn(parameter.shape).double())
    features = np.random.default_rng(5).normal(size=(3, 14, 11))
    expected = plain_rescnn(network, features, 2, 2, kind)
    ours = network(torch.from_numpy(features)).detach().numpy()
    np.testing.assert_allclose(ours, expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())


def test_embeddings_have_unit_length_and_the_direction_of_the_output() -> None:
    network = build_model(8, channels=[3], blocks=1, embedding_dim=6).eval()
    features = torch.randn(4, 10, 8)
    embeddings, outputs = network.embed(features), network(features)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(embeddings * outputs.norm(dim=1, keepdim=True), outputs)
    assert length_normalised(torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16)).dtype == torch.float32


def test_lengths_are_refused_in_training() -> None:
    network = build_model(8, channels=[3], blocks=0, embedding_dim=6).train()
    with pytest.raises(ValueError, match="lengths are for evaluation"):
        network(torch.randn(2, 5, 8), torch.tensor([5, 4]))


def test_initial_weights_come_from_torchs_random_state() -> None:
    def fresh(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return copy.deepcopy(build_model(8, channels=[3], blocks=1, embedding_dim=6).state_dict())

    first, again, other = fresh(1), fresh(1), fresh(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["affine.weight"], other["affine.weight"])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match=r"model\.name: transformer is unknown"):
        build_model(8, name="transformer")
    with pytest.raises(InputError, match=r"model\.batch_norm: layer is unknown"):
        build_model(8, channels=[2], batch_norm="layer")
