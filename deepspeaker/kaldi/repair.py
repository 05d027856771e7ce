"""Make the tables of a data directory agree, as Kaldi's ``utils/fix_data_dir.sh`` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write
from deepspeaker.kaldi.datadir import TABLE_KEYS
from deepspeaker.kaldi.tables import read_lines
from deepspeaker.kaldi.text_utils import filter_lines, key_of, keys_of, spk2utt_lines, split_columns, text_of

#: An utterance is kept only if it is in each of these tables that exists.
_DECIDING_TABLES: tuple[str, ...] = ("feats.scp", "text", "segments", "utt2lang")


def fix_data_dir(
    path: str | Path,
    utt_extra_files: Sequence[str] = (),
    spk_extra_files: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Sort all tables, remove duplicated and empty lines, and keep only the ids that all tables share.

    The files that change are saved in ``.backup``.

    Parameters
    ----------
    path
        The data directory.
    utt_extra_files, spk_extra_files
        Names of more tables, whose keys are utterances or speakers.
    say
        Called with each line of the report.

    Raises
    ------
    InputError
        The tables cannot be fixed, or no utterance would be left. No file has changed then.

    Notes
    -----
    The shared ids are those of utt2spk, feats.scp, text, segments, utt2lang and wav.scp for utterances, of cmvn.scp
    and spk2gender for speakers, and of segments and wav.scp for recordings.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory")
    if not (folder / "utt2spk").is_file():
        raise InputError(f"{folder}/utt2spk: no such file; create it, it is the only source of the speakers")
    kinds = {**TABLE_KEYS, **dict.fromkeys(utt_extra_files, "utterance"), **dict.fromkeys(spk_extra_files, "speaker")}
    old = {name: read_lines(folder / name) for name in kinds if (folder / name).is_file()}
    split_columns(old["utt2spk"], folder / "utt2spk", lambda count: count in (0, 2), "an utterance and its speaker")
    tables = _SortedTables(folder, kinds, old, say)
    before = len(tables.lines["utt2spk"])
    # What is removed from one table removes lines from others. After this sequence, a repetition finds no more.
    tables.keep_recordings()
    tables.keep_speakers()
    tables.keep_utterances()
    tables.keep_speakers()
    tables.keep_recordings()
    after = len(tables.lines["utt2spk"])
    kept = f"{after} utterances out of {before}" if after < before else f"all {after} utterances."
    say(f"fix_data_dir.sh: kept {kept}")
    changed = [name for name, lines in tables.lines.items() if old.get(name) != lines]
    for name in changed:
        if name in old:
            atomic_write(folder / ".backup" / name, b"".join(old[name]))
    for name in changed:
        atomic_write(folder / name, b"".join(tables.lines[name]))
    if any(name in old for name in changed):
        say(f"fix_data_dir.sh: old files are kept in {folder}/.backup")


class _SortedTables:
    """The sorted tables of a data directory, from which lines are removed."""

    def __init__(
        self, folder: Path, kinds: dict[str, str], old: dict[str, list[bytes]], say: Callable[[str], None]
    ) -> None:
        self.folder, self.kinds, self.say = folder, kinds, say
        self.lines = {name: _sorted(lines) for name, lines in old.items()}
        for name, lines in old.items():
            if keys_of(lines) != keys_of(self.lines[name]):
                say(f"fix_data_dir.sh: file {folder}/{name} is not in sorted order or not unique, sorting it")
            elif lines != self.lines[name]:
                say(f"fix_data_dir.sh: file {folder}/{name} has wrong line ends, fixing them")
        if "segments" in old and "wav.scp" not in old:
            raise InputError(f"{folder}/segments: needs wav.scp, which does not exist; add wav.scp, or remove segments")

    def keep(self, name: str, ids: Collection[bytes], column: int = 1) -> None:
        if name not in self.lines:
            return
        before = len(self.lines[name])
        self.lines[name] = filter_lines(self.lines[name], ids, column)
        if len(self.lines[name]) < before:
            self.say(
                f"fix_data_dir.sh: filtered {self.folder}/{name} from {before} to {len(self.lines[name])} lines."
            )

    def keep_recordings(self) -> None:
        if "segments" not in self.lines:
            return
        segments = self.folder / "segments"
        table = split_columns(
            self.lines["segments"], segments, lambda count: count > 1, "an utterance and its recording"
        )
        recordings = {columns[1] for columns in table} & set(keys_of(self.lines["wav.scp"]))
        if not recordings:
            raise InputError(f"{segments}: names no recording of wav.scp; correct one of the two")
        self.keep("segments", recordings, column=2)
        for name in ("wav.scp", "reco2file_and_channel", "reco2dur"):
            self.keep(name, recordings)

    def keep_speakers(self) -> None:
        speakers = {line.split()[1] for line in self.lines["utt2spk"]}
        for name in ("cmvn.scp", "spk2gender"):
            if name in self.lines:
                speakers &= set(keys_of(self.lines[name]))
        self.lines["utt2spk"] = filter_lines(self.lines["utt2spk"], speakers, column=2)
        self.lines["spk2utt"] = sorted(spk2utt_lines(self.lines["utt2spk"]), key=key_of)
        for name, kind in self.kinds.items():
            if kind == "speaker" and name != "spk2utt":
                self.keep(name, speakers)

    def keep_utterances(self) -> None:
        before = b""
        for line in self.lines["utt2spk"]:
            utterance, speaker = line.split()
            if speaker < before:
                raise InputError(
                    f"{self.folder}/utt2spk: sorted by utterance, it is not sorted by speaker ({text_of(utterance)} "
                    f"of {text_of(speaker)} comes after {text_of(before)}); start each id with that of its speaker"
                )
            before = speaker
        by_utterance = [name for name, kind in self.kinds.items() if kind == "utterance"]
        deciding = _DECIDING_TABLES
        if "segments" not in self.lines:
            by_utterance += ["wav.scp", "reco2dur", "reco2file_and_channel"]
            deciding += ("wav.scp",)
        utterances = set(keys_of(self.lines["utt2spk"]))
        for name in deciding:
            if name in self.lines:
                utterances &= set(keys_of(self.lines[name]))
        if not utterances:
            raise InputError(f"{self.folder}: no utterance is in all tables; nothing can be fixed")
        for name in by_utterance:
            if name in self.lines:
                self.lines[name] = filter_lines(self.lines[name], utterances)


def _sorted(lines: Iterable[bytes]) -> list[bytes]:
    """Sort lines like ``sort -k1,1 -u``, without empty lines and carriage returns."""
    first: dict[bytes, bytes] = {}
    for line in lines:
        if key := key_of(line):
            first.setdefault(key, line.rstrip(b"\r\n") + b"\n")
    return [first[key] for key in sorted(first)]
