"""What a network for speakers learns from: crops of features and speaker numbers, from the cuts of a batch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lhotse import CutSet
from numpy.typing import NDArray
from torch import Tensor

from deepspeaker.audio import resampled
from deepspeaker.cuts.speakers import speaker_of
from deepspeaker.errors import InputError
from deepspeaker.features import FbankExtractor, mean_variance_normalised
from deepspeaker.kaldi import parse_location, read_rows


class SpeakerCropDataset(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Batches of ``SpeakerCutSampler`` (or any other sampler of CutSets) as tensors.

    ``features`` (cuts, ``frames``, bins) float32 and ``speakers`` (cuts,) int64, numbers into the list ``speakers``. Of
    each cut the first ``frames`` frames are taken; a shorter one is repeated until it fills them. A cut's features are
    taken as they are (of a "kaldiio" archive just the rows that are needed are read, without kaldi_native_io); a cut
    with audio alone gets those of the recipe (64 log-mel bins unless ``fbank`` has other options of
    ``deepspeaker.features.FbankExtractor``; channels averaged). With ``normalise`` each bin of the crop has zero mean
    and unit variance: for audio and raw features; the recipe's ``*_nosil`` archives are normalised over the utterance.

    Raises ``InputError`` that names the cut: no or an unknown speaker, features that cannot be read or have another
    number of bins.
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
                raise InputError(f"cut {cut.id}: the speaker {speaker} is not among those of the dataset")
            features = self._features(cut)
            if len(features) == 0 or features.shape[1] != (crops[0] if crops else features).shape[1]:
                raise InputError(f"cut {cut.id}: has features {features.shape}, others of the batch other bins")
            crop = features[np.arange(self.frames) % len(features)]
            crops.append(mean_variance_normalised(crop) if self.normalise else crop)
            numbers.append(self._number[speaker])
        return {"features": torch.from_numpy(np.stack(crops)), "speakers": torch.tensor(numbers)}

    def _features(self, cut: Any) -> NDArray[np.float32]:
        """The first ``frames`` frames of a cut, or all that there are."""
        try:
            if cut.has_features:
                rows = self._rows(cut)
                if rows is None:
                    rows = np.asarray(cut.load_features(), dtype=np.float32)
            elif cut.has_recording:
                rows = self._computed(cut)
            else:
                raise InputError("has neither features nor audio")
        except InputError as error:
            raise InputError(f"cut {cut.id}: {error}") from None
        return rows[: self.frames]

    def _rows(self, cut: Any) -> NDArray[np.float32] | None:
        """Straight from the archive, for a cut whose features lie in one."""
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

    def _computed(self, cut: Any) -> NDArray[np.float32]:
        if self._extractor is None:
            self._extractor = FbankExtractor(**self._options)
        rate = int(self._options["sampling_rate"])
        samples = resampled(np.asarray(cut.load_audio(), dtype=np.float32).mean(axis=0), cut.sampling_rate, rate)
        if len(samples) < self._extractor.minimum_samples:
            raise InputError(f"has {len(samples)} samples, less than one frame")
        return self._extractor(samples)[0]

    def __getstate__(self) -> dict[str, Any]:
        """Workers of a DataLoader open the archives and make the extractor themselves."""
        return {**self.__dict__, "_opened": {}, "_extractor": None}
