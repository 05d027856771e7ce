"""From the sampler's batches to network inputs."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex, frequency_warp
from deepspeaker.training.distributed import share
from deepspeaker.training.sampler import Batch

#: Training stops when more of the utterances have values that are not finite.
MOST_NOT_FINITE = 0.01


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

    An utterance with values that are not finite numbers gives way to another one of its speaker and is noted in
    ``not_finite``, a file; more than 1 % of them raise ``InputError``.
    """

    def __init__(
        self,
        sampler: Sampler,
        index: FeatureIndex,
        crop_frames: int,
        vtlp: Sequence[float],
        band: tuple[float, float],
        device: torch.device,
        not_finite: Path,
    ) -> None:
        self.sampler, self.index, self.crop_frames, self.device = sampler, index, crop_frames, device
        warps = [frequency_warp(factor, index.feature_dim, *band) for factor in (1.0, *vtlp)]
        self._warps = torch.from_numpy(np.stack(warps)).to(device)
        self._not_finite_file = not_finite
        self._not_finite: set[int] = set()

    def numbers(self, first: int, end: int) -> Generator[Inputs]:
        """The batches ``first`` to ``end`` - 1."""
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, first) if first < end else None
            for number in range(first, end):
                assert ahead is not None
                batch, crops = ahead.result()
                ahead = reader.submit(self._read, number + 1) if number + 1 < end else None
                yield self._inputs(batch, crops)

    def _inputs(self, batch: Batch, crops: NDArray[np.float32]) -> Inputs:
        features = torch.from_numpy(crops).to(self.device)
        speakers = torch.from_numpy(self.index.speaker[batch.utterances]).to(self.device, torch.int64)
        if len(self._warps) > 1:
            copies = torch.from_numpy(batch.copies).to(self.device)
            features = features @ self._warps[copies[share(len(copies))]]
            speakers = speakers + copies * len(self.index.speakers)
        return Inputs(features, speakers)

    def _read(self, number: int) -> tuple[Batch, NDArray[np.float32]]:
        batch = self.sampler.batch(number)
        mine = share(len(batch.utterances))
        utterances, positions = batch.utterances[mine], batch.crop_positions[mine]
        crops = self.index.crops(utterances, positions, self.crop_frames)
        # The sum of a crop is finite just when its values are (they are far from the limit of float32).
        for row in np.flatnonzero(~np.isfinite(crops.sum(axis=(1, 2)))):
            crops[row] = self._substitute(int(utterances[row]), positions[row : row + 1])
        return batch, crops

    def _substitute(self, utterance: int, position: NDArray[np.float64]) -> NDArray[np.float32]:
        self._note(utterance)
        for other in self.index.of_speaker[int(self.index.speaker[utterance])]:
            if int(other) not in self._not_finite:
                crop: NDArray[np.float32] = self.index.crops(np.array([other]), position, self.crop_frames)[0]
                if np.isfinite(crop).all():
                    return crop
                self._note(int(other))
        raise InputError(
            f"{self.index.data_dir}/feats.scp: all utterances of {self.index.speakers[self.index.speaker[utterance]]} "
            "have values that are not finite numbers; remove the speaker or make its features again"
        )

    def _note(self, utterance: int) -> None:
        if utterance in self._not_finite:
            return
        self._not_finite.add(utterance)
        name = self.index.utterance_id(utterance)
        self._not_finite_file.parent.mkdir(parents=True, exist_ok=True)
        with self._not_finite_file.open("a", encoding="utf-8") as stream:
            stream.write(f"{name}\n")
        if len(self._not_finite) <= 10:
            print(f"left out: {name} has values that are not finite numbers; all in {self._not_finite_file}")
        if len(self._not_finite) > MOST_NOT_FINITE * len(self.index):
            raise InputError(
                f"{self.index.data_dir}/feats.scp: {len(self._not_finite)} of {len(self.index)} utterances have "
                f"values that are not finite numbers, more than 1 % (list: {self._not_finite_file}); make them again"
            )
