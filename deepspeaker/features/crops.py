"""Random access to the frames of a data directory: an index of its arks, and crops read straight from them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.kaldi import MatrixHeader, parse_location, read_header, read_rows, read_rows_into, scan_table

if TYPE_CHECKING:
    import polars as pl

#: How many utterances are checked when an index is opened, besides the first and last of each ark.
CHECKED_UTTERANCES = 200


class UtterancesBySpeaker(Sequence[NDArray[np.int32]]):
    """The utterance numbers of each speaker number, ascending. Takes 4 bytes per utterance and 8 per speaker.

    Parameters
    ----------
    speaker
        The speaker number of each utterance, (utterances,).
    speakers
        The number of speakers.

    Examples
    --------
    >>> by_speaker = UtterancesBySpeaker(np.array([0, 1, 0], dtype=np.int32), speakers=2)
    >>> [utterances.tolist() for utterances in by_speaker], by_speaker.sizes().tolist()
    ([[0, 2], [1]], [2, 1])
    """

    def __init__(self, speaker: NDArray[np.int32], speakers: int) -> None:
        self._order = np.argsort(speaker, kind="stable").astype(np.int32)
        self._bounds = np.concatenate([[0], np.cumsum(np.bincount(speaker, minlength=speakers))])

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, number: int) -> NDArray[np.int32]: ...
    @overload
    def __getitem__(self, number: slice) -> list[NDArray[np.int32]]: ...
    def __getitem__(self, number: int | slice) -> NDArray[np.int32] | list[NDArray[np.int32]]:
        if isinstance(number, slice):
            return [self[item] for item in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._order[self._bounds[number] : self._bounds[number + 1]]

    def sizes(self) -> NDArray[np.int64]:
        """Return the number of utterances of each speaker, (speakers,)."""
        return np.diff(self._bounds)


class FeatureIndex:
    """An index of the features of a Kaldi data directory.

    Utterances are numbered in the order of their ids.

    Parameters
    ----------
    data_dir
        A directory with ``feats.scp``, ``utt2spk`` and ``utt2num_frames``.

    Attributes
    ----------
    frames
        The length of each utterance, (utterances,).
    speakers
        The sorted speaker ids.
    speaker
        The speaker of each utterance as an index into ``speakers``, (utterances,).
    of_speaker
        The utterances of each speaker.
    feature_dim
        The number of bins of a frame.

    Raises
    ------
    InputError
        A table is missing, the tables do not match each other, or an ark does not match them.

    Notes
    -----
    The index needs 32 bytes of memory per utterance. It reads ids from ``feats.scp``, which stays open. The arks stay
    open too and are read with pread, so threads and forked processes can share an index.

    Opening an index checks the first and last matrix of each ark and up to ``CHECKED_UTTERANCES`` others. This finds a
    truncated or regenerated ark before work begins. Each read checks the number of frames again. An ark regenerated
    with different values but equal lengths goes undetected.
    """

    def __init__(self, data_dir: str | Path) -> None:
        self.data_dir = Path(data_dir)
        scp = self.data_dir / "feats.scp"
        if not scp.is_file():
            raise InputError(f"{scp}: no such file; run stage 2 (local/2_fbank.sh) first")
        table = _joined_tables(self.data_dir)
        self.speakers: list[str] = table["speaker"].unique().sort().to_list()
        numbers = table["speaker"].replace_strict(self.speakers, list(range(len(self.speakers))))
        self.speaker = numbers.to_numpy().astype(np.int32)
        self.of_speaker = UtterancesBySpeaker(self.speaker, len(self.speakers))
        self.frames = table["frames"].to_numpy().astype(np.int32)
        self._line = table["line"].to_numpy().astype(np.int64)
        self._offset = table["offset"].to_numpy().astype(np.int64)
        paths: list[str] = table["path"].unique().sort().to_list()
        self._descriptors: list[int] = []
        try:
            self._scp = self._open(scp)
            descriptors = [self._open(path) for path in paths]
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror}; {scp} names it") from None
        self._file = table["path"].replace_strict(paths, descriptors).to_numpy().astype(np.int32)
        self._paths = dict(zip(descriptors, paths, strict=True))
        self.feature_dim = 0
        try:
            for utterance in _utterances_to_check(self._file, self._offset):
                header = self._header(utterance)
                if (end := os.fstat(int(self._file[utterance])).st_size) < header.end:
                    raise self._error(utterance, f"the ark ends at byte {end}, {header.end} are needed; recreate it")
        except InputError:
            self.close()
            raise

    def _open(self, path: str | Path) -> int:
        self._descriptors.append(os.open(path, os.O_RDONLY))
        return self._descriptors[-1]

    def __len__(self) -> int:
        return len(self.frames)

    def utterance_id(self, utterance: int) -> str:
        """Return the id of an utterance number."""
        line = b""
        while not line.split(maxsplit=1)[1:]:
            block = os.pread(self._scp, 256, int(self._line[utterance]) + len(line))
            if not block:
                break
            line += block
        return line.split(maxsplit=1)[0].decode()

    @property
    def utterances(self) -> list[str]:
        """The ids of all utterances, in order."""
        return [self.utterance_id(utterance) for utterance in range(len(self))]

    def read(self, utterance: int) -> NDArray[np.float32]:
        """Return all frames of an utterance number, (frames, feature_dim)."""
        return self._rows(utterance, 0, None)

    def crops(self, utterances: NDArray[np.int32], uniform: NDArray[np.float64], frames: int) -> NDArray[np.float32]:
        """Return a crop of each utterance.

        Parameters
        ----------
        utterances
            Utterance numbers, (crops,).
        uniform
            Where each crop begins, from 0 (the first possible frame) to below 1, (crops,).
        frames
            The length of a crop. An utterance that is shorter is repeated.

        Returns
        -------
        NDArray
            (crops, frames, feature_dim).
        """
        batch = np.empty((len(utterances), frames, self.feature_dim), dtype=np.float32)
        length = self.frames[utterances]
        starts = (uniform * np.where(length >= frames, length - frames + 1, length)).astype(np.int64)
        columns = (utterances, length, starts, self._file[utterances], self._offset[utterances])
        places = zip(*(column.tolist() for column in columns), strict=True)
        for row, (utterance, num_frames, start, descriptor, offset) in enumerate(places):
            if num_frames < frames:
                whole = self._rows(utterance, 0, None)
                batch[row] = whole[(start + np.arange(frames)) % len(whole)]
            elif not read_rows_into(descriptor, offset, num_frames, start, batch[row]):
                batch[row] = self._rows(utterance, start, frames)
        return batch

    def _rows(self, utterance: int, start: int, count: int | None) -> NDArray[np.float32]:
        header = self._header(utterance)
        try:
            return read_rows(int(self._file[utterance]), int(self._offset[utterance]), start, count, header)
        except InputError as error:
            raise self._error(utterance, error) from None

    def _header(self, utterance: int) -> MatrixHeader:
        """Read the header of an utterance; check it against the tables and the first utterance."""
        try:
            header = read_header(int(self._file[utterance]), int(self._offset[utterance]))
        except InputError as error:
            raise self._error(utterance, error) from None
        self.feature_dim = self.feature_dim or header.cols
        if header.cols != self.feature_dim:
            raise InputError(
                f"{self.data_dir}/feats.scp: {self.utterance_id(utterance)} has {header.cols} bins, "
                f"the first utterance {self.feature_dim}; all must have the same"
            )
        if header.rows != self.frames[utterance]:
            raise InputError(
                f"{self.data_dir}/utt2num_frames: {self.utterance_id(utterance)} has {self.frames[utterance]} frames, "
                f"but {header.rows} in {self._paths[int(self._file[utterance])]}; run stage 2 again"
            )
        return header

    def _error(self, utterance: int, reason: object) -> InputError:
        path = self._paths[int(self._file[utterance])]
        return InputError(f"{self.data_dir}/feats.scp: {self.utterance_id(utterance)}: {path}: {reason}")

    def close(self) -> None:
        """Close the files."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def _utterances_to_check(file: NDArray[np.int32], offset: NDArray[np.int64]) -> list[int]:
    """Return the first utterance, those with the lowest and highest offset of each file, and some in between."""
    import polars as pl

    table = pl.DataFrame({"file": file, "offset": offset}).with_row_index("utterance")
    utterance, place = pl.col("utterance"), pl.col("offset")
    ends = table.group_by("file").agg(first=utterance.get(place.arg_min()), last=utterance.get(place.arg_max()))
    between = np.linspace(0, len(file) - 1, min(len(file), CHECKED_UTTERANCES)).astype(int)
    return sorted({0, *ends["first"].to_list(), *ends["last"].to_list(), *between.tolist()})


