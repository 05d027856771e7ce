"""How training crops differ from the recorded speech: the copies they come from, their lengths, masks and gains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepspeaker.config import SpecAugment

#: Random crop lengths differ by multiples of this many frames.
LENGTH_STEP = 16


class Sources:
    """The recorded speech (source 0) and its augmented copies, from which samplers draw by their weights.

    Parameters
    ----------
    weights
        How often each source is drawn, relative to the others, (sources,).
    new_speakers
        Whether the voices of a source differ from the recorded ones, (sources,). Such a source is a voice of its own.

    Attributes
    ----------
    voice_of
        The voice of each source, (sources,): 0 as recorded, others count up.
    voices
        Number of voices.

    Examples
    --------
    >>> sources = Sources([1, 1, 2], [False, False, True])  # as recorded, with noise, at another speed
    >>> sources.voices, sources.voice_of.tolist()
    (2, [0, 0, 1])
    >>> generator = np.random.default_rng(0)
    >>> sources.draw(np.array([0, 0, 1, 1]), generator).tolist()
    [1, 0, 2, 2]
    """

    def __init__(self, weights: Sequence[float], new_speakers: Sequence[bool]) -> None:
        new = np.asarray(new_speakers)
        self.voice_of = np.where(new, np.cumsum(new), 0)
        self.voices = 1 + int(new.sum())
        weight = np.asarray(weights, dtype=np.float64)
        of_voices = np.where(self.voice_of == np.arange(self.voices)[:, None], weight, 0.0)
        self._of_voice = _cumulative(of_voices.sum(axis=1))
        self._within = _cumulative(of_voices)

    def draw_voices(self, size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return the random voices of ``size`` speakers."""
        return np.searchsorted(self._of_voice, generator.random(size), side="right")

    def draw(self, voices: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Return a random source of each voice, both of shape (crops,)."""
        uniform = generator.random((len(voices), 1))
        return np.asarray((uniform >= self._within[voices]).sum(axis=1))


class CropChanges:
    """SpecAugment, random crop lengths and random gains of bins. All are functions of the seed and the batch's number.

    Parameters
    ----------
    seed
        The seed of the training.
    min_frames, max_frames
        Range of the crop lengths; a ``min_frames`` of 0 turns random lengths off.
    masks
        The masks of SpecAugment.
    bin_gain
        Standard deviation of the offset of a bin.

    Notes
    -----
    Log-mel features turn a gain into an offset. They are normalised, so a masked value becomes the mean, 0.

    Lhotse's ``SpecAugment`` draws from global generators. So a resumed training would differ.

    References
    ----------
    Park et al., "SpecAugment: a simple data augmentation method for automatic speech recognition", Interspeech 2019.

    Examples
    --------
    >>> changes = CropChanges(0, 100, 160, SpecAugment(), 0.0)
    >>> [changes.frames(batch) for batch in range(4)]
    [100, 148, 132, 116]
    """

    def __init__(self, seed: int, min_frames: int, max_frames: int, masks: SpecAugment, bin_gain: float) -> None:
        self.seed, self.masks, self.bin_gain = seed, masks, bin_gain
        self.min_frames, self.max_frames = min_frames or max_frames, max_frames

    def frames(self, number: int) -> int:
        """Return the crop length of a batch."""
        if self.min_frames == self.max_frames:
            return self.max_frames
        lengths = (self.max_frames - self.min_frames) // LENGTH_STEP + 1
        return self.min_frames + LENGTH_STEP * int(self._generator(2, number).integers(lengths))

    def apply(self, features: Tensor, number: int, rows: slice, batch: int) -> Tensor:
        """Return changed features.

        Parameters
        ----------
        features
            (rows, frames, bins), those of this process.
        number
            The batch's number.
        rows, batch
            Which rows of the whole batch these are, and how many it has.
        """
        masks = self.masks
        if not (masks.num_feature_masks or masks.num_frame_masks or self.bin_gain):
            return features
        generator = self._generator(3, number)
        frames, bins = features.shape[1:]
        gain = generator.standard_normal((batch, 1, bins), dtype=np.float32) * np.float32(self.bin_gain)
        kept_frames = _unmasked(generator, batch, frames, masks.num_frame_masks, masks.frames_mask_size)[:, :, None]
        kept_bins = _unmasked(generator, batch, bins, masks.num_feature_masks, masks.features_mask_size)[:, None, :]
        if self.bin_gain:
            features = features + torch.from_numpy(gain[rows]).to(features.device)
        for kept in (kept_frames, kept_bins):
            features = features * torch.from_numpy(kept[rows]).to(features.device)
        return features

    def _generator(self, *position: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, *position])))


def _cumulative(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cumulative probabilities along the last axis; the last is exactly 1 if there is any weight."""
    sums = np.cumsum(weights, axis=-1)
    return np.asarray(sums / np.maximum(sums[..., -1:], 1e-300))


def _unmasked(
    generator: np.random.Generator, batch: int, length: int, masks: int, largest: int
) -> NDArray[np.float32]:
    """Return 0 within random masks of 0 to ``largest`` places and 1 elsewhere, (batch, length)."""
    widths = generator.integers(0, min(largest, length) + 1, (batch, masks, 1))
    starts = generator.integers(0, length - widths + 1)
    places = np.arange(length)
    masked = ((places >= starts) & (places < starts + widths)).any(axis=1)
    return np.asarray(1 - masked, dtype=np.float32)
