"""Samplers choose the utterances of each training step; a loader reads their crops.

A batch is a pure function of the seed and the step, so a training can resume at any step.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex, vtlp_matrix
from deepspeaker.training.distributed import shard


class Batch(NamedTuple):
    """The utterances of a step, and where their crops begin."""

    #: Utterance numbers, shape (batch,).
    utterances: NDArray[np.int32]
    #: Start of each crop as a fraction of its possible starts, in [0, 1), shape (batch,).
    crop_positions: NDArray[np.float64]
    #: VTLP copy of each speaker, shape (batch,): 0 is the speech as recorded, the others are warped.
    copies: NDArray[np.int64]


class Sampler(Protocol):
    """Anything that chooses the utterances of a batch."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""


def _generator(seed: int, *position: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *position])))


class _Passes:
    """Endless passes over ``items`` things, each in another random order."""

    def __init__(self, items: int, seed: int) -> None:
        self.items, self.seed = items, seed
        self._latest = (-1, np.empty(0, dtype=np.int32))

    def order(self, number: int) -> NDArray[np.int32]:
        """Return the order of a pass, shape (items,)."""
        if self._latest[0] != number:
            self._latest = (number, _generator(self.seed, 0, number).permutation(np.arange(self.items, dtype=np.int32)))
        return self._latest[1]


