"""Data directories out of data directories: split, subset, combined, copied, as Kaldi's ``utils`` do it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_folder, atomic_write
from deepspeaker.kaldi.ark import read_header_of
from deepspeaker.kaldi.lines import (
    KEYS,
    columns_of,
    filter_lines,
    key_of,
    keys_of,
    read_lines,
    speaker_of_utterance,
    spk2utt_lines,
    split_by_speaker,
    split_lines,
    spread,
    text_of,
    utt2spk_lines,
)
from deepspeaker.kaldi.repair import fix_data_dir
from deepspeaker.kaldi.validation import validate_data_dir

Tables = dict[str, list[bytes]]
Say = Callable[[str], None]


def split_data(path: str | Path, pieces: int, per_utt: bool = False, say: Say = print) -> Path | None:
    """``split_data.sh``: ``pieces`` data directories in ``splitN`` (with ``per_utt`` ``splitNutt``) of a directory.

    No speaker is in two of them, unless ``per_utt``. Returns None when they are there and newer than the tables.
    """
    folder = Path(path)
    tables = _read(folder)
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
    lines = tables["utt2spk"]
    if per_utt:
        split = split_lines(lines, pieces, folder / "utt2spk")
    else:
        speakers = speaker_of_utterance(lines, folder / "utt2spk")
        split = split_by_speaker(lines, pieces, speakers, folder / "utt2spk")
    for number, piece in enumerate(split, 1):
        _write(output / str(number), _restricted(tables, folder, piece, spk2utt_lines(piece, folder / "utt2spk")))
    return output


def subset_data_dir(
    source: str | Path,
    output: str | Path,
    count: int | None = None,
    mode: str = "",
    ids: str | Path | None = None,
    say: Say = print,
) -> None:
    """``subset_data_dir.sh``: ``count`` utterances of a directory, or those of a list of ``ids``, as another one.

    ``mode`` is "" (spread evenly), "first", "last", "shortest" (frames, or seconds where no frames are known),
    "per-spk" (``count`` of each speaker), "speakers" (whole speakers until there are ``count`` utterances, always the
    same ones of a directory), "spk-list" or "utt-list".
    """
    source, output = Path(source), Path(output)
    if source.resolve() == output.resolve():
        raise InputError(f"{output}: is the directory to take from; name another for the subset")
    tables = _read(source)
    utt2spk, all_of_them = tables["utt2spk"], len(tables["utt2spk"])
    speaker_of_utterance(utt2spk, source / "utt2spk")
    spk2utt = tables.get("spk2utt") or spk2utt_lines(utt2spk, source / "utt2spk")
    if count is not None and not 0 < count <= all_of_them:
        raise InputError(f"{source}: cannot subset to {count} of {all_of_them} utterances; name a number up to that")
    n = count or 0
    if mode == "spk-list":
        spk2utt = filter_lines(spk2utt, set(keys_of(read_lines(ids or "-"))))
        utt2spk = utt2spk_lines(spk2utt)
    elif mode == "utt-list":
        utt2spk = filter_lines(utt2spk, set(keys_of(read_lines(ids or "-"))))
        spk2utt = spk2utt_lines(utt2spk)
    elif mode == "speakers":
        spk2utt = _whole_speakers(spk2utt, n)
        utt2spk = utt2spk_lines(spk2utt)
    elif mode == "per-spk":
        spk2utt = [_some(line.split(), n) for line in spk2utt]
        utt2spk = utt2spk_lines(spk2utt)
    else:
        if mode == "shortest":
            utt2spk = filter_lines(utt2spk, _shortest(tables, source, n))
        elif mode in ("first", "last"):
            utt2spk = utt2spk[:n] if mode == "first" else utt2spk[-n:]
        else:
            utt2spk = spread(utt2spk, n)
        spk2utt = spk2utt_lines(utt2spk, source / "utt2spk")
    if not utt2spk:
        raise InputError(f"{ids}: names nothing of {source}; another list is wanted")
    _write(output, _restricted(tables, source, utt2spk, spk2utt))
    say(f"subset_data_dir.sh: reducing #utt from {all_of_them} to {len(utt2spk)}")


def combine_data(
    output: str | Path,
    sources: Sequence[str | Path],
    extra_files: Sequence[str] = (),
    skip_fix: bool = False,
    say: Say = print,
) -> None:
    """``combine_data.sh``: one directory of several, of the tables that all of them have.

    ``utt2uniq`` and ``segments`` are made where only some have them (segments from ``utt2dur``). Lines that are equal
    in two directories are kept once; raises ``InputError`` for one key with two values.
    """
    output = Path(output)
    folders = [Path(source) for source in sources]
    if output.resolve() in [folder.resolve() for folder in folders]:
        raise InputError(f"{output}: is one of the directories to combine; name another for the result")
    parts = [_read(folder, extra_files) for folder in folders]
    for folder, part in zip(folders, parts, strict=True):
        speaker_of_utterance(part["utt2spk"], folder / "utt2spk")
    for name, made in (("utt2uniq", _own_uniq), ("segments", _whole_segments)):
        if any(name in part for part in parts):
            for folder, part in zip(folders, parts, strict=True):
                if name not in part:
                    part[name] = made(part, folder)
    tables: Tables = {}
    for name in dict.fromkeys([*KEYS, *extra_files]):
        have = [part[name] for part in parts if name in part]
        if name == "spk2utt":
            continue
        if len(have) < len(parts):
            stars = "**" if have else ""
            where = " everywhere" if have else ""
            say(f"combine_data.sh [info]: {stars}not combining {name} as it does not exist{where}{stars}")
            continue
        tables[name] = _joined(name, folders, have)
        say(f"combine_data.sh: combined {name}")
    tables["spk2utt"] = spk2utt_lines(tables["utt2spk"])
    with atomic_folder(output) as temporary:
        _write(temporary, tables)
        if not skip_fix:
            fix_data_dir(temporary, say=lambda line: say(line.replace(str(temporary), str(output))))


def copy_data_dir(
    source: str | Path,
    output: str | Path,
    spk_affixes: tuple[str, str] = ("", ""),
    utt_affixes: tuple[str, str] = ("", ""),
    validate: Mapping[str, bool] | None = None,
    say: Say = print,
) -> bool:
    """``copy_data_dir.sh``: the same directory with other ids of utterances and speakers; recordings keep theirs.

    The affixes are a prefix and a suffix. Returns whether ``validate_data_dir`` (with the options ``validate``) finds
    nothing wrong with the copy.
    """
    source, output = Path(source), Path(output)
    if source.resolve() == output.resolve():
        raise InputError(f"{output}: is the directory to copy; name another for the copy")
    tables = _read(source)
    if "utt2uniq" not in tables and any(utt_affixes):
        tables["utt2uniq"] = _own_uniq(tables, source)
    affixes = {"utterance": utt_affixes, "speaker": spk_affixes, "recording": ("", "")}
    if "segments" not in tables:
        affixes["recording"] = utt_affixes

    def renamed(columns: list[bytes], kind: str, column: int = 0) -> list[bytes]:
        before, after = affixes[kind]
        columns[column] = before.encode() + columns[column] + after.encode()
        return columns

    copied: Tables = {}
    for name, lines in tables.items():
        table = [renamed(line.split(), KEYS[name]) for line in lines if key_of(line)]
        if name == "utt2spk":
            speaker_of_utterance(lines, source / name)
            table = [renamed(columns, "speaker", 1) for columns in table]
        plain = KEYS[name] == "recording" and not any(affixes["recording"])
        copied[name] = lines if plain else [b" ".join(columns) + b"\n" for columns in table]
    copied["spk2utt"] = spk2utt_lines(copied["utt2spk"])
    _write(output, copied)
    for name in ("stm", "glm", "ctm", "frame_shift"):
        if (source / name).is_file():
            atomic_write(output / name, (source / name).read_bytes())
    say(f"copy_data_dir.sh: copied data from {source} to {output}")
    wanted = {"feats": "feats.scp" in tables, "text": "text" in tables, "wav": "wav.scp" in tables}
    findings = validate_data_dir(output, **{**wanted, **(validate or {})})
    for finding in findings:
        say(str(finding))
    return all(finding.warning for finding in findings)


def _read(folder: Path, more: Sequence[str] = ()) -> Tables:
    if not (folder / "utt2spk").is_file():
        raise InputError(f"{folder}/utt2spk: no such file; a data directory is wanted")
    names = dict.fromkeys(["utt2spk", *KEYS, *more])
    return {name: read_lines(folder / name) for name in names if (folder / name).is_file()}


def _write(folder: Path, tables: Tables) -> None:
    """Writes the tables; others of ours that lie there would not fit and go to ``.backup``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in KEYS:
        if name not in tables and (folder / name).is_file():
            (folder / ".backup").mkdir(exist_ok=True)
            (folder / name).replace(folder / ".backup" / name)
    for name, lines in tables.items():
        atomic_write(folder / name, b"".join(lines))


