"""Kaldi's text tables: a key, a blank and a value per line, sorted by the bytes of the key.

Every table is read here: ``read_table`` returns a dictionary, ``scan_table`` a data frame for millions of lines, and
``read_lines`` the unchanged bytes of each line for Kaldi's text utilities.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write

if TYPE_CHECKING:
    import polars as pl

#: The characters that separate columns in Kaldi. Other Unicode white space is part of a column.
_BLANKS = " \t\r\f\v"


def read_lines(path: str | Path) -> list[bytes]:
    """Return the lines of a file with their line ends; ``-`` reads stdin.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    return list(sys.stdin.buffer if str(path) == "-" else io.BytesIO(_content(path)))


def read_table(path: str | Path) -> dict[str, str]:
    """Read a table such as ``wav.scp``, ``utt2spk`` or ``text``.

    Returns
    -------
    dict
        Key -> rest of the line, in the order of the file. The value of a key without one is "".

    Raises
    ------
    InputError
        The file cannot be read, a line is empty, a key is duplicated, or the text is not UTF-8.
    """
    content = _content(path)
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{number}: not UTF-8 text; convert the file to UTF-8") from None
    if not lines[-1]:
        lines.pop()
    table: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        key, *value = re.split(f"[{_BLANKS}]+", line.strip(_BLANKS), maxsplit=1)
        if not key:
            raise InputError(f"{path}:{number}: empty line; remove it")
        if key in table:
            raise InputError(f"{path}:{number}: {key} is duplicated; keep one of its lines")
        table[key] = value[0] if value else ""
    return table


def scan_table(path: str | Path) -> pl.DataFrame:
    """Read a table of millions of lines, with the same keys, values and errors as ``read_table``.

    Polars reads the usual form: on every line a key, one blank, a value and a newline character. For any other file
    this function falls back to ``read_table``.

    Returns
    -------
    polars.DataFrame
        Columns ``key``, ``value`` and ``line``, the byte at which the line begins in the file.
    """
    import polars as pl

    path = Path(path)
    try:
        lines = pl.read_csv(
            path, has_header=False, separator="\x1f", quote_char=None, schema={"text": pl.String}, encoding="utf8"
        )
    except (pl.exceptions.PolarsError, OSError):
        return _scan_any_form(path)
    length = pl.col("text").str.len_bytes().cast(pl.Int64)
    end = lines.select(length.sum() + pl.len() - 1).item()  # of the last line, if every line ends in one byte
    table = lines.select(
        pl.col("text").str.splitn(" ", 2).struct.rename_fields(["key", "value"]).alias("entry"),
        line=(length + 1).cum_sum().shift(1, fill_value=0),
    ).unnest("entry")
    unusual = pl.col("key").is_null() | pl.col("value").is_null() | pl.col("key").str.contains(r"\s")
    unusual |= pl.col("value").str.contains(r"^\s|\s$") | (pl.col("key") == "")
    usual = len(table) and not table.select(unusual.any()).item() and path.stat().st_size in (end, end + 1)
    if usual and table["key"].n_unique() == len(table):
        return table
    return _scan_any_form(path)


def _scan_any_form(path: Path) -> pl.DataFrame:
    import polars as pl

    table = read_table(path)
    begins = np.cumsum([0, *(len(line) + 1 for line in _content(path).split(b"\n"))])[: len(table)]
    return pl.DataFrame(
        {"key": list(table), "value": list(table.values()), "line": begins},
        schema={"key": pl.String, "value": pl.String, "line": pl.Int64},
    )


def _content(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give a table") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def write_table(path: str | Path, table: Mapping[str, str]) -> None:
    """Write ``table`` in the order of ``LC_ALL=C sort``, atomically."""
    # The order of UTF-8 bytes is the order of code points.
    atomic_write(path, "".join(f"{key} {table[key]}".rstrip(_BLANKS) + "\n" for key in sorted(table)))


def spk2utt_of(utt2spk: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the utterances of each speaker, both sorted.

    Examples
    --------
    >>> spk2utt_of({"b-1": "b", "a-2": "a", "a-1": "a"})
    {'a': ['a-1', 'a-2'], 'b': ['b-1']}
    """
    speakers: dict[str, list[str]] = {speaker: [] for speaker in sorted(set(utt2spk.values()))}
    for utterance in sorted(utt2spk):
        speakers[utt2spk[utterance]].append(utterance)
    return speakers


def write_spk2utt(path: str | Path, spk2utt: Mapping[str, Iterable[str]]) -> None:
    """Write Kaldi's ``spk2utt``, a speaker and its utterances per line."""
    write_table(path, {speaker: " ".join(utterances) for speaker, utterances in spk2utt.items()})
