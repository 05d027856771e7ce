"""Makes the tables of a data directory agree, as Kaldi's ``utils/fix_data_dir.sh`` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write
from deepspeaker.kaldi.lines import (
    KEYS,
    columns_of,
    filter_lines,
    key_of,
    keys_of,
    read_lines,
    spk2utt_lines,
    text_of,
)

Tables = dict[str, list[bytes]]
#: What an utterance must stand in, where it is there, to be kept.
_DECIDING = ("feats.scp", "text", "segments", "utt2lang")


def fix_data_dir(
    path: str | Path,
    utt_extra_files: Sequence[str] = (),
    spk_extra_files: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Sorts all tables, drops repeated and empty lines, and keeps what stands in all of the deciding tables.

    These are utt2spk, feats.scp, text, segments, utt2lang and wav.scp for utterances, cmvn.scp and spk2gender for
    speakers, segments and wav.scp for recordings. The files that change are kept as they were in ``.backup``. Raises
    ``InputError``, with nothing changed, when that cannot be done or leaves nothing.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory")
    if not (folder / "utt2spk").is_file():
        raise InputError(f"{folder}/utt2spk: no such file; nothing else tells the speakers")
    kinds = {**KEYS, **dict.fromkeys(utt_extra_files, "utterance"), **dict.fromkeys(spk_extra_files, "speaker")}
    old = {name: (folder / name).read_bytes() for name in kinds if (folder / name).is_file()}
    tables: Tables = {}
    for name in old:
        lines = read_lines(folder / name)
        if name == "utt2spk":
            columns_of(lines, folder / name, lambda count: count in (0, 2), "an utterance and its speaker")
        tables[name] = _sorted(lines)
        if [key_of(line) for line in lines] != keys_of(tables[name]):
            say(f"fix_data_dir.sh: file {folder}/{name} is not in sorted order or not unique, sorting it")
        elif b"".join(tables[name]) != old[name]:
            say(f"fix_data_dir.sh: file {folder}/{name} has lines that do not end as they should, mending them")
    if "segments" in tables and "wav.scp" not in tables:
        raise InputError(f"{folder}/segments: is there without wav.scp; add wav.scp, or remove segments")
    before = len(tables["utt2spk"])
    # What is left out of one table takes more out of others; no second round finds more after these.
    _keep_recordings(tables, folder, say)
    _keep_speakers(tables, kinds, folder, say)
    _keep_utterances(tables, kinds, folder)
    _keep_speakers(tables, kinds, folder, say)
    _keep_recordings(tables, folder, say)
    after = len(tables["utt2spk"])
    kept = f"{after} utterances out of {before}" if after < before else f"all {after} utterances."
    say(f"fix_data_dir.sh: kept {kept}")
    new = {name: b"".join(lines) for name, lines in tables.items()}
    changed = [name for name in new if old.get(name) != new[name]]
    for name in changed:
        if name in old:
            atomic_write(folder / ".backup" / name, old[name])
    for name in changed:
        atomic_write(folder / name, new[name])
    if any(name in old for name in changed):
        say(f"fix_data_dir.sh: old files are kept in {folder}/.backup")


def _sorted(lines: Iterable[bytes]) -> list[bytes]:
    """``sort -k1,1 -u`` in bytes; empty lines and carriage returns go too."""
    first: dict[bytes, bytes] = {}
    for line in lines:
        if key := key_of(line):
            first.setdefault(key, line.rstrip(b"\r\n") + b"\n")
    return [first[key] for key in sorted(first)]


def _keep(tables: Tables, name: str, ids: Collection[bytes], folder: Path, say: Callable[[str], None]) -> None:
    if name not in tables:
        return
    kept = filter_lines(tables[name], ids)
    if len(kept) < len(tables[name]):
        say(f"fix_data_dir.sh: filtered {folder}/{name} from {len(tables[name])} to {len(kept)} lines.")
    tables[name] = kept


def _keep_recordings(tables: Tables, folder: Path, say: Callable[[str], None]) -> None:
    if "segments" not in tables:
        return
    segments = folder / "segments"
    table = columns_of(tables["segments"], segments, lambda count: count > 1, "an utterance and its recording")
    recordings = {columns[1] for columns in table} & set(keys_of(tables["wav.scp"]))
    if not recordings:
        raise InputError(f"{folder}/segments: names no recording of wav.scp; mend one of the two")
    kept = filter_lines(tables["segments"], recordings, column=2)
    if len(kept) < len(tables["segments"]):
        say(f"fix_data_dir.sh: filtered {folder}/segments from {len(tables['segments'])} to {len(kept)} lines.")
    tables["segments"] = kept
    for name in ("wav.scp", "reco2file_and_channel", "reco2dur"):
        _keep(tables, name, recordings, folder, say)


def _keep_speakers(tables: Tables, kinds: dict[str, str], folder: Path, say: Callable[[str], None]) -> None:
    speakers = {line.split()[1] for line in tables["utt2spk"]}
    for name in ("cmvn.scp", "spk2gender"):
        if name in tables:
            speakers &= set(keys_of(tables[name]))
    tables["utt2spk"] = filter_lines(tables["utt2spk"], speakers, column=2)
    tables["spk2utt"] = sorted(spk2utt_lines(tables["utt2spk"]), key=key_of)
    for name, kind in kinds.items():
        if kind == "speaker" and name != "spk2utt":
            _keep(tables, name, speakers, folder, say)


def _keep_utterances(tables: Tables, kinds: dict[str, str], folder: Path) -> None:
    before = b""
    for line in tables["utt2spk"]:
        utterance, speaker = line.split()
        if speaker < before:
            raise InputError(
                f"{folder}/utt2spk: sorted by utterances it is not sorted by speakers ({text_of(utterance)} of "
                f"{text_of(speaker)} comes after {text_of(before)}); let ids begin with their speaker's"
            )
        before = speaker
    utterances = set(keys_of(tables["utt2spk"]))
    by_utterance = [name for name, kind in kinds.items() if kind == "utterance"]
    if "segments" not in tables:
        by_utterance += ["wav.scp", "reco2dur", "reco2file_and_channel"]
    for name in (*_DECIDING, *(() if "segments" in tables else ("wav.scp",))):
        if name in tables:
            utterances &= set(keys_of(tables[name]))
    if not utterances:
        raise InputError(f"{folder}: no utterance stands in all of its tables; not proceeding further")
    for name in by_utterance:
        if name in tables:
            tables[name] = filter_lines(tables[name], utterances)
