"""Kaldi data directories: a folder of tables about the same utterances."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.kaldi.tables import read_table, spk2utt_of, write_spk2utt, write_table


@dataclass
class DataDir:
    """The tables of a data directory, each under its file's name (``wav.scp`` as ``wav_scp``, ...).

    All but ``spk2gender`` have utterance ids as keys; ``utt2spk`` is always there, the others may be empty, and then
    have no file. ``spk2utt`` is derived.
    """

    utt2spk: dict[str, str]
    wav_scp: dict[str, str] = field(default_factory=dict)
    feats_scp: dict[str, str] = field(default_factory=dict)
    vad_scp: dict[str, str] = field(default_factory=dict)
    utt2num_frames: dict[str, str] = field(default_factory=dict)
    utt2dur: dict[str, str] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    spk2gender: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> DataDir:
        """Reads a data directory and checks that its tables speak of the same utterances.

        Raises ``InputError`` that names file and id: no ``utt2spk``, neither ``wav.scp`` nor ``feats.scp``, an
        utterance without a speaker, a ``spk2utt`` that contradicts ``utt2spk``, ``segments`` (not read yet).
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path}: no such data directory")
        if not (path / "utt2spk").is_file():
            raise InputError(f"{path}/utt2spk: no such file; every Kaldi data directory needs it")
        if (path / "segments").is_file():
            raise InputError(f"{path}/segments: segments are not read; cut them first (extract-segments) into wav.scp")
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
            if name == "spk2gender":
                continue
            for utterance in table:
                if utterance not in data.utt2spk:
                    raise InputError(
                        f"{path}/{_file_name(name)}: {utterance} is not in utt2spk; add it there or remove it here"
                    )
            for utterance, value in table.items():
                if not value and name != "text":
                    raise InputError(f"{path}/{_file_name(name)}: {utterance} has no value; complete or remove it")
        if (path / "spk2utt").is_file():
            told = {s: sorted(u.split()) for s, u in read_table(path / "spk2utt").items()}
            if told != spk2utt_of(data.utt2spk):
                raise InputError(f"{path}/spk2utt: contradicts utt2spk; remove it or make it again from utt2spk")
        return data

    @property
    def spk2utt(self) -> dict[str, list[str]]:
        """Speaker -> its utterances, both sorted."""
        return spk2utt_of(self.utt2spk)

    def subset(self, utterances: Collection[str]) -> DataDir:
        """The same tables for some of the utterances only."""
        kept = set(utterances)
        speakers = {self.utt2spk[utterance] for utterance in kept}
        tables = {}
        for table in fields(self):
            keys = speakers if table.name == "spk2gender" else kept
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


def _file_name(table: str) -> str:
    return table.replace("_scp", ".scp")
