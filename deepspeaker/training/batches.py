"""From the sampler's batches to network inputs."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex, frequency_warp
from deepspeaker.training.distributed import gathered, share
from deepspeaker.training.not_finite import NotFinite
from deepspeaker.training.sampler import Batch


class Sampler(Protocol):
    """Which utterances a batch holds."""

    def batch(self, step: int) -> Batch:
        """The batch number ``step``, counted from 0."""


class Inputs(NamedTuple):
    """What a step computes with."""

    features: Tensor  # (rows, frames, bins), this process' share of the batch
    speakers: Tensor  # (batch,), those of the whole batch


class Batches:
    """Crops of ``crop_frames`` frames of the utterances that ``sampler`` names, read one batch ahead of the network.

    A copy above 0 is warped by the factor ``vtlp[copy - 1]`` (see ``frequency_warp``; ``band`` is the lowest and the
    highest frequency of the bins) and counts as another speaker.

    A crop with values that are not finite numbers gives way to one of another utterance of its speaker, or, where none
    of these has a crop to give, of the next speaker that has and is not in the batch (is in it too, if there is no
    other). Which one is a function of batch number and data. The utterance is named in a list in ``log``, which goes on
    where the training is ``resumed``; more than 1 % of all utterances in it raise ``InputError`` (see ``NotFinite``).
    """

    def __init__(
        self,
        sampler: Sampler,
        index: FeatureIndex,
        crop_frames: int,
        vtlp: Sequence[float],
        band: tuple[float, float],
        device: torch.device,
        log: Path,
        resumed: bool = False,
    ) -> None:
        self.sampler, self.index, self.crop_frames, self.device = sampler, index, crop_frames, device
        warps = [frequency_warp(factor, index.feature_dim, *band) for factor in (1.0, *vtlp)]
        self._warps = torch.from_numpy(np.stack(warps)).to(device)
        self._not_finite = NotFinite(index, log, resumed)
        self._left_out: set[int] = set()

    def numbers(self, first: int, end: int) -> Generator[Inputs]:
        """The batches ``first`` to ``end`` - 1."""
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, first) if first < end else None
            for number in range(first, end):
                assert ahead is not None
                batch, crops, speakers = ahead.result()
                ahead = reader.submit(self._read, number + 1) if number + 1 < end else None
                yield self._inputs(batch, crops, speakers)

    def _inputs(self, batch: Batch, crops: NDArray[np.float32], own: NDArray[np.int32]) -> Inputs:
        features = torch.from_numpy(crops).to(self.device)
        # Another process may have put another speaker in the place of one.
        speakers = gathered(torch.from_numpy(own).to(self.device, torch.int64), len(batch.utterances))
        if len(self._warps) > 1:
            copies = torch.from_numpy(batch.copies).to(self.device)
            features = features @ self._warps[copies[share(len(copies))]]
            speakers = speakers + copies * len(self.index.speakers)
        return Inputs(features, speakers)

    def _read(self, number: int) -> tuple[Batch, NDArray[np.float32], NDArray[np.int32]]:
        """The batch, this process' crops and their speakers."""
        batch = self.sampler.batch(number)
        mine = share(len(batch.utterances))
        utterances = batch.utterances[mine]
        crops = self.index.crops(utterances, batch.crop_positions[mine], self.crop_frames)
        speakers = self.index.speaker[utterances]
        # The sum of a crop is finite just when its values are (they are far from the limit of float32).
        for row in np.flatnonzero(~np.isfinite(crops.sum(axis=(1, 2)))):
            self._not_finite.note(int(utterances[row]))
            crops[row], speakers[row] = self._substitute(batch, mine.start + int(row))
        return batch, crops, speakers

    def _substitute(self, batch: Batch, row: int) -> tuple[NDArray[np.float32], int]:
        """A crop in the place of another, and its speaker."""
        position, own = batch.crop_positions[row : row + 1], int(self.index.speaker[batch.utterances[row]])
        for speaker in self._speakers_from(own, batch):
            # Crops of one speaker that give way do so to different utterances, as far as there are.
            for other in np.roll(self.index.of_speaker[speaker], -row):
                crop: NDArray[np.float32] = self.index.crops(np.array([other]), position, self.crop_frames)[0]
                if np.isfinite(crop).all():
                    return crop, speaker
                self._not_finite.note(int(other))
            if speaker == own and own not in self._left_out:
                self._left_out.add(own)
                print(f"left out: {self.index.speakers[own]}, where no other utterance can be taken", flush=True)
        raise InputError(f"{self.index.data_dir}/feats.scp: no utterance has finite numbers; make the features again")

    def _speakers_from(self, own: int, batch: Batch) -> Iterator[int]:
        """A speaker, those that follow and are not in the batch, those that are."""
        count, there = len(self.index.speakers), set(self.index.speaker[batch.utterances].tolist())
        following = range(own + 1, own + count)
        yield own
        yield from (number % count for number in following if number % count not in there)
        yield from (number % count for number in following if number % count in there)