def _older(path: Path, than: Path) -> bool:
    return path.stat().st_mtime_ns < than.stat().st_mtime_ns


def _restricted(tables: Tables, source: Path, utt2spk: Sequence[bytes], spk2utt: Sequence[bytes]) -> Tables:
    """All tables of ``source`` for some of the utterances."""
    ids: dict[str, Collection[bytes]] = {"utterance": set(keys_of(utt2spk)), "speaker": set(keys_of(spk2utt))}
    ids["recording"] = ids["utterance"]
    if "segments" in tables:
        segments = filter_lines(tables["segments"], ids["utterance"], name=source / "segments")
        ids["recording"] = {columns[1] for columns in map(bytes.split, segments) if len(columns) > 1}
    restricted: Tables = {"utt2spk": list(utt2spk), "spk2utt": list(spk2utt)}
    for name, lines in tables.items():
        if name not in restricted:
            restricted[name] = filter_lines(lines, ids[KEYS[name]], name=source / name)
    return restricted


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


def _some(columns: list[bytes], count: int) -> bytes:
    """A line of spk2utt with ``count`` of its utterances at most, at equal distances."""
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
    table = columns_of(lengths, source / "lengths", lambda size: size == 2, "an utterance and its length")
    try:
        ranked = sorted((float(length), utterance) for utterance, length in table)
    except ValueError as error:
        raise InputError(f"{source}: a length of an utterance is no number ({error})") from None
    return {utterance for _, utterance in ranked[:count]}


