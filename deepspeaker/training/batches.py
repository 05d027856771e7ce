"""Which utterances a training step sees, and the crops of them that the network gets.

A batch is a pure function of the seed and its number, so a training can be resumed at any step.
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
from deepspeaker.features import FeatureIndex, frequency_warp
from deepspeaker.training.distributed import shard


class Batch(NamedTuple):
    """The utterances of a step and where their crops begin, as a share of the frames that there are to choose from."""

    utterances: NDArray[np.int32]  # (batch,)
    crop_positions: NDArray[np.float64]  # (batch,), in [0, 1)
    copies: NDArray[np.int64]  # (batch,), which copy of the speaker: 0 is as recorded, others are warped


class Sampler(Protocol):
    """Which utterances a batch holds."""

    def batch(self, step: int) -> Batch:
        """The batch number ``step``, counted from 0."""


def _generator(seed: int, *position: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *position])))


class _Passes:
    """Endless passes over ``items`` things, each pass in another random order."""

    def __init__(self, items: int, seed: int) -> None:
        self.items, self.seed = items, seed
        self._latest = (-1, np.empty(0, dtype=np.int32))

    def order(self, number: int) -> NDArray[np.int32]:
        """The order of a pass, (items,)."""
        if self._latest[0] != number:
            self._latest = (number, _generator(self.seed, 0, number).permutation(np.arange(self.items, dtype=np.int32)))
        return self._latest[1]


class UtteranceSampler:
    """For softmax training: every utterance once a pass, in random order, as a random one of its copies."""

    def __init__(self, utterances: int, batch_size: int, seed: int, copies: int = 1) -> None:
        self.batch_size, self.seed, self.copies = batch_size, seed, copies
        self._passes = _Passes(utterances, seed)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0; a batch may run from one pass into the next."""
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
    """For triplet training: P ``speakers`` x K ``utterances`` a batch.

    Every speaker comes once a pass, in random order (the few that are left when P does not divide their number wait
    for the next pass); of each, K utterances without repetition. A speaker with fewer than K utterances gives some of
    them again, in other crops; one with a single utterance gives disjoint crops of it, and is left out if it is
    shorter than two crops of ``crop_frames`` (``frames``: those of each utterance). With fewer than P speakers a batch
    has all of them. All K are of one random copy of the speaker. ``of_speaker`` has the numbers of each speaker's
    utterances.

    ``usable`` holds the numbers of the speakers that can come, ``left_out`` counts the others. Raises ``InputError`` if
    fewer than two can come.
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
        usable = [n for n, own in enumerate(of_speaker) if len(own) > 1 or frames[own[0]] >= 2 * crop_frames]
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
        """The batch of a step, counted from 0; the K utterances of a speaker stand together."""
        number, within = divmod(step, len(self.usable) // self.speakers)
        speakers = self.usable[self._passes.order(number)[within * self.speakers : (within + 1) * self.speakers]]
        generator = _generator(self.seed, 1, step)
        chosen = [self._of(self.of_speaker[speaker], generator) for speaker in speakers]
        positions = generator.random(self.speakers * self.per_speaker)
        copies = np.repeat(generator.integers(self.copies, size=self.speakers), self.per_speaker)
        for place, own in enumerate(chosen):
            if len(self.of_speaker[speakers[place]]) == 1:
                rows = slice(place * self.per_speaker, (place + 1) * self.per_speaker)
                positions[rows] = self._disjoint(positions[rows], int(self.frames[own[0]]))
        return Batch(np.concatenate(chosen), positions, copies)

    def _of(self, own: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.int32]:
        rounds = -(-self.per_speaker // len(own))
        return np.concatenate([generator.permutation(own) for _ in range(rounds)])[: self.per_speaker]

    def _disjoint(self, uniform: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
        """Positions of crops that share no frame, as many as there is room for, by turns."""
        count = min(len(uniform), frames // self.crop_frames)
        spare = frames - count * self.crop_frames
        gaps = np.sort((uniform[:count] * (spare + 1)).astype(int))
        starts = (gaps + np.arange(count) * self.crop_frames)[np.arange(len(uniform)) % count]
        return np.asarray((starts + 0.5) / (frames - self.crop_frames + 1))


class Batches:
    """The crops of the utterances that ``sampler`` names, read one batch ahead of the network.

    ``numbers`` gives the features (rows, frames, bins) of this rank's shard, on the device, and the speakers (batch,)
    of the whole batch, on the CPU. A copy above 0 is warped by the factor ``vtlp[copy - 1]`` (see ``frequency_warp``;
    ``band`` is the lowest and the highest frequency of the bins) and counts as another speaker. Raises ``InputError``
    that names the utterance if a crop cannot be read or has values that are not finite.
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
        warps = [frequency_warp(factor, index.feature_dim, *band) for factor in (1.0, *vtlp)]
        self._warps = torch.from_numpy(np.stack(warps)).to(device)

    def numbers(self, first: int, end: int) -> Generator[tuple[Tensor, Tensor]]:
        """The batches ``first`` to ``end`` - 1."""
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
                    own = copies[shard(len(copies))].to(self.device, non_blocking=True)
                    features = features @ self._warps[own]
                    speakers = speakers + copies * len(self.index.speakers)
                yield features, speakers

    def _read(self, number: int) -> tuple[Batch, Tensor]:
        """The batch and this rank's crops."""
        batch = self.sampler.batch(number)
        mine = shard(len(batch.utterances))
        utterances = batch.utterances[mine]
        crops = self.index.crops(utterances, batch.crop_positions[mine], self.crop_frames)
        # The sum of a crop is finite if and only if its values are; they are far from the limits of float32.
        for row in np.flatnonzero(~np.isfinite(crops.sum(axis=(1, 2)))):
            raise not_finite(self.index, int(utterances[row]))
        tensor = torch.from_numpy(crops)
        return batch, tensor.pin_memory() if self.device.type == "cuda" else tensor


def not_finite(index: FeatureIndex, utterance: int) -> InputError:
    """The error that names an utterance with such values."""
    return InputError(
        f"{index.data_dir}/feats.scp: {index.utterance_id(utterance)} has values that are not finite numbers; make its "
        "features again (stage 2) or remove it"
    )
