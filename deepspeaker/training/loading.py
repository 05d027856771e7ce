"""A loader reads the crops that a sampler chooses."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex, vtlp_matrix
from deepspeaker.training.batches import Batch, Sampler
from deepspeaker.training.distributed import shard


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
