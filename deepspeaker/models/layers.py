"""The layers of Deep Speaker's networks, on maps of shape (batch, channels, frames, bins)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepspeaker.errors import InputError


def clipped_relu(x: Tensor) -> Tensor:
    """Return min(max(x, 0), 20), the activation of the paper.

    Examples
    --------
    >>> clipped_relu(torch.tensor([-1.0, 5.0, 30.0]))
    tensor([ 0.,  5., 20.])
    """
    return F.hardtanh(x, 0.0, 20.0)  # its backward pass reads the map once, that of torch.clamp four times


class SequenceBatchNorm(nn.Module):
    """Batch norm with one scale and one shift per channel *and bin*, and statistics over batch and time.

    Notes
    -----
    This is the Deep Speaker paper's norm: with it, every row of its parameter table matches.

    References
    ----------
    Amodei et al., Deep Speech 2 (arXiv 1512.02595), section 3.2: sequence-wise batch normalisation.
    """

    def __init__(self, channels: int, bins: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels * bins)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps (batch, channels, frames, bins)."""
        batch, channels, frames, bins = x.shape
        columns = x.transpose(2, 3).reshape(batch, channels * bins, frames)
        normed: Tensor = self.norm(columns)
        return normed.view(batch, channels, bins, frames).transpose(2, 3)


def batch_norm(kind: str, channels: int, bins: int) -> nn.Module:
    """Build a batch norm with a scale and a shift per channel ("channel") or per channel and bin ("sequence")."""
    if kind == "channel":
        return nn.BatchNorm2d(channels)
    if kind == "sequence":
        return SequenceBatchNorm(channels, bins)
    raise InputError(f"model.batch_norm: {kind} is unknown; use channel or sequence")


def masked(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Set the frames beyond each utterance's length to zero; ``lengths`` is (batch,)."""
    if lengths is None:
        return x
    return x * frames_inside(x, lengths)[:, None, :, None]


def frames_inside(x: Tensor, lengths: Tensor) -> Tensor:
    """Return 1 for the frames of each utterance and 0 for its padding, (batch, frames)."""
    return (torch.arange(x.shape[2], device=x.device)[None, :] < lengths[:, None]).to(x.dtype)


class Downsampling(nn.Module):
    """A 5x5 convolution with stride 2x2, batch norm, clipped ReLU.

    T frames become ceil(T/2), and F bins become ceil(F/2).
    """

    def __init__(self, channels_in: int, channels: int, bins: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 5, stride=2, padding=2, bias=False)
        self.norm = batch_norm(norm, channels, bins)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return maps of half the frames and bins."""
        return clipped_relu(self.norm(self.conv(masked(x, lengths))))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm; the input is added before the second clipped ReLU."""

    def __init__(self, channels: int, bins: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = batch_norm(norm, channels, bins)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = batch_norm(norm, channels, bins)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return maps of the same shape."""
        inner = clipped_relu(self.norm1(self.conv1(masked(x, lengths))))
        return clipped_relu(self.norm2(self.conv2(masked(inner, lengths))) + x)


def full_precision(x: Tensor) -> Tensor:
    """Return bfloat16 and float16 as float32, and other types unchanged."""
    return x if x.dtype == torch.float64 else x.float()


def length_normalised(x: Tensor) -> Tensor:
    """Divide each row by its Euclidean length, in float32 or float64."""
    return F.normalize(full_precision(x), dim=1)
