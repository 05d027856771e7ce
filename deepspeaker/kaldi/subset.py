"""Smaller data directories: the pieces of a directory, or some of its utterances."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.kaldi.ark import read_header_of
from deepspeaker.kaldi.datadir import TABLE_KEYS, Tables, read_tables, write_tables
from deepspeaker.kaldi.tables import read_lines
from deepspeaker.kaldi.text_utils import (
    filter_lines,
    keys_of,
    speaker_of_utterance,
    spk2utt_lines,
    split_by_speaker,
    split_columns,
    split_lines,
    spread,
    utt2spk_lines,
)


def split_data(path: str | Path, pieces: int, per_utt: bool = False, say: Callable[[str], None] = print) -> Path | None:
    """Split a data directory into ``pieces`` (``split_data.sh``).

    Parameters
    ----------
    path
        The data directory.
    pieces
        Number of pieces.
    per_utt
        Whether a speaker may be in several pieces.
    say
        Called with each line of the report.

    Returns
    -------
    Path or None
        ``path/splitN`` (``path/splitNutt`` with ``per_utt``), None if it exists and is newer than the tables.

    Raises
    ------
    InputError
        There are fewer speakers (utterances with ``per_utt``) than pieces.
    """
    folder = Path(path)
    tables = read_tables(folder)
    for name in ("feats.scp", "text"):
        if name in tables and len(tables[name]) != len(tables["utt2spk"]):
            say(
                f"** split_data.sh: warning, #lines is (utt2spk,{name}) is ({len(tables['utt2spk'])},"
                f"{len(tables[name])}); you can use utils/fix_data_dir.sh {folder} to fix this."
            )
    output = folder / f"split{pieces}{'utt' if per_utt else ''}"
    first = output / "1"
    current = all((first / name).is_file() and not _older(first / name, folder / name) for name in tables)
    if current and (output / str(pieces) / "utt2spk").is_file():
        return None
    utt2spk = tables["utt2spk"]
    if per_utt:
        split = split_lines(utt2spk, pieces, folder / "utt2spk")
    else:
        speakers = speaker_of_utterance(utt2spk, folder / "utt2spk")
        split = split_by_speaker(utt2spk, pieces, speakers, folder / "utt2spk")
    for number, piece in enumerate(split, 1):
        write_tables(output / str(number), _subset(tables, folder, piece, spk2utt_lines(piece, folder / "utt2spk")))
    return output


def subset_data_dir(
    source: str | Path,
    output: str | Path,
    count: int | None = None,
    mode: str = "",
    ids: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Write a data directory with some of the utterances of another (``subset_data_dir.sh``).

    Parameters
    ----------
    source, output
        The data directories.
    count
        Number of utterances.
    mode
        The choice of utterances:

        - "": evenly spread
        - "first", "last"
        - "shortest": by frames, or by seconds if the frames are not known
        - "per-spk": ``count`` utterances of each speaker
        - "speakers": whole speakers until there are ``count`` utterances, always the same for a directory
        - "spk-list", "utt-list": the speakers or utterances in ``ids``
    ids
        File with an id in the first column of each line; stdin if None.
    say
        Called with each line of the report.

    Raises
    ------
    InputError
        ``source`` has fewer than ``count`` utterances, or nothing in ``ids`` is in it.
    """
    source, output = Path(source), Path(output)
    if source.resolve() == output.resolve():
        raise InputError(f"{output}: is the source directory; name another directory for the subset")
    tables = read_tables(source)
    utt2spk, total = tables["utt2spk"], len(tables["utt2spk"])
    speaker_of_utterance(utt2spk, source / "utt2spk")
    spk2utt = tables.get("spk2utt") or spk2utt_lines(utt2spk, source / "utt2spk")
    if count is not None and not 0 < count <= total:
        raise InputError(f"{source}: cannot subset to {count} of {total} utterances; give a number from 1 to {total}")
    n = count or 0
    if mode in ("spk-list", "speakers", "per-spk"):
        if mode == "spk-list":
            spk2utt = filter_lines(spk2utt, set(keys_of(read_lines(ids or "-"))))
        elif mode == "speakers":
            spk2utt = _whole_speakers(spk2utt, n)
        else:
            spk2utt = [_some_utterances(line.split(), n) for line in spk2utt]
        utt2spk = utt2spk_lines(spk2utt)
    else:
        if mode == "utt-list":
            utt2spk = filter_lines(utt2spk, set(keys_of(read_lines(ids or "-"))))
        elif mode == "shortest":
            utt2spk = filter_lines(utt2spk, _shortest(tables, source, n))
        elif mode in ("first", "last"):
            utt2spk = utt2spk[:n] if mode == "first" else utt2spk[-n:]
        else:
            utt2spk = spread(utt2spk, n)
        spk2utt = spk2utt_lines(utt2spk)
    if not utt2spk:
        raise InputError(f"{ids}: names nothing in {source}; give a list of its ids")
    write_tables(output, _subset(tables, source, utt2spk, spk2utt))
    say(f"subset_data_dir.sh: reducing #utt from {total} to {len(utt2spk)}")