class UtteranceSampler:
    """Sample utterances for softmax training: each one once per pass, in random order, as a random VTLP copy.

    Parameters
    ----------
    utterances
        Number of utterances.
    batch_size
        Utterances of a batch. A batch may reach from one pass into the next.
    seed
        Decides all random choices, together with the step.
    copies
        Number of VTLP copies, including the speech as recorded.

    Examples
    --------
    >>> sampler = UtteranceSampler(utterances=6, batch_size=3, seed=0)
    >>> sorted([*sampler.batch(0).utterances.tolist(), *sampler.batch(1).utterances.tolist()])
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, utterances: int, batch_size: int, seed: int, copies: int = 1) -> None:
        self.batch_size, self.seed, self.copies = batch_size, seed, copies
        self._passes = _Passes(utterances, seed)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""
        chosen: list[NDArray[np.int32]] = []
        first, missing = step * self.batch_size, self.batch_size
        while missing:
            number, begin = divmod(first, self._passes.items)
            chosen.append(self._passes.order(number)[begin : begin + missing])
            first, missing = first + len(chosen[-1]), missing - len(chosen[-1])
        generator = _generator(self.seed, 1, step)
        positions = generator.random(self.batch_size)
        return Batch(np.concatenate(chosen), positions, generator.integers(self.copies, size=self.batch_size))


class SpeakerSampler:
    """Sample P speakers with K utterances each, for triplet training.

    Each speaker appears once per pass, in random order. If P does not divide the number of speakers, the remaining
    ones wait for the next pass. A speaker's K utterances differ if it has enough; otherwise some are repeated with
    other crops. A speaker with a single utterance contributes disjoint crops of it, and is left out if the utterance is
    shorter than two crops. All K utterances are of one random VTLP copy of the speaker.

    Parameters
    ----------
    of_speaker
        For each speaker, the numbers of its utterances.
    speakers
        P. If there are fewer speakers, each batch has all of them.
    utterances
        K.
    seed
        Decides all random choices, together with the step.
    copies
        Number of VTLP copies, including the speech as recorded.
    frames
        Length of each utterance in frames, shape (utterances,).
    crop_frames
        Length of a crop in frames.

    Attributes
    ----------
    usable : ndarray of int
        Numbers of the speakers that can appear.
    left_out : int
        Number of the other speakers.

    Raises
    ------
    InputError
        If fewer than two speakers are usable.

    Examples
    --------
    >>> of_speaker = [np.array([0, 1], dtype=np.int32), np.array([2, 3, 4], dtype=np.int32)]
    >>> frames = np.full(5, 300, dtype=np.int32)
    >>> sampler = SpeakerSampler(of_speaker, 2, 2, seed=0, frames=frames, crop_frames=160)
    >>> batch = sampler.batch(0)
    >>> [int((batch.utterances < 2).sum()), int((batch.utterances >= 2).sum())]
    [2, 2]
    """

    def __init__(
        self,
        of_speaker: Sequence[NDArray[np.int32]],
        speakers: int,
        utterances: int,
        seed: int,
        copies: int = 1,
        *,
        frames: NDArray[np.int32],
        crop_frames: int,
    ) -> None:
        self.of_speaker, self.frames, self.crop_frames = of_speaker, frames, crop_frames
        self.seed, self.copies = seed, copies
        usable = [n for n, found in enumerate(of_speaker) if len(found) > 1 or frames[found[0]] >= 2 * crop_frames]
        self.usable = np.array(usable, dtype=np.int32)
        self.left_out = len(of_speaker) - len(usable)
        if len(usable) < 2:
            raise InputError(
                f"triplets need two speakers with two utterances, or one of {2 * crop_frames} frames, each; there are "
                f"{len(usable)} of {len(of_speaker)}"
            )
        self.speakers, self.per_speaker = min(speakers, len(usable)), utterances
        self._passes = _Passes(len(usable), seed)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0; the K utterances of a speaker are consecutive."""
        number, within = divmod(step, len(self.usable) // self.speakers)
        speakers = self.usable[self._passes.order(number)[within * self.speakers : (within + 1) * self.speakers]]
        generator = _generator(self.seed, 1, step)
        chosen = [self._choose(self.of_speaker[speaker], generator) for speaker in speakers]
        positions = generator.random(self.speakers * self.per_speaker)
        copies = np.repeat(generator.integers(self.copies, size=self.speakers), self.per_speaker)
        for place, utterances in enumerate(chosen):
            if len(self.of_speaker[speakers[place]]) == 1:
                rows = slice(place * self.per_speaker, (place + 1) * self.per_speaker)
                positions[rows] = self._disjoint(positions[rows], int(self.frames[utterances[0]]))
        return Batch(np.concatenate(chosen), positions, copies)

    def _choose(self, utterances: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.int32]:
        rounds = -(-self.per_speaker // len(utterances))
        return np.concatenate([generator.permutation(utterances) for _ in range(rounds)])[: self.per_speaker]

    def _disjoint(self, uniform: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
        """Return positions of crops that share no frame; if too few fit, they are used in turn."""
        count = min(len(uniform), frames // self.crop_frames)
        spare = frames - count * self.crop_frames
        gaps = np.sort((uniform[:count] * (spare + 1)).astype(int))
        starts = (gaps + np.arange(count) * self.crop_frames)[np.arange(len(uniform)) % count]
        return np.asarray((starts + 0.5) / (frames - self.crop_frames + 1))


class BatchLoader:
    """Read the crops that a sampler chooses, one batch ahead of the network.

    Parameters
    ----------
    sampler
        Chooses the utterances.
    index
        The features.
    crop_frames
        Length of a crop in frames.
    vtlp
        Warp factors. Copy ``n`` of a speaker is warped by ``vtlp[n - 1]`` and counts as another speaker.
    band
        Lowest and highest frequency of the bins in Hz (see ``vtlp_matrix``).
    device
        Where the features go.
    """

    def __init__(
        self,
        sampler: Sampler,
        index: FeatureIndex,
        crop_frames: int,
        vtlp: Sequence[float],
        band: tuple[float, float],
        device: torch.device,
    ) -> None:
        self.sampler, self.index, self.crop_frames, self.device = sampler, index, crop_frames, device
        warps = [vtlp_matrix(factor, index.feature_dim, *band) for factor in (1.0, *vtlp)]
        self._warps = torch.from_numpy(np.stack(warps)).to(device)

    def load(self, first: int, end: int) -> Generator[tuple[Tensor, Tensor]]:
        """Yield the batches ``first`` to ``end`` - 1.

        Yields
        ------
        features : Tensor, shape (rows, frames, bins)
            This rank's shard of the batch, on the device.
        speakers : Tensor, shape (batch,)
            Speaker numbers of the whole batch, on the CPU.

        Raises
        ------
        InputError
            If a crop cannot be read or has values that are not finite. The line names the utterance.
        """
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, first) if first < end else None
            for number in range(first, end):
                assert ahead is not None
                batch, crops = ahead.result()
                ahead = reader.submit(self._read, number + 1) if number + 1 < end else None
                features = crops.to(self.device, non_blocking=True)
                speakers = torch.from_numpy(self.index.speaker[batch.utterances]).long()
                if len(self._warps) > 1:
                    copies = torch.from_numpy(batch.copies)
                    features = features @ self._warps[copies[shard(len(copies))].to(self.device, non_blocking=True)]
                    speakers = speakers + copies * len(self.index.speakers)
                yield features, speakers

    def _read(self, number: int) -> tuple[Batch, Tensor]:
        """Return the batch and this rank's crops."""
        batch = self.sampler.batch(number)
        rows = shard(len(batch.utterances))
        utterances = batch.utterances[rows]
        crops = self.index.crops(utterances, batch.crop_positions[rows], self.crop_frames)
        # The sum of a crop is finite if and only if its values are; they are far from the limits of float32.
        for row in np.flatnonzero(~np.isfinite(crops.sum(axis=(1, 2)))):
            raise not_finite_error(self.index, int(utterances[row]))
        tensor = torch.from_numpy(crops)
        return batch, tensor.pin_memory() if self.device.type == "cuda" else tensor


def not_finite_error(index: FeatureIndex, utterance: int) -> InputError:
    """Return the error that names an utterance with values that are not finite."""
    return InputError(
        f"{index.data_dir}/feats.scp: {index.utterance_id(utterance)} has values that are not finite numbers; make its "
        "features again (stage 2) or remove it"
    )
