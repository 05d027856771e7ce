"""Random access to the frames of a data directory: an index of its arks, crops read straight from the files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.kaldi import parse_location, read_header, read_rows, read_table


class FeatureIndex:
    """Where the features of each utterance of a Kaldi data directory lie, and whose they are.

    Utterances stand in the order of their ids; utterance ``i`` has ``frames[i]`` frames and speaker
    ``speaker[i]``, a number into ``speakers``, the sorted speaker ids. The arks stay open and are read with pread,
    so threads and forked processes may share an index.

    Raises ``InputError`` when the directory has no ``feats.scp`` or ``utt2spk``, or they do not fit together.
    """

    def __init__(self, data_dir: str | Path) -> None:
        self.data_dir = Path(data_dir)
        if not (self.data_dir / "feats.scp").is_file():
            raise InputError(f"{self.data_dir}/feats.scp: no such file; run stage 2 (local/2_fbank.sh) first")
        feats = read_table(self.data_dir / "feats.scp")
        utt2spk = read_table(self.data_dir / "utt2spk")
        num_frames = read_table(self.data_dir / "utt2num_frames")
        if not feats:
            raise InputError(f"{self.data_dir}/feats.scp: has no utterance")
        for utterance in feats:
            if utterance not in utt2spk or utterance not in num_frames:
                missing = "utt2spk" if utterance not in utt2spk else "utt2num_frames"
                raise InputError(f"{self.data_dir}/{missing}: {utterance} of feats.scp is missing; run stage 2 again")
            if not num_frames[utterance].isdecimal() or int(num_frames[utterance]) == 0:
                raise InputError(f"{self.data_dir}/utt2num_frames: {utterance} has no frames; run stage 2 again")
        utterances = sorted(feats)
        self.utterances = utterances
        self.speakers = sorted({utt2spk[utterance] for utterance in utterances})
        number = {speaker: index for index, speaker in enumerate(self.speakers)}
        self.speaker = np.array([number[utt2spk[utterance]] for utterance in utterances], dtype=np.int32)
        self.frames = np.array([int(num_frames[utterance]) for utterance in utterances], dtype=np.int32)
        order = np.argsort(self.speaker, kind="stable")
        bounds = np.searchsorted(self.speaker[order], np.arange(len(self.speakers) + 1))
        #: for each speaker its utterances
        self.of_speaker = [order[bounds[i] : bounds[i + 1]] for i in range(len(self.speakers))]
        locations = [parse_location(feats[utterance]) for utterance in utterances]
        paths = sorted({path for path, _ in locations})
        self._descriptor: dict[str, int] = {}
        try:
            for path in paths:
                self._descriptor[path] = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror}; {self.data_dir}/feats.scp names it") from None
        self._file = np.array([self._descriptor[path] for path, _ in locations], dtype=np.int32)
        self._offset = np.array([offset for _, offset in locations], dtype=np.int64)
        try:
            self.feature_dim = read_header(int(self._file[0]), int(self._offset[0])).cols
        except InputError as error:
            raise InputError(f"{self.data_dir}/feats.scp: {utterances[0]}: {locations[0][0]}: {error}") from None

    def __len__(self) -> int:
        return len(self.utterances)

    def read(self, utterance: int) -> NDArray[np.float32]:
        """All frames of an utterance (by its number), (frames, feature_dim)."""
        rows = self._rows(utterance, 0, None)
        if len(rows) != self.frames[utterance]:
            raise InputError(
                f"{self.data_dir}/utt2num_frames: {self.utterances[utterance]} has {len(rows)} frames in its ark, "
                f"{self.frames[utterance]} here; run stage 2 again"
            )
        return rows

    def crops(self, utterances: NDArray[np.int64], uniform: NDArray[np.float64], frames: int) -> NDArray[np.float32]:
        """A crop of ``frames`` frames of each utterance, (len(utterances), frames, feature_dim).

        ``uniform`` in [0, 1) decides where each crop begins. An utterance that is shorter than a crop is repeated
        until it fills it.
        """
        batch = np.empty((len(utterances), frames, self.feature_dim), dtype=np.float32)
        for row, utterance in enumerate(utterances):
            spare = int(self.frames[utterance]) - frames
            if spare >= 0:
                start = int(uniform[row] * (spare + 1))
                batch[row] = self._rows(int(utterance), start, frames)
            else:
                whole = self._rows(int(utterance), 0, None)
                shift = int(uniform[row] * len(whole))
                batch[row] = whole[(shift + np.arange(frames)) % len(whole)]
        return batch

    def _rows(self, utterance: int, start: int, count: int | None) -> NDArray[np.float32]:
        try:
            rows = read_rows(int(self._file[utterance]), int(self._offset[utterance]), start, count)
        except InputError as error:
            raise InputError(f"{self.data_dir}/feats.scp: {self.utterances[utterance]}: {error}") from None
        if rows.shape[1] != self.feature_dim:
            raise InputError(
                f"{self.data_dir}/feats.scp: {self.utterances[utterance]} has {rows.shape[1]} bins, "
                f"the first utterance {self.feature_dim}; all must have the same"
            )
        return rows

    def close(self) -> None:
        """Closes the arks."""
        for descriptor in self._descriptor.values():
            os.close(descriptor)
        self._descriptor.clear()