def _older(path: Path, than: Path) -> bool:
    return path.stat().st_mtime_ns < than.stat().st_mtime_ns


def _subset(tables: Tables, source: Path, utt2spk: Sequence[bytes], spk2utt: Sequence[bytes]) -> Tables:
    """Return all tables of ``source``, restricted to these utterances and speakers."""
    ids: dict[str, Collection[bytes]] = {"utterance": set(keys_of(utt2spk)), "speaker": set(keys_of(spk2utt))}
    ids["recording"] = ids["utterance"]
    if "segments" in tables:
        segments = filter_lines(tables["segments"], ids["utterance"], name=source / "segments")
        ids["recording"] = {columns[1] for columns in map(bytes.split, segments) if len(columns) > 1}
    subset: Tables = {"utt2spk": list(utt2spk), "spk2utt": list(spk2utt)}
    for name, lines in tables.items():
        if name not in subset:
            subset[name] = filter_lines(lines, ids[TABLE_KEYS[name]], name=source / name)
    return subset


def _whole_speakers(spk2utt: Sequence[bytes], count: int) -> list[bytes]:
    shuffled = sorted(spk2utt)
    random.Random(0).shuffle(shuffled)
    chosen: list[bytes] = []
    total = 0
    for line in shuffled:
        if total >= count:
            break
        chosen.append(line)
        total += len(line.split()) - 1
    return sorted(chosen)


def _some_utterances(columns: list[bytes], count: int) -> bytes:
    """Return a line of spk2utt with at most ``count`` of its utterances, evenly spaced."""
    speaker, *utterances = columns
    return b" ".join([speaker, *utterances[:: max(len(utterances) // count, 1)][:count]]) + b"\n"


def _shortest(tables: Tables, source: Path, count: int) -> set[bytes]:
    if "utt2num_frames" in tables:
        lengths = tables["utt2num_frames"]
    elif "feats.scp" in tables:
        lengths = []
        for line in tables["feats.scp"]:
            utterance, _, location = line.strip().partition(b" ")
            lengths.append(utterance + b" %d\n" % read_header_of(location.strip().decode()).rows)
    elif "utt2dur" in tables:
        lengths = tables["utt2dur"]
    else:
        raise InputError(f"{source}: --shortest needs utt2num_frames, feats.scp or utt2dur")
    table = split_columns(lengths, source / "lengths", lambda size: size == 2, "an utterance and its length")
    try:
        ranked = sorted((float(length), utterance) for utterance, length in table)
    except ValueError as error:
        raise InputError(f"{source}: the length of an utterance is not a number ({error})") from None
    return {utterance for _, utterance in ranked[:count]}
