"""Pooling over time: from the frames of an utterance to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepspeaker.errors import InputError
from deepspeaker.models.layers import frames_inside, full_precision, masked


class Average(nn.Module):
    """The mean over the frames of each utterance: the pooling of the paper."""

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return (batch, channels * bins) from maps (batch, channels, frames, bins), without the padding."""
        if lengths is None:
            return x.mean(dim=2).flatten(1)
        return (masked(x, lengths).sum(dim=2) / lengths[:, None, None]).flatten(1)


class Statistics(nn.Module):
    r"""Mean and standard deviation over the frames of each utterance, all frames alike or by attention.

    With weights :math:`w_t` that sum to 1 over the frames, the result for each value :math:`x_t` of a frame is

    .. math:: \mu = \sum_t w_t x_t, \qquad \sigma = \sqrt{\sum_t w_t (x_t - \mu)^2}.

    Parameters
    ----------
    values
        Values of a frame: channels x bins.
    attentive
        Whether each value has weights of its own, which two layers compute from the frame [1]_ [2]_.

    References
    ----------
    .. [1] Okabe et al., "Attentive statistics pooling for deep speaker embedding", arXiv 1803.10963.
    .. [2] Desplanques et al., ECAPA-TDNN, arXiv 2005.07143, section 3.1: a weight for each value.
    """

    #: Units between the two layers of the attention.
    HIDDEN = 128

    def __init__(self, values: int, attentive: bool) -> None:
        super().__init__()
        self.attention: nn.Module | None = None
        if attentive:
            self.attention = nn.Sequential(nn.Linear(values, self.HIDDEN), nn.Tanh(), nn.Linear(self.HIDDEN, values))

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return (batch, 2 * channels * bins) from maps (batch, channels, frames, bins), without the padding."""
        frames = full_precision(x.transpose(1, 2).flatten(2))
        inside = torch.ones_like(frames[..., :1]) if lengths is None else frames_inside(x, lengths)[..., None]
        if self.attention is None:
            weights = inside / inside.sum(dim=1, keepdim=True)
        else:
            weights = full_precision(self.attention(frames)).masked_fill(inside == 0, -torch.inf).softmax(dim=1)
        mean = (weights * frames).sum(dim=1, keepdim=True)
        variance = (weights * (frames - mean).square()).sum(dim=1)
        # The gradient of the root would be infinite at 0, for a value that is the same in all frames.
        return torch.cat([mean[:, 0], variance.clamp(min=1e-6).sqrt()], dim=1)


def build_pooling(kind: str, values: int) -> tuple[nn.Module, int]:
    """Build a pooling of frames with so many values, and return it with the number of values that it gives."""
    if kind == "mean":
        return Average(), values
    if kind in ("statistics", "attentive"):
        return Statistics(values, kind == "attentive"), 2 * values
    raise InputError(f"model.pooling: {kind} is unknown; use mean, statistics or attentive")