def _joined_tables(data_dir: Path) -> pl.DataFrame:
    """Return a table sorted by id with columns path, offset, speaker, frames, and line: its byte in feats.scp."""
    import polars as pl

    feats, utt2spk = scan_table(data_dir / "feats.scp"), scan_table(data_dir / "utt2spk").drop("line")
    num_frames = scan_table(data_dir / "utt2num_frames").drop("line")
    if not len(feats):
        raise InputError(f"{data_dir}/feats.scp: has no utterance")
    if not feats["key"].is_sorted():
        feats = feats.sort("key")
    place = pl.col("value").str.extract_groups(r"^(.*):([0-9]{1,18})$")
    feats = feats.with_columns(path=place.struct[0].fill_null(pl.col("value")), offset=place.struct[1].fill_null("0"))
    unsupported = feats.filter(pl.col("value").str.contains(r"[|\]]$"))
    if len(unsupported):
        parse_location(unsupported["value"][0])  # always raises, naming the entry
    table = feats.drop("value")
    for name, other, column in (("utt2spk", utt2spk, "speaker"), ("utt2num_frames", num_frames, "frames")):
        other = other.rename({"value": column})
        if other["key"].equals(table["key"]):
            table = table.with_columns(other[column])
            continue
        table = table.join(other, on="key", how="left", maintain_order="left")
        missing = table.filter(pl.col(column).is_null())
        if len(missing):
            raise InputError(f"{data_dir}/{name}: {missing['key'][0]} of feats.scp is missing; run stage 2 again")
    wrong = table.filter(~pl.col("frames").str.contains("^0*[1-9][0-9]{0,8}$"))
    if len(wrong):
        raise InputError(f"{data_dir}/utt2num_frames: {wrong['key'][0]} has no frames; run stage 2 again")
    return table.with_columns(pl.col("offset", "frames").cast(pl.Int64)).drop("key")
