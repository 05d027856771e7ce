"""Kaldi data directories: a folder of tables about the same utterances."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write
from deepspeaker.kaldi.tables import read_lines, read_table, spk2utt_of, write_spk2utt, write_table

#: Kaldi's tables -> the kind of their keys. Without ``segments``, the recordings are the utterances.
TABLE_KEYS = {
    "utt2spk": "utterance",
    "spk2utt": "speaker",
    **dict.fromkeys(("text", "segments", "feats.scp", "vad.scp", "utt2lang", "utt2uniq"), "utterance"),
    **dict.fromkeys(("utt2dur", "utt2num_frames", "utt2warp"), "utterance"),
    **dict.fromkeys(("cmvn.scp", "spk2gender", "spk2warp"), "speaker"),
    **dict.fromkeys(("wav.scp", "reco2file_and_channel", "reco2dur"), "recording"),
}

#: The lines of tables by the names of their files.
Tables = dict[str, list[bytes]]


class Segment(NamedTuple):
    """A line of ``segments``: the position of an utterance in its recording."""

    recording: str
    start: float  # seconds
    end: float | None  # seconds; None: the end of the recording


def parse_segment(value: str) -> Segment:
    """Parse a line of ``segments`` without its utterance: recording, start and end in seconds.

    An end of -1 means the end of the recording.

    Raises
    ------
    InputError
        The value is not a segment. The message continues after the id of the utterance.

    Examples
    --------
    >>> parse_segment("recording-1 0.5 2.25")
    Segment(recording='recording-1', start=0.5, end=2.25)
    """
    columns = value.split()
    if len(columns) == 4:
        raise InputError("has a channel column, which is not supported; list each channel in wav.scp as a recording")
    if len(columns) != 3:
        raise InputError(f"needs recording, start and end, has {value!r}")
    try:
        start, end = float(columns[1]), float(columns[2])
    except ValueError:
        raise InputError(f"start and end must be seconds, are {columns[1]} and {columns[2]}") from None
    if not (math.isfinite(start) and math.isfinite(end)) or start < 0:
        raise InputError(f"cannot extend from {columns[1]} to {columns[2]} s")
    if end == -1:
        return Segment(columns[0], start, None)
    if end <= start:
        raise InputError(f"ends at {columns[2]} s, not after its start at {columns[1]} s")
    return Segment(columns[0], start, end)


@dataclass
class DataDir:
    """The tables of a data directory, each named after its file (``wav_scp`` for ``wav.scp``).

    Only ``utt2spk`` must have entries. An empty table has no file. ``spk2utt`` is derived from ``utt2spk``. Keys are
    utterances, except:

    - speakers in ``spk2gender``,
    - recordings in ``reco2dur``, and in ``wav_scp`` if there are ``segments``.
    """

    utt2spk: dict[str, str]
    wav_scp: dict[str, str] = field(default_factory=dict)
    segments: dict[str, str] = field(default_factory=dict)
    feats_scp: dict[str, str] = field(default_factory=dict)
    vad_scp: dict[str, str] = field(default_factory=dict)
    utt2num_frames: dict[str, str] = field(default_factory=dict)
    utt2dur: dict[str, str] = field(default_factory=dict)
    reco2dur: dict[str, str] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    spk2gender: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> DataDir:
        """Read a data directory and check that its tables agree.

        Raises
        ------
        InputError
            A table is missing or malformed, or tables contradict each other; names the file and the id.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path}: no such data directory")
        if not (path / "utt2spk").is_file():
            raise InputError(f"{path}/utt2spk: no such file; every Kaldi data directory needs it")
        files = {table.name: path / _file_name(table.name) for table in fields(cls)}
        data = cls(**{name: read_table(file) for name, file in files.items() if file.is_file()})
        if not data.utt2spk:
            raise InputError(f"{path}/utt2spk: has no utterance")
        if not data.wav_scp and not data.feats_scp:
            raise InputError(f"{path}: has neither wav.scp nor feats.scp with an entry; one is needed")
        for utterance, speaker in data.utt2spk.items():
            if not speaker or " " in speaker:
                raise InputError(f"{path}/utt2spk: {utterance} needs one speaker, has {speaker!r}")
        for name, file in files.items():
            by_utterance = name not in data._tables_by_recording() and name != "spk2gender"
            for key, value in getattr(data, name).items():
                if by_utterance and key not in data.utt2spk:
                    raise InputError(f"{file}: {key} is not in utt2spk; add it there or remove it here")
                if not value and name not in ("text", "spk2gender"):
                    raise InputError(f"{file}: {key} has no value; complete or remove it")
        data._check_segments(path)
        if (path / "spk2utt").is_file():
            spk2utt = {s: sorted(u.split()) for s, u in read_table(path / "spk2utt").items()}
            if spk2utt != data.spk2utt:
                raise InputError(f"{path}/spk2utt: contradicts utt2spk; remove it or recreate it from utt2spk")
        return data

    def _check_segments(self, path: Path) -> None:
        for utterance, value in self.segments.items():
            try:
                segment = parse_segment(value)
            except InputError as error:
                raise InputError(f"{path}/segments: {utterance} {error}") from None
            if self.wav_scp and segment.recording not in self.wav_scp:
                raise InputError(
                    f"{path}/segments: {utterance} is in {segment.recording}, which is not in wav.scp; add it there"
                )

    @property
    def spk2utt(self) -> dict[str, list[str]]:
        """The utterances of each speaker, both sorted."""
        return spk2utt_of(self.utt2spk)

    def segment_of(self, utterance: str) -> Segment | None:
        """Return the position of an utterance in a recording of ``wav_scp``, None if it has no audio.

        Without ``segments``, each utterance is a whole recording of the same id.
        """
        if not self.segments:
            return Segment(utterance, 0.0, None) if utterance in self.wav_scp else None
        if utterance not in self.segments:
            return None
        segment = parse_segment(self.segments[utterance])
        return segment if segment.recording in self.wav_scp else None

    def subset(self, utterances: Collection[str]) -> DataDir:
        """Return the tables of some of the utterances."""
        kept = set(utterances)
        speakers = {self.utt2spk[utterance] for utterance in kept}
        recordings = kept
        if self.segments:
            recordings = {parse_segment(v).recording for u, v in self.segments.items() if u in kept}
        tables = {}
        for table in fields(self):
            keys = speakers if table.name == "spk2gender" else kept
            if table.name in self._tables_by_recording():
                keys = recordings
            tables[table.name] = {k: v for k, v in getattr(self, table.name).items() if k in keys}
        return DataDir(**tables)

    def write(self, path: str | Path) -> None:
        """Write the tables, each sorted and atomically, and remove the files of empty tables."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        for table in fields(self):
            entries = getattr(self, table.name)
            if entries:
                write_table(path / _file_name(table.name), entries)
            else:
                (path / _file_name(table.name)).unlink(missing_ok=True)
        write_spk2utt(path / "spk2utt", self.spk2utt)

    def _tables_by_recording(self) -> tuple[str, ...]:
        return ("wav_scp", "reco2dur") if self.segments else ("reco2dur",)


def has_precomputed_features(data_dir: str | Path) -> bool:
    """Return whether a data directory came with features, so that stage 2 does not compute them.

    Features that stage 2 computed are in ``fbank.JOB.ark`` beside the ``feats.scp`` that names them.
    """
    feats_scp, resolved = Path(data_dir) / "feats.scp", Path(data_dir).resolve()
    if not feats_scp.is_file():
        return False
    if not (Path(data_dir) / "wav.scp").is_file():
        return True
    first = next(iter(read_table(feats_scp).values()), "")
    return not re.fullmatch(re.escape(str(resolved)) + r"/fbank\.\d+\.ark:\d+", first)


def read_tables(folder: Path, extra_files: Sequence[str] = ()) -> Tables:
    """Read the lines of Kaldi's tables and ``extra_files`` in a data directory."""
    if not (folder / "utt2spk").is_file():
        raise InputError(f"{folder}/utt2spk: no such file; give a data directory")
    names = dict.fromkeys(["utt2spk", *TABLE_KEYS, *extra_files])
    return {name: read_lines(folder / name) for name in names if (folder / name).is_file()}


def write_tables(folder: Path, tables: Tables) -> None:
    """Write the tables, and move Kaldi's other tables in the folder, which would not match, to ``.backup``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLE_KEYS:
        if name not in tables and (folder / name).is_file():
            (folder / ".backup").mkdir(exist_ok=True)
            (folder / name).replace(folder / ".backup" / name)
    for name, lines in tables.items():
        atomic_write(folder / name, b"".join(lines))


def _file_name(table: str) -> str:
    return table.replace("_scp", ".scp")
