"""Batch norms folded into their convolutions, for embedding."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deepspeaker.models.deep_speech_2 import DeepSpeech2GRU
from deepspeaker.models.layers import Downsampling, ResidualBlock, SequenceBatchNorm
from deepspeaker.models.network import Network


class ScaleAndShift(nn.Module):
    """A sequence-wise batch norm in evaluation mode: a factor and a term for each channel and bin."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: SequenceBatchNorm, channels: int) -> None:
        super().__init__()
        inner = norm.norm
        assert inner.running_mean is not None and inner.running_var is not None
        scale = inner.weight / torch.sqrt(inner.running_var + inner.eps)
        shift = inner.bias - inner.running_mean * scale
        self.register_buffer("scale", scale.detach().view(1, channels, 1, -1))
        self.register_buffer("shift", shift.detach().view(1, channels, 1, -1))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift maps (batch, channels, frames, bins)."""
        return torch.addcmul(self.shift, x, self.scale)


def folded(network: Network) -> Network:
    """Return a copy in evaluation mode that computes the same embeddings faster; it cannot be trained.

    A batch norm with one scale per channel becomes part of the convolution before it. One with a scale per channel and
    bin becomes a product and a sum. One of a recurrent layer becomes part of its matrix. The embeddings differ by
    rounding errors.

    Parameters
    ----------
    network
        The network; it does not change.

    Examples
    --------
    >>> from deepspeaker.models import build_model
    >>> network = build_model(64, channels=[4, 8], blocks=1, embedding_dim=16, batch_norm="channel").eval()
    >>> features = torch.randn(2, 100, 64)
    >>> torch.allclose(folded(network).embed(features), network.embed(features), atol=1e-5)
    True
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, Downsampling):
            module.conv, module.norm = _folded(module.conv, module.norm)
        elif isinstance(module, ResidualBlock):
            module.conv1, module.norm1 = _folded(module.conv1, module.norm1)
            module.conv2, module.norm2 = _folded(module.conv2, module.norm2)
        elif isinstance(module, DeepSpeech2GRU):
            module.fold()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    if isinstance(norm, SequenceBatchNorm):
        return conv, ScaleAndShift(norm, conv.out_channels)
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm), nn.Identity()
