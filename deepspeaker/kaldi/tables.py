"""Kaldi's text tables: a key, a blank, the rest of the line; one entry a line, sorted by the bytes of the key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write

#: What parts the columns in Kaldi: not the other blanks that Unicode knows.
_BLANKS = " \t\r\f\v"


def read_table(path: str | Path) -> dict[str, str]:
    """Reads a table (``wav.scp``, ``utt2spk``, ``text``, ...) as key -> rest of the line, in the file's order.

    A key may stand alone (its value is then ""). Raises ``InputError`` with file and line for an empty line, a key
    that comes twice, or bytes that are not UTF-8.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, a table is wanted") from None
    except UnicodeDecodeError as error:
        bad = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{bad}: not UTF-8 text; convert the file to UTF-8") from None
    if lines and not lines[-1]:
        lines.pop()
    table: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        key, *value = re.split(f"[{_BLANKS}]+", line.strip(_BLANKS), maxsplit=1)
        if not key:
            raise InputError(f"{path}:{number}: empty line; remove it")
        if key in table:
            raise InputError(f"{path}:{number}: {key} comes twice; keep one of its lines")
        table[key] = value[0] if value else ""
    return table


def write_table(path: str | Path, table: Mapping[str, str]) -> None:
    """Writes ``table`` sorted as ``LC_ALL=C sort`` does (the order of UTF-8 bytes is the order of code points)."""
    atomic_write(path, "".join(f"{key} {table[key]}".rstrip(_BLANKS) + "\n" for key in sorted(table)))


def spk2utt_of(utt2spk: Mapping[str, str]) -> dict[str, list[str]]:
    """Speaker -> its utterances, both sorted."""
    speakers: dict[str, list[str]] = {speaker: [] for speaker in sorted(set(utt2spk.values()))}
    for utterance in sorted(utt2spk):
        speakers[utt2spk[utterance]].append(utterance)
    return speakers


def write_spk2utt(path: str | Path, spk2utt: Mapping[str, Iterable[str]]) -> None:
    """Writes Kaldi's ``spk2utt``: a speaker and its utterances on a line."""
    write_table(path, {speaker: " ".join(utterances) for speaker, utterances in spk2utt.items()})