def _own_uniq(tables: Tables, folder: Path) -> list[bytes]:
    """Each utterance as its own origin."""
    return [key + b" " + key + b"\n" for key in keys_of(tables["utt2spk"]) if key]


def _whole_segments(tables: Tables, folder: Path) -> list[bytes]:
    """Each utterance as the whole of a recording of its name."""
    if "utt2dur" not in tables:
        raise InputError(f"{folder}: has no segments, as others have, and no utt2dur to make them from; add either")
    table = columns_of(tables["utt2dur"], folder / "utt2dur", lambda count: count == 2, "an utterance and seconds")
    return [b"%s %s 0 %s\n" % (utterance, utterance, seconds) for utterance, seconds in table]


def _joined(name: str, folders: Sequence[Path], parts: Sequence[list[bytes]]) -> list[bytes]:
    lines: dict[bytes, bytes] = {}
    owner: dict[bytes, Path] = {}
    for folder, part in zip(folders, parts, strict=True):
        for line in part:
            key = key_of(line)
            line = line.rstrip(b"\n") + b"\n"
            if lines.setdefault(key, line) != line:
                raise InputError(
                    f"{name}: {text_of(key)} of {folder} is another one than that of {owner[key]}; give one a prefix "
                    "(copy_data_dir.sh)"
                )
            owner.setdefault(key, folder)
    return sorted(lines.values(), key=lambda line: line[:-1])
