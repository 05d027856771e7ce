"""Stage 2 as one module of torch: from samples to the normalised speech frames that a network reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepspeaker.config import Features
from deepspeaker.features.fbank import FbankExtractor

#: Kaldi reads samples as 16-bit integers; ours are in [-1, 1].
_KALDI_SCALE = 32768.0
_PREEMPHASIS = 0.97
_EPSILON = float(torch.finfo(torch.float32).eps)
#: The largest value of Kaldi's compressions that have one range for the whole matrix.
_LARGEST = {"one-byte": 255.0, "two-byte": 65535.0}


class FrontEndOutput(NamedTuple):
    """What a front end computes from samples."""

    features: Tensor  #: normalised speech frames, (speech frames, bins); one row of zeros if there is no speech
    speech: Tensor  #: 1 for each speech frame and 0 for each other frame, (frames,)
    log_energy: Tensor  #: raw log-energy on the 16-bit scale, (frames,)
    log_mel: Tensor  #: log-mel energies of all frames, not normalised, (frames, bins)


class FrontEnd(nn.Module):
    """The log-mel features, voice activity detection and normalisation of stage 2, ready to be exported to ONNX.

    Parameters
    ----------
    features
        The section of the configuration.
    state
        The saved ``state_dict`` of a front end. Without it, the window and the mel filters are taken from Lhotse's
        layer, so that features equal those of stage 2 up to rounding.

    Attributes
    ----------
    minimum_samples
        The length of the shortest audio for which stage 2 computes features. From shorter audio this module computes
        something, too, or no frame.

    Notes
    -----
    ``features.compression`` is applied as well: the frames are rounded as in the arks that stage 5 reads. Of Kaldi's
    methods, "speech-feature" is not: its frames are left as they are.

    All shapes depend on the input by tensor operations only, so that a traced graph serves all lengths.

    See Also
    --------
    deepspeaker.features.FbankExtractor, deepspeaker.features.energy_vad, deepspeaker.features.mean_variance_normalised

    Examples
    --------
    >>> output = FrontEnd(Features())(torch.zeros(16000))
    >>> output.log_mel.shape, int(output.speech.sum()), output.features.shape
    (torch.Size([100, 64]), 0, torch.Size([1, 64]))
    """

    window: Tensor
    mel_filters: Tensor
    cosine: Tensor
    sine: Tensor

    def __init__(self, features: Features, state: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.length = math.floor(features.frame_length * features.sampling_rate)
        self.shift = math.floor(features.frame_shift * features.sampling_rate)
        self.minimum_samples = round(features.sampling_rate * features.frame_shift)
        self.vad = features.vad
        self.variance_floor = features.variance_floor
        self.largest = _LARGEST.get(features.compression)
        if state is None:
            extractor = FbankExtractor(
                features.sampling_rate,
                features.num_bins,
                features.low_freq,
                features.high_freq,
                features.frame_length,
                features.frame_shift,
            )
            window, mel_filters = map(torch.from_numpy, extractor.constants())
        else:
            window, mel_filters = state["window"], state["mel_filters"]
        self.register_buffer("window", window.clone())
        self.register_buffer("mel_filters", mel_filters.clone())
        cosine, sine = _half_dft(self.length, 2 * (len(self.mel_filters) - 1))
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def forward(self, samples: Tensor) -> FrontEndOutput:
        """Compute features and voice activity.

        Parameters
        ----------
        samples
            (samples,), float32 in [-1, 1], at the sampling rate of the configuration.
        """
        frames = self._frames(_KALDI_SCALE * samples)
        frames = frames - frames.mean(dim=1, keepdim=True)
        log_energy = (frames.square().sum(dim=1) + 1e-15).log().clamp(min=math.log(_EPSILON))
        log_mel = self._log_mel(frames)
        speech = self._speech(log_energy)
        return FrontEndOutput(self._normalised(log_mel, speech), speech, log_energy, log_mel)

    def _frames(self, samples: Tensor) -> Tensor:
        """Cut the samples into overlapping frames (frames, length); the signal is mirrored at both ends."""
        size = samples.shape[0]
        frames = (size + self.shift // 2) // self.shift
        blocks = -(-self.length // self.shift)  # a frame begins with a block of ``shift`` samples and ends in another
        before = (self.length - self.shift) // 2
        after = (blocks - 1) * self.shift + self.shift // 2 - before  # at most
        edges = torch.cat([torch.arange(-before, 0), size + torch.arange(after)]).to(samples.device)
        edges = torch.remainder(edges, 2 * (size + (size == 0)))
        edges = torch.where(edges < size, edges, 2 * size - 1 - edges).clamp(min=0)
        mirrored = torch.cat([samples, samples.new_zeros(1)])[edges]  # with something to read if there are no samples
        padded = torch.cat([mirrored[:before], samples, mirrored[before:]])
        padded = padded[: (frames + blocks - 1) * self.shift].reshape(frames + blocks - 1, self.shift)
        return torch.cat([padded[first : first + frames] for first in range(blocks)], dim=1)[:, : self.length]

    def _log_mel(self, frames: Tensor) -> Tensor:
        """Return the log-mel energies (frames, bins) of frames without their means."""
        previous = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        frames = (frames - _PREEMPHASIS * previous) * self.window
        if self.length % 2:
            frames = F.pad(frames, (0, 1))
        half = frames.shape[1] // 2
        left, right = frames[:, :half].flip(1), frames[:, half:]
        power = ((right + left) @ self.cosine).square() + ((right - left) @ self.sine).square()
        return (power @ self.mel_filters).clamp(min=_EPSILON).log()

    def _speech(self, log_energy: Tensor) -> Tensor:
        """Return Kaldi's energy-based decisions, (frames,)."""
        ones = torch.ones_like(log_energy, dtype=torch.float64)
        mean = log_energy.double().sum() / ones.sum().clamp(min=1.0)
        threshold = (self.vad.energy_threshold + self.vad.energy_mean_scale * mean).float()
        above = self._sum_around((log_energy > threshold).double())
        return (above >= self.vad.proportion_threshold * self._sum_around(ones)).float()

    def _sum_around(self, values: Tensor) -> Tensor:
        """Return the sum of the values around each frame, fewer at the edges; (frames,)."""
        context = self.vad.frames_context
        sums = F.pad(values, (context + 1, context)).cumsum(dim=0)
        return sums[2 * context + 1 :] - sums[: -(2 * context + 1)]

    def _normalised(self, log_mel: Tensor, speech: Tensor) -> Tensor:
        """Select the speech frames, normalise their mean and variance, and round them as in an ark."""
        none = 1.0 - speech.sum(dim=0, keepdim=True).clamp(max=1.0)  # then one row of zeros is kept
        rows = torch.nonzero(torch.cat([speech, none]))[:, 0]
        kept = torch.cat([log_mel, log_mel.new_zeros(1, log_mel.shape[1])])[rows].double()
        centred = kept - kept.mean(dim=0)
        variance = centred.square().mean(dim=0)
        floor = (self.variance_floor * variance.mean()).clamp(min=1e-10)
        normalised = (centred / torch.maximum(variance, floor).sqrt()).float()
        return normalised if self.largest is None else _rounded(normalised, self.largest)


