"""A network as a table of its layers."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deepspeaker.models.build import parameter_count
from deepspeaker.models.deep_speech_2 import DeepSpeech2Layer
from deepspeaker.models.layers import Downsampling, ResidualBlock
from deepspeaker.models.network import Network
from deepspeaker.models.pooling import Statistics


class Layer(NamedTuple):
    """A row of the table."""

    name: str
    output: tuple[int, ...]  # the shape without the batch: (channels, frames, bins), (frames, units) or (values,)
    parameters: int
    multiply_adds: int


def describe(network: Network, frames: int) -> list[Layer]:
    """Return one row for each layer, in the order of the forward pass.

    Parameters
    ----------
    network
        The network; its mode and weights do not change.
    frames
        The length of the input. Shapes and multiply-adds depend on it.

    Notes
    -----
    Only convolutions, GRUs and affine layers count as multiply-adds.
    """
    rows: list[Layer] = []
    counted: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            counted.append(output[0].numel() * module.weight[0].numel())
        else:
            counted.append(sum(p.numel() for p in module.parameters() if p.ndim == 2))

    def add_row(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        if isinstance(module, nn.GRU):
            for layer in range(module.num_layers):
                weights = [p for name, p in module.named_parameters() if name.endswith(f"_l{layer}")]
                products = output[0].shape[1] * sum(p.numel() for p in weights if p.ndim == 2)
                shape = tuple(output[0].shape[1:])
                rows.append(Layer(f"gru{module.hidden_size}", shape, sum(p.numel() for p in weights), products))
            return
        if isinstance(module, DeepSpeech2Layer):
            frames, _, hidden = output.shape
            products = frames * (module.weight_ih.numel() + module.weight_hh.numel())
            rows.append(Layer(f"gru{hidden}", (frames, hidden), parameter_count(module), products))
            return
        name = "affine"
        if isinstance(module, Statistics):
            name = "attention" if module.attention else "statistics"
        elif isinstance(module, Downsampling):
            name = f"conv{output.shape[1]}-s 5x5, stride 2"
        elif isinstance(module, ResidualBlock):
            name = f"res{output.shape[1]} 3x3 + 3x3"
        rows.append(Layer(name, tuple(output.shape[1:]), parameter_count(module), sum(counted)))
        counted.clear()

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_hook(count))
        layers = Downsampling | ResidualBlock | nn.GRU | DeepSpeech2Layer | Statistics
        if isinstance(module, layers) or module is network.affine:
            hooks.append(module.register_forward_hook(add_row))
    mode = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, frames, network.feature_dim, device=next(network.parameters()).device))
    finally:
        network.train(mode)
        for hook in hooks:
            hook.remove()
    return rows


def description(network: Network, frame_shift: float = 0.010) -> str:
    """Return the table of ``describe`` for one second of speech, as text."""
    frames = round(1 / frame_shift)
    layers = describe(network, frames)
    lines = [("layer", "output", "parameters", "multiply-adds")]
    for layer in layers:
        shape = " x ".join(map(str, layer.output))
        lines.append((layer.name, shape, f"{layer.parameters:,}", f"{layer.multiply_adds:,}"))
    total = sum(layer.multiply_adds for layer in layers)
    lines.append(("all", "", f"{parameter_count(network):,}", f"{total:,}"))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    text = [
        f"{name:<{widths[0]}}  {output:<{widths[1]}}  {parameters:>{widths[2]}}  {products:>{widths[3]}}".rstrip()
        for name, output, parameters, products in lines
    ]
    note = f"outputs (channels x frames x bins) and multiply-adds for one second of speech: {frames} frames"
    return "\n".join([*text, note])
