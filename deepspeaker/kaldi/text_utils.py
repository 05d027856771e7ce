"""Kaldi's text utilities on lines of bytes, which pass on what they do not interpret.

Columns are separated by blanks, the first column is the key, and the order is that of bytes, as under ``LC_ALL=C``.
Each function names the program of Kaldi's ``egs/wsj/s5/utils`` whose rules it follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from deepspeaker.errors import InputError


def key_of(line: bytes) -> bytes:
    """Return the first column of a line, b"" for an empty line."""
    return line.split(maxsplit=1)[0] if line.strip() else b""


def keys_of(lines: Iterable[bytes]) -> list[bytes]:
    """Return the first column of each line."""
    return [key_of(line) for line in lines]


def text_of(value: bytes) -> str:
    """Decode bytes for a message."""
    return value.decode(errors="replace")


def split_columns(
    lines: Sequence[bytes], name: str | Path, fits: Callable[[int], bool], expected: str
) -> list[list[bytes]]:
    """Split each line into its columns.

    Parameters
    ----------
    lines
        Lines of a table.
    name
        Name of the table in an error.
    fits
        Whether a line may have this number of columns.
    expected
        Description of a correct line for an error.

    Raises
    ------
    InputError
        A line has another number of columns; names the table and the line.
    """
    table = [line.split() for line in lines]
    for number, columns in enumerate(table, 1):
        if not fits(len(columns)):
            raise InputError(f"{name}:{number}: expected {expected}, found {text_of(lines[number - 1].strip())!r}")
    return table


def speaker_of_utterance(lines: Sequence[bytes], name: str | Path = "utt2spk") -> dict[bytes, bytes]:
    """Return the speaker of each utterance of ``utt2spk``."""
    return dict(split_columns(lines, name, lambda count: count == 2, "an utterance and its speaker"))


def spk2utt_lines(lines: Sequence[bytes], name: str | Path = "utt2spk") -> list[bytes]:
    r"""Convert ``utt2spk`` to ``spk2utt`` (``utt2spk_to_spk2utt.pl``), in the order of first appearance.

    Examples
    --------
    >>> spk2utt_lines([b"b-1 b\n", b"a-1 a\n", b"b-2 b\n"])
    [b'b b-1 b-2\n', b'a a-1\n']
    """
    speakers: dict[bytes, list[bytes]] = {}
    for utterance, speaker in split_columns(lines, name, lambda count: count == 2, "an utterance and its speaker"):
        speakers.setdefault(speaker, []).append(utterance)
    return [b" ".join([speaker, *utterances]) + b"\n" for speaker, utterances in speakers.items()]


def utt2spk_lines(lines: Sequence[bytes], name: str | Path = "spk2utt") -> list[bytes]:
    """Convert ``spk2utt`` to ``utt2spk`` (``spk2utt_to_utt2spk.pl``)."""
    table = split_columns(lines, name, lambda count: count > 1, "a speaker and utterances")
    return [utterance + b" " + speaker + b"\n" for speaker, *utterances in table for utterance in utterances]


def filter_lines(
    lines: Sequence[bytes], ids: Collection[bytes], column: int = 1, exclude: bool = False, name: str | Path = "input"
) -> list[bytes]:
    r"""Keep the lines whose ``column`` (from 1) is in ``ids`` (``filter_scp.pl``).

    With ``exclude``, keep the other lines.

    Examples
    --------
    >>> filter_lines([b"a-1 a\n", b"b-1 b\n"], {b"b"}, column=2)
    [b'b-1 b\n']
    """
    expected = "a key" if column == 1 else f"{column} columns"
    table = split_columns(lines, name, lambda count: count >= column, expected)
    return [line for line, columns in zip(lines, table, strict=True) if (columns[column - 1] in ids) != exclude]


def split_lines(lines: Sequence[bytes], pieces: int, name: str | Path) -> list[list[bytes]]:
    """Split lines into pieces of almost equal length (``split_scp.pl``).

    Raises
    ------
    InputError
        There are fewer lines than pieces.
    """
    if len(lines) < pieces:
        raise InputError(f"{name}: {len(lines)} lines cannot be split into {pieces} pieces; use fewer pieces")
    return [list(lines[first:stop]) for first, stop in itertools.pairwise(split_bounds(len(lines), pieces))]


def split_bounds(count: int, pieces: int) -> list[int]:
    """Return the bounds at which ``split_scp.pl`` splits ``count`` lines.

    Piece ``p`` holds lines ``bounds[p]`` to ``bounds[p + 1]``. The first ``count mod pieces`` pieces are one line
    longer than the others.

    Examples
    --------
    >>> split_bounds(10, 4)
    [0, 3, 6, 8, 10]
    """
    length, longer = divmod(count, pieces)
    return [piece * length + min(piece, longer) for piece in range(pieces + 1)]


def split_by_speaker(
    lines: Sequence[bytes], pieces: int, utt2spk: Mapping[bytes, bytes], name: str | Path
) -> list[list[bytes]]:
    """Split lines into pieces of almost equal length with whole speakers (``split_scp.pl --utt2spk``).

    Raises
    ------
    InputError
        An utterance has no speaker, or there are not enough speakers for the pieces.

    Notes
    -----
    Each piece starts with the same number of speakers. Speakers then move to a neighbouring piece for as long as that
    brings the lengths of the two pieces closer together.
    """
    lines_of: dict[bytes, list[bytes]] = {}
    for number, line in enumerate(lines, 1):
        key = key_of(line)
        if key not in utt2spk:
            raise InputError(f"{name}:{number}: {text_of(key) or 'an empty line'} is not in utt2spk")
        lines_of.setdefault(utt2spk[key], []).append(line)
    if len(lines_of) < pieces:
        raise InputError(
            f"{name}: {len(lines_of)} speakers cannot be split into {pieces} pieces; "
            "use fewer pieces, or split by utterance"
        )
    by_speaker = list(lines_of.values())
    begins = _balanced_begins([len(speaker_lines) for speaker_lines in by_speaker], pieces)
    split = [
        list(itertools.chain.from_iterable(by_speaker[first:stop])) for first, stop in itertools.pairwise(begins)
    ]
    for number, piece in enumerate(split, 1):
        if not piece:
            raise InputError(f"{name}: piece {number} of {pieces} would be empty; use fewer pieces")
    return split


def _balanced_begins(sizes: Sequence[int], pieces: int) -> list[int]:
    """Return ``begins``: piece ``p`` holds the speakers from ``begins[p]`` up to ``begins[p + 1]``."""
    begins = [-(-piece * len(sizes) // pieces) for piece in range(pieces + 1)]
    length = [sum(sizes[first:stop]) for first, stop in itertools.pairwise(begins)]

    def move(left: int, to_right: bool) -> bool:
        """Move the speaker at the border of ``left`` and the next piece, if that makes them more equal."""
        border = begins[left + 1]
        speaker = border - 1 if to_right else border
        if not begins[left] <= speaker < begins[left + 2]:
            return False
        change = -sizes[speaker] if to_right else sizes[speaker]
        if abs(length[left + 1] - length[left] - 2 * change) >= abs(length[left + 1] - length[left]):
            return False
        length[left] += change
        length[left + 1] -= change
        begins[left + 1] += -1 if to_right else 1
        return True

    changed = True
    while changed:
        changed = False
        for piece in range(pieces):
            if piece < pieces - 1 and begins[piece] < begins[piece + 1]:
                changed |= move(piece, to_right=True)
            if piece > 0 and begins[piece] < begins[piece + 1]:
                changed |= move(piece - 1, to_right=False)
    return begins


def spread(lines: Sequence[bytes], count: int) -> list[bytes]:
    """Choose ``count`` evenly spread lines (``subset_scp.pl``): half of them from each half, recursively.

    Examples
    --------
    >>> spread([b"0", b"1", b"2", b"3", b"4", b"5"], 3)
    [b'2', b'3', b'5']
    """
    if count == 0:
        return []
    if len(lines) == 1:
        return list(lines)
    half = len(lines) // 2
    return spread(lines[:half], count // 2) + spread(lines[half:], count - count // 2)
