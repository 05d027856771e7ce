"""Kaldi data directories: a folder of tables about the same utterances."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from deepspeaker.errors import InputError
from deepspeaker.kaldi.tables import read_table, spk2utt_of, write_spk2utt, write_table


class Segment(NamedTuple):
    """A line of ``segments``: where an utterance lies in its recording."""

    recording: str
    start: float  # seconds
    end: float | None  # seconds; None: where the recording ends


def parse_segment(value: str) -> Segment:
    """What follows the utterance in a line of ``segments``: recording, start, end (-1: that of the recording).

    Raises ``InputError`` that says what is wrong and does not name the utterance.
    """
    columns = value.split()
    if len(columns) == 4:
        raise InputError("has a channel column, which is not read; put each channel into wav.scp as a recording")
    if len(columns) != 3:
        raise InputError(f"wants recording, start and end, has {value!r}")
    try:
        start, end = float(columns[1]), float(columns[2])
    except ValueError:
        raise InputError(f"start and end must be seconds, are {columns[1]} and {columns[2]}") from None
    if not (math.isfinite(start) and math.isfinite(end)) or start < 0:
        raise InputError(f"cannot lie from {columns[1]} to {columns[2]} s")
    if end == -1:
        return Segment(columns[0], start, None)
    if end <= start:
        raise InputError(f"ends at {columns[2]} s, not after its start at {columns[1]} s")
    return Segment(columns[0], start, end)


@dataclass
class DataDir:
    """The tables of a data directory, each under its file's name (``wav.scp`` as ``wav_scp``, ...).

    ``utt2spk`` is always there, the others may be empty, and then have no file. Keys are utterances, but speakers in
    ``spk2gender`` and recordings in ``reco2dur`` and, where there are ``segments``, ``wav_scp``. ``spk2utt`` is
    derived.
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
        """Reads a data directory and checks that its tables speak of the same utterances.

        Raises ``InputError`` that names file and id: no ``utt2spk``, neither ``wav.scp`` nor ``feats.scp``, an
        utterance without a speaker, a ``spk2utt`` that contradicts ``utt2spk``, a segment of no recording.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path}: no such data directory")
        if not (path / "utt2spk").is_file():
            raise InputError(f"{path}/utt2spk: no such file; every Kaldi data directory needs it")
        tables = {
            table.name: read_table(path / _file_name(table.name))
            for table in fields(cls)
            if (path / _file_name(table.name)).is_file()
        }
        data = cls(**tables)
        if not data.utt2spk:
            raise InputError(f"{path}/utt2spk: has no utterance")
        if not data.wav_scp and not data.feats_scp:
            raise InputError(f"{path}: has neither wav.scp nor feats.scp with an entry; one is needed")
        for utterance, speaker in data.utt2spk.items():
            if not speaker or " " in speaker:
                raise InputError(f"{path}/utt2spk: {utterance} needs one speaker, has {speaker!r}")
        for name, table in tables.items():
            by_utterance = name not in data._by_recording() and name != "spk2gender"
            for key, value in table.items():
                if by_utterance and key not in data.utt2spk:
                    raise InputError(
                        f"{path}/{_file_name(name)}: {key} is not in utt2spk; add it there or remove it here"
                    )
                if not value and name not in ("text", "spk2gender"):
                    raise InputError(f"{path}/{_file_name(name)}: {key} has no value; complete or remove it")
        data._check_segments(path)
        if (path / "spk2utt").is_file():
            told = {s: sorted(u.split()) for s, u in read_table(path / "spk2utt").items()}
            if told != spk2utt_of(data.utt2spk):
                raise InputError(f"{path}/spk2utt: contradicts utt2spk; remove it or make it again from utt2spk")
        return data

    def _check_segments(self, path: Path) -> None:
        for utterance, value in self.segments.items():
            try:
                segment = parse_segment(value)
            except InputError as error:
                raise InputError(f"{path}/segments: {utterance} {error}") from None
            if self.wav_scp and segment.recording not in self.wav_scp:
                raise InputError(
                    f"{path}/segments: {utterance} lies in {segment.recording}, which is not in wav.scp; add it there"
                )

    @property
    def spk2utt(self) -> dict[str, list[str]]:
        """Speaker -> its utterances, both sorted."""
        return spk2utt_of(self.utt2spk)

    def segment_of(self, utterance: str) -> Segment | None:
        """Where an utterance's audio lies: in a recording of ``wav_scp``, as a rule its own and whole.

        None when there is no audio of it.
        """
        if not self.segments:
            return Segment(utterance, 0.0, None) if utterance in self.wav_scp else None
        if utterance not in self.segments:
            return None
        segment = parse_segment(self.segments[utterance])
        return segment if segment.recording in self.wav_scp else None

    def subset(self, utterances: Collection[str]) -> DataDir:
        """The same tables for some of the utterances only."""
        kept = set(utterances)
        speakers = {self.utt2spk[utterance] for utterance in kept}
        recordings = kept
        if self.segments:
            recordings = {parse_segment(v).recording for u, v in self.segments.items() if u in kept}
        tables = {}
        for table in fields(self):
            keys = speakers if table.name == "spk2gender" else kept
            if table.name in self._by_recording():
                keys = recordings
            tables[table.name] = {k: v for k, v in getattr(self, table.name).items() if k in keys}
        return DataDir(**tables)

    def write(self, path: str | Path) -> None:
        """Writes the tables, C-sorted, each atomically; a table that is empty here loses the file it had there."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        for table in fields(self):
            entries = getattr(self, table.name)
            if entries:
                write_table(path / _file_name(table.name), entries)
            else:
                (path / _file_name(table.name)).unlink(missing_ok=True)
        write_spk2utt(path / "spk2utt", self.spk2utt)

    def _by_recording(self) -> Iterable[str]:
        return ("wav_scp", "reco2dur") if self.segments else ("reco2dur",)


def has_own_features(data_dir: str | Path) -> bool:
    """Whether a data directory came with features, which stage 2 then takes as they are.

    Features that stage 2 computed lie in ``fbank.JOB.ark`` beside the ``feats.scp`` that names them.
    """
    feats_scp, resolved = Path(data_dir) / "feats.scp", Path(data_dir).resolve()
    if not feats_scp.is_file():
        return False
    if not (Path(data_dir) / "wav.scp").is_file():
        return True
    first = next(iter(read_table(feats_scp).values()), "")
    return not re.fullmatch(re.escape(str(resolved)) + r"/fbank\.\d+\.ark:\d+", first)


def _file_name(table: str) -> str:
    return table.replace("_scp", ".scp")
