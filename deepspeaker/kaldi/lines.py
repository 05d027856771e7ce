"""Tables as lines of bytes, for programs that must pass on what they do not understand: Kaldi's text utilities.

Columns are parted by blanks, the first is the key, and order is that of bytes, as under ``LC_ALL=C``. Lines keep their
line end. Rules are those of the programs of Kaldi's ``egs/wsj/s5/utils`` that the functions name.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from deepspeaker.errors import InputError

#: The tables of a data directory -> what their keys are; without segments, recordings are utterances.
KEYS = {
    "utt2spk": "utterance",
    "spk2utt": "speaker",
    **dict.fromkeys(("text", "segments", "feats.scp", "vad.scp", "utt2lang", "utt2uniq"), "utterance"),
    **dict.fromkeys(("utt2dur", "utt2num_frames", "utt2warp"), "utterance"),
    **dict.fromkeys(("cmvn.scp", "spk2gender", "spk2warp"), "speaker"),
    **dict.fromkeys(("wav.scp", "reco2file_and_channel", "reco2dur"), "recording"),
}


def read_lines(path: str | Path) -> list[bytes]:
    """The lines of a file, or of stdin where ``path`` is "-"."""
    if str(path) == "-":
        return list(sys.stdin.buffer)
    try:
        with Path(path).open("rb") as stream:
            return list(stream)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def key_of(line: bytes) -> bytes:
    """The first column, b"" of an empty line."""
    return line.split(maxsplit=1)[0] if line.strip() else b""


def keys_of(lines: Iterable[bytes]) -> list[bytes]:
    return [key_of(line) for line in lines]


def text_of(value: bytes) -> str:
    """For messages."""
    return value.decode(errors="replace")


def columns_of(lines: Sequence[bytes], name: str | Path, fits: Callable[[int], bool], wanted: str) -> list[list[bytes]]:
    """The columns of each line; ``InputError`` with file and line where their number does not fit."""
    table = [line.split() for line in lines]
    for number, columns in enumerate(table, 1):
        if not fits(len(columns)):
            raise InputError(f"{name}:{number}: {wanted} wanted, there is {text_of(lines[number - 1].strip())!r}")
    return table


def speaker_of_utterance(lines: Sequence[bytes], name: str | Path = "utt2spk") -> dict[bytes, bytes]:
    """Utterance -> speaker."""
    table = columns_of(lines, name, lambda count: count == 2, "an utterance and its speaker")
    return dict(table)


def spk2utt_lines(lines: Sequence[bytes], name: str | Path = "utt2spk") -> list[bytes]:
    """``utt2spk_to_spk2utt.pl``: speakers and their utterances in the order in which they come."""
    speakers: dict[bytes, list[bytes]] = {}
    for utterance, speaker in columns_of(lines, name, lambda count: count == 2, "an utterance and its speaker"):
        speakers.setdefault(speaker, []).append(utterance)
    return [b" ".join([speaker, *utterances]) + b"\n" for speaker, utterances in speakers.items()]


def utt2spk_lines(lines: Sequence[bytes], name: str | Path = "spk2utt") -> list[bytes]:
    """``spk2utt_to_utt2spk.pl``."""
    table = columns_of(lines, name, lambda count: count > 1, "a speaker and utterances")
    return [utterance + b" " + speaker + b"\n" for speaker, *utterances in table for utterance in utterances]


def filter_lines(
    lines: Sequence[bytes], ids: Collection[bytes], column: int = 1, exclude: bool = False, name: str | Path = "input"
) -> list[bytes]:
    """``filter_scp.pl``: the lines whose ``column`` (from 1) is, or with ``exclude`` is not, among ``ids``."""
    wanted = "a key" if column == 1 else f"{column} columns"
    table = columns_of(lines, name, lambda count: count >= column, wanted)
    return [
        line for line, columns in zip(lines, table, strict=True) if (columns[column - 1] in ids) != exclude
    ]


def split_lines(lines: Sequence[bytes], pieces: int, name: str | Path) -> list[list[bytes]]:
    """``split_scp.pl``: pieces of nearly equal length (see ``split_bounds``)."""
    if len(lines) < pieces:
        raise InputError(f"{name}: {len(lines)} lines cannot be split into {pieces} pieces; take fewer")
    return [list(lines[first:stop]) for first, stop in itertools.pairwise(split_bounds(len(lines), pieces))]


def split_bounds(count: int, pieces: int) -> list[int]:
    """Where ``split_scp.pl`` cuts ``count`` lines: piece ``p`` holds lines ``bounds[p]`` to ``bounds[p + 1]``.

    Pieces are of equal length; where that does not come out even, the first ``count mod pieces`` are a line longer.
    """
    length, longer = divmod(count, pieces)
    return [piece * length + min(piece, longer) for piece in range(pieces + 1)]


def split_by_speaker(
    lines: Sequence[bytes], pieces: int, utt2spk: Mapping[bytes, bytes], name: str | Path
) -> list[list[bytes]]:
    """``split_scp.pl --utt2spk``: pieces of nearly equal length that part no speaker.

    Each piece begins with an equal number of speakers; then speakers go over the border between neighbours for as long
    as that brings the lengths of the two nearer to each other.
    """
    owned: dict[bytes, list[bytes]] = {}
    for number, line in enumerate(lines, 1):
        key = key_of(line)
        if key not in utt2spk:
            raise InputError(f"{name}:{number}: {text_of(key) or 'an empty line'} is not in utt2spk")
        owned.setdefault(utt2spk[key], []).append(line)
    speakers = list(owned)
    if len(speakers) < pieces:
        raise InputError(
            f"{name}: {len(speakers)} speakers cannot be split into {pieces} pieces; take fewer, or split per utterance"
        )
    # Piece p holds the speakers from begins[p] up to begins[p + 1].
    begins = [-(-piece * len(speakers) // pieces) for piece in range(pieces + 1)]
    sizes = [len(owned[speaker]) for speaker in speakers]
    length = [sum(sizes[first:stop]) for first, stop in itertools.pairwise(begins)]

    def moved(left: int, to_right: bool) -> bool:
        """Whether a speaker at the border of ``left`` and the piece after it went over to the other."""
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
                changed |= moved(piece, to_right=True)
            if piece > 0 and begins[piece] < begins[piece + 1]:
                changed |= moved(piece - 1, to_right=False)
    split = [
        [line for speaker in speakers[first:stop] for line in owned[speaker]]
        for first, stop in itertools.pairwise(begins)
    ]
    for number, piece_lines in enumerate(split, 1):
        if not piece_lines:
            raise InputError(f"{name}: piece {number} of {pieces} would be empty; take fewer pieces")
    return split


def spread(lines: Sequence[bytes], count: int) -> list[bytes]:
    """``subset_scp.pl``: ``count`` of the lines, spread evenly: each half gives half of them, and so on."""
    if count == 0:
        return []
    if len(lines) == 1:
        return list(lines)
    half = len(lines) // 2
    return spread(lines[:half], count // 2) + spread(lines[half:], count - count // 2)
