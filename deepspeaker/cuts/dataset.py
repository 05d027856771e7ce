"""Training batches of crops and speaker numbers from Lhotse cuts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lhotse import CutSet
from numpy.typing import NDArray
from torch import Tensor

from deepspeaker.audio import resample
from deepspeaker.cuts.speakers import speaker_of
from deepspeaker.errors import InputError
from deepspeaker.features import FbankExtractor, mean_variance_normalised
from deepspeaker.kaldi import parse_location, read_rows


class SpeakerCropDataset(torch.utils.data.Dataset[dict[str, Tensor]]):
    """A dataset that turns the batches of ``SpeakerCutSampler``, or of any sampler of CutSets, into tensors.

    A batch is a dictionary of ``features``, a float32 tensor of shape (cuts, frames, bins), and ``speakers``, an int64
    tensor of shape (cuts,) of indices into the list of speakers.

    Parameters
    ----------
    speakers
        The speaker ids.
    frames
        Number of frames of a crop. A longer cut is truncated, a shorter one is repeated.
    normalise
        Whether to normalise each bin of a crop to zero mean and unit variance. Use it for audio and raw features. The
        features in the recipe's ``*_nosil`` directories are already normalised over the utterance.
    fbank
        Options of ``deepspeaker.features.FbankExtractor`` for cuts without features. The default is the recipe's 64
        log-mel bins at 16 kHz.

    Raises
    ------
    InputError
        A cut has no known speaker, its features cannot be read, or they have another number of bins than the rest of
        the batch; names the cut.

    Notes
    -----
    Only the rows of the crop are read from a "kaldiio" archive, without kaldi_native_io. The channels of audio are
    averaged.
    """

    def __init__(
        self,
        speakers: Sequence[str],
        frames: int,
        normalise: bool = False,
        fbank: Mapping[str, Any] | None = None,
    ) -> None:
        self.frames, self.normalise = frames, normalise
        self._number = {speaker: number for number, speaker in enumerate(speakers)}
        self._options = {"sampling_rate": 16000, **(fbank or {})}
        self._extractor: FbankExtractor | None = None
        self._opened: dict[str, int] = {}

    def __getitem__(self, cuts: CutSet) -> dict[str, Tensor]:
        crops: list[NDArray[np.float32]] = []
        numbers: list[int] = []
        for cut in cuts:
            speaker = speaker_of(cut)
            if speaker not in self._number:
                raise InputError(f"cut {cut.id}: the speaker {speaker} is not in the dataset; add it to its speakers")
            features = self._features(cut)
            bins = (crops[0] if crops else features).shape[1]
            if len(features) == 0 or features.shape[1] != bins:
                raise InputError(f"cut {cut.id}: has features of shape {features.shape}, needs frames of {bins} bins")
            crop = features[np.arange(self.frames) % len(features)]
            crops.append(mean_variance_normalised(crop) if self.normalise else crop)
            numbers.append(self._number[speaker])
        return {"features": torch.from_numpy(np.stack(crops)), "speakers": torch.tensor(numbers)}

    def _features(self, cut: Any) -> NDArray[np.float32]:
        """Return at most the first ``frames`` frames of a cut."""
        try:
            if cut.has_features:
                rows = self._read_rows(cut)
                if rows is None:
                    rows = np.asarray(cut.load_features(), dtype=np.float32)
            elif cut.has_recording:
                rows = self._compute(cut)
            else:
                raise InputError("has neither features nor audio")
        except InputError as error:
            raise InputError(f"cut {cut.id}: {error}") from None
        return rows[: self.frames]

    def _read_rows(self, cut: Any) -> NDArray[np.float32] | None:
        """Read the crop straight from a Kaldi archive, None if the features are not in one."""
        features = getattr(cut, "features", None)
        if features is None or features.storage_type != "kaldiio" or features.storage_path.endswith(".scp"):
            return None
        path, offset = parse_location(features.storage_path)
        if path not in self._opened:
            try:
                self._opened[path] = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise InputError(f"{path}: {error.strerror}") from None
        start = round((cut.start - features.start) / features.frame_shift)
        count = min(self.frames, cut.num_frames, features.num_frames - start)
        return read_rows(self._opened[path], offset, start, count)

    def _compute(self, cut: Any) -> NDArray[np.float32]:
        if self._extractor is None:
            self._extractor = FbankExtractor(**self._options)
        rate = int(self._options["sampling_rate"])
        samples = resample(np.asarray(cut.load_audio(), dtype=np.float32).mean(axis=0), cut.sampling_rate, rate)
        if len(samples) < self._extractor.minimum_samples:
            raise InputError(f"has {len(samples)} samples, less than one frame")
        return self._extractor(samples)[0]

    def __getstate__(self) -> dict[str, Any]:
        # Workers of a DataLoader open the archives and create the extractor themselves.
        return {**self.__dict__, "_opened": {}, "_extractor": None}