def _rounded(values: Tensor, largest: float) -> Tensor:
    """Round values to whole steps of their range, as Kaldi's compression does; ``largest`` is the number of steps."""
    low = values.min()
    span = values.max() - low
    span = torch.where(span > 0, span, 1.0 + low.abs())
    steps = torch.floor((values - low) / span * largest + 0.499)
    return steps * (span / largest) + low


def _half_dft(length: int, fft_length: int) -> tuple[Tensor, Tensor]:
    """Return the matrices of a discrete Fourier transform for the even and the odd part of a frame.

    With the origin of time in the middle of the frame, the cosines need only its even part and the sines its odd part,
    each half as long as the frame. The origin does not change the power.

    Parameters
    ----------
    length
        The samples of a frame; an odd frame gets a zero at its end.
    fft_length
        The length of the transform, with zeros around the frame.

    Returns
    -------
    tuple of Tensor
        Cosines and sines, (ceil(length / 2), fft_length / 2 + 1) each.
    """
    time = torch.arange((length + 1) // 2, dtype=torch.float64) + 0.5
    frequency = torch.arange(fft_length // 2 + 1, dtype=torch.float64)
    phase = 2.0 * math.pi / fft_length * time[:, None] * frequency
    return phase.cos().float(), phase.sin().float()
