"""The layers of Deep Speaker's ResCNN, on maps of shape (batch, channels, frames, bins)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepspeaker.errors import InputError


def clipped_relu(x: Tensor) -> Tensor:
    """min(max(x, 0), 20), the activation of the paper."""
    return F.hardtanh(x, 0.0, 20.0)  # torch.clamp's backward takes four passes over the map, this one's takes one


class SequenceBatchNorm(nn.Module):
    """Batch norm with one scale and one shift for each channel *and bin*; statistics over batch and time.

    The sequence-wise batch norm of Deep Speech 2 (arXiv 1512.02595, section 3.2); with it, every row of the Deep
    Speaker paper's parameter table fits.
    """

    def __init__(self, channels: int, bins: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels * bins)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, frames, bins = x.shape
        columns = x.transpose(2, 3).reshape(batch, channels * bins, frames)
        normed: Tensor = self.norm(columns)
        return normed.view(batch, channels, bins, frames).transpose(2, 3)


def batch_norm(kind: str, channels: int, bins: int) -> nn.Module:
    """``channel``: a scale and a shift a channel; ``sequence``: a scale and a shift a channel and bin."""
    if kind == "channel":
        return nn.BatchNorm2d(channels)
    if kind == "sequence":
        return SequenceBatchNorm(channels, bins)
    raise InputError(f"model.batch_norm: {kind} is unknown; take channel or sequence")


def masked(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Sets the frames from each ``lengths`` (batch,) on to zero, as if the utterance ended there."""
    if lengths is None:
        return x
    inside = torch.arange(x.shape[2], device=x.device)[None, :] < lengths[:, None]
    return x * inside[:, None, :, None]


class Downsampling(nn.Module):
    """conv 5x5 with stride 2x2, batch norm, clipped ReLU: T frames become ceil(T/2), F bins ceil(F/2)."""

    def __init__(self, channels_in: int, channels: int, bins: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 5, stride=2, padding=2, bias=False)
        self.norm = batch_norm(norm, channels, bins)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return clipped_relu(self.norm(self.conv(masked(x, lengths))))


class ResidualBlock(nn.Module):
    """conv 3x3, batch norm, clipped ReLU, conv 3x3, batch norm, plus the input, clipped ReLU."""

    def __init__(self, channels: int, bins: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = batch_norm(norm, channels, bins)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = batch_norm(norm, channels, bins)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        inner = clipped_relu(self.norm1(self.conv1(masked(x, lengths))))
        return clipped_relu(self.norm2(self.conv2(masked(inner, lengths))) + x)


def average_over_time(x: Tensor, lengths: Tensor | None) -> Tensor:
    """(batch, channels, frames, bins) -> (batch, channels * bins), the mean over each utterance's own frames."""
    if lengths is None:
        return x.mean(dim=2).flatten(1)
    return (masked(x, lengths).sum(dim=2) / lengths[:, None, None]).flatten(1)


def full_precision(x: Tensor) -> Tensor:
    """bfloat16 and float16 become float32."""
    return x if x.dtype == torch.float64 else x.float()


def length_normalised(x: Tensor) -> Tensor:
    """Each row divided by its Euclidean length, in float32 at least."""
    return F.normalize(full_precision(x), dim=1)
