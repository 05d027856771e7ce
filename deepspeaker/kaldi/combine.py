"""Combine several data directories, or copy one with new ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_folder, atomic_write
from deepspeaker.kaldi.datadir import TABLE_KEYS, Tables, read_tables, write_tables
from deepspeaker.kaldi.repair import fix_data_dir
from deepspeaker.kaldi.text_utils import key_of, keys_of, speaker_of_utterance, spk2utt_lines, split_columns, text_of
from deepspeaker.kaldi.validation import validate_data_dir


def combine_data(
    output: str | Path,
    sources: Sequence[str | Path],
    extra_files: Sequence[str] = (),
    skip_fix: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Combine data directories into one, with the tables that all of them have (``combine_data.sh``).

    If only some have ``utt2uniq`` or ``segments``, the others get a default (segments from ``utt2dur``). A line that
    several directories share is kept once.

    Parameters
    ----------
    output, sources
        The data directories.
    extra_files
        Names of more tables to combine.
    skip_fix
        Whether to skip ``fix_data_dir`` on the result.
    say
        Called with each line of the report.

    Raises
    ------
    InputError
        Two directories give a key different values.
    """
    output = Path(output)
    folders = [Path(source) for source in sources]
    if output.resolve() in [folder.resolve() for folder in folders]:
        raise InputError(f"{output}: is one of the directories to combine; name another for the result")
    parts = [read_tables(folder, extra_files) for folder in folders]
    for folder, part in zip(folders, parts, strict=True):
        speaker_of_utterance(part["utt2spk"], folder / "utt2spk")
    for name, default in (("utt2uniq", _identity), ("segments", _whole_segments)):
        if any(name in part for part in parts):
            for folder, part in zip(folders, parts, strict=True):
                if name not in part:
                    part[name] = default(part, folder)
    tables: Tables = {}
    for name in dict.fromkeys([*TABLE_KEYS, *extra_files]):
        if name == "spk2utt":
            continue
        found = [part[name] for part in parts if name in part]
        if len(found) < len(parts):
            stars = "**" if found else ""
            where = " everywhere" if found else ""
            say(f"combine_data.sh [info]: {stars}not combining {name} as it does not exist{where}{stars}")
            continue
        tables[name] = _merge(name, folders, found)
        say(f"combine_data.sh: combined {name}")
    tables["spk2utt"] = spk2utt_lines(tables["utt2spk"])
    with atomic_folder(output) as temporary:
        write_tables(temporary, tables)
        if not skip_fix:
            fix_data_dir(temporary, say=lambda line: say(line.replace(str(temporary), str(output))))


def copy_data_dir(
    source: str | Path,
    output: str | Path,
    spk_affixes: tuple[str, str] = ("", ""),
    utt_affixes: tuple[str, str] = ("", ""),
    validate: Mapping[str, bool] | None = None,
    say: Callable[[str], None] = print,
) -> bool:
    """Copy a data directory with new ids of utterances and speakers (``copy_data_dir.sh``).

    Recordings keep their ids if there are ``segments``.

    Parameters
    ----------
    source, output
        The data directories.
    spk_affixes, utt_affixes
        Prefix and suffix of the new ids.
    validate
        Options of ``validate_data_dir``.
    say
        Called with each line of the report.

    Returns
    -------
    bool
        Whether the copy is valid.
    """
    source, output = Path(source), Path(output)
    if source.resolve() == output.resolve():
        raise InputError(f"{output}: is the directory to copy; name another for the copy")
    tables = read_tables(source)
    if "utt2uniq" not in tables and any(utt_affixes):
        tables["utt2uniq"] = _identity(tables, source)
    affixes = {"utterance": utt_affixes, "speaker": spk_affixes, "recording": ("", "")}
    if "segments" not in tables:
        affixes["recording"] = utt_affixes

    def rename(columns: list[bytes], kind: str, column: int = 0) -> list[bytes]:
        prefix, suffix = affixes[kind]
        columns[column] = prefix.encode() + columns[column] + suffix.encode()
        return columns

    copied: Tables = {}
    for name, lines in tables.items():
        table = [rename(line.split(), TABLE_KEYS[name]) for line in lines if key_of(line)]
        if name == "utt2spk":
            speaker_of_utterance(lines, source / name)
            table = [rename(columns, "speaker", 1) for columns in table]
        unchanged = TABLE_KEYS[name] == "recording" and not any(affixes["recording"])
        copied[name] = lines if unchanged else [b" ".join(columns) + b"\n" for columns in table]
    copied["spk2utt"] = spk2utt_lines(copied["utt2spk"])
    write_tables(output, copied)
    for name in ("stm", "glm", "ctm", "frame_shift"):
        if (source / name).is_file():
            atomic_write(output / name, (source / name).read_bytes())
    say(f"copy_data_dir.sh: copied data from {source} to {output}")
    required = {"feats": "feats.scp" in tables, "text": "text" in tables, "wav": "wav.scp" in tables}
    findings = validate_data_dir(output, **{**required, **(validate or {})})
    for finding in findings:
        say(str(finding))
    return all(finding.warning for finding in findings)


def _identity(tables: Tables, folder: Path) -> list[bytes]:
    """Return an ``utt2uniq`` that maps each utterance to itself."""
    return [key + b" " + key + b"\n" for key in keys_of(tables["utt2spk"]) if key]


def _whole_segments(tables: Tables, folder: Path) -> list[bytes]:
    """Return ``segments`` in which each utterance is a whole recording of the same id."""
    if "utt2dur" not in tables:
        raise InputError(f"{folder}: lacks segments, which others have, and utt2dur, to create them from; add one")
    table = split_columns(tables["utt2dur"], folder / "utt2dur", lambda count: count == 2, "an utterance and seconds")
    return [b"%s %s 0 %s\n" % (utterance, utterance, seconds) for utterance, seconds in table]


def _merge(name: str, folders: Sequence[Path], parts: Sequence[list[bytes]]) -> list[bytes]:
    lines: dict[bytes, bytes] = {}
    source: dict[bytes, Path] = {}
    for folder, part in zip(folders, parts, strict=True):
        for line in part:
            key = key_of(line)
            line = line.rstrip(b"\n") + b"\n"
            if lines.setdefault(key, line) != line:
                raise InputError(
                    f"{name}: {text_of(key)} has different values in {source[key]} and {folder}; "
                    "rename one with a prefix (copy_data_dir.sh)"
                )
            source.setdefault(key, folder)
    return sorted(lines.values(), key=lambda line: line[:-1])
