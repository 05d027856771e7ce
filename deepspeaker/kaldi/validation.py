"""What is wrong with a data directory: the checks of Kaldi's ``utils/validate_data_dir.sh``, each with its place."""

from __future__ import annotations

import itertools
import math
import re
import shlex
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from deepspeaker.kaldi.lines import KEYS, key_of, keys_of, text_of

#: White space that is neither blank nor tab, of which Kaldi's validate_text.pl wants none.
_OTHER_BLANKS = re.compile("[\r\v\f\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_ILLEGAL = re.compile(r"(?<!\w)(<s>|</s>|#0)(?!\w)", re.ASCII)
_FIX = "utils/fix_data_dir.sh mends it"


class Finding(NamedTuple):
    """Something that is wrong, or (``warning``) only unwise."""

    file: Path
    line: int | None
    what: str
    mend: str
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {'warning: ' if self.warning else ''}{self.what}; {self.mend}"


def validate_data_dir(
    path: str | Path,
    *,
    feats: bool = True,
    wav: bool = True,
    text: bool = True,
    spk_sort: bool = True,
    printable: bool = True,
) -> list[Finding]:
    """All that is wrong with a data directory.

    ``feats``, ``wav`` and ``text``: these must be there (whatever is there is checked). ``spk_sort``: utt2spk is
    sorted by speakers too. ``printable``: no control characters in ``text``.
    """
    return _Check(Path(path)).run(feats, wav, text, spk_sort, printable)


class _Check:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings: list[Finding] = []
        self.tables: dict[str, list[bytes]] = {}
        self.numbers: dict[str, dict[bytes, int]] = {}  # of lines that something is wrong with
        utt2spk, spk2utt = (shlex.quote(str(folder / name)) for name in ("utt2spk", "spk2utt"))
        self.make_spk2utt = f"make it: utils/utt2spk_to_spk2utt.pl {utt2spk} > {spk2utt}"

    def found(self, name: str, line: int | None, what: str, mend: str, warning: bool = False) -> None:
        self.findings.append(Finding(self.folder / name if name else self.folder, line, what, mend, warning))

    def run(self, feats: bool, wav: bool, text: bool, spk_sort: bool, printable: bool) -> list[Finding]:
        if not self.folder.is_dir():
            self.found("", None, "no such data directory", "name one that is there")
            return self.findings
        for file in sorted(self.folder.iterdir()):
            if file.name in KEYS and file.is_file():
                self.tables[file.name] = file.read_bytes().split(b"\n")
                self.check_lines(file.name)
        for name, missing, empty in (
            ("utt2spk", "make it; nothing else tells the speakers", "write a line for each utterance"),
            ("spk2utt", self.make_spk2utt, self.make_spk2utt),
        ):
            if name not in self.tables:
                self.found(name, None, "no such file", missing)
            elif not self.tables[name]:
                self.found(name, None, "is empty", empty)
        if self.tables.get("utt2spk"):
            self.check_speakers(spk_sort)
        for name, wanted in (("feats.scp", feats), ("wav.scp", wav), ("text", text)):
            if wanted and name not in self.tables:
                option = f"--no-{name.partition('.')[0]}"
                self.found(name, None, "no such file", f"make it, or give {option} if this is meant")
        self.check_text(printable)
        self.check_recordings()
        self.check_ids()
        self.check_values()
        return self.findings

    def keys(self, name: str) -> list[bytes]:
        return keys_of(self.tables[name])

    def check_lines(self, name: str) -> None:
        """Line ends, empty lines, order and repetitions; keeps the lines that are not empty."""
        lines = self.tables[name]
        if lines[-1]:
            self.found(name, len(lines), "the last line does not end", f"end it with a newline; {_FIX}")
        else:
            lines.pop()
        seen: dict[bytes, int] = {}
        before = b""
        sorted_so_far = True
        for number, line in enumerate(lines, 1):
            key = key_of(line)
            if not key:
                self.found(name, number, "empty line", _FIX)
            elif key in seen:
                self.found(name, number, f"{text_of(key)} stands in line {seen[key]} already", f"keep one; {_FIX}")
            else:
                if key < before and sorted_so_far:
                    what = f"{text_of(key)} after {text_of(before)} is not the order of LC_ALL=C sort"
                    self.found(name, number, what, _FIX)
                    sorted_so_far = False
                seen[key] = number
                before = key
            if line.endswith(b"\r"):
                self.found(name, number, "ends in a carriage return", _FIX)
        self.tables[name] = [line for line in lines if key_of(line)]

    def check_speakers(self, spk_sort: bool) -> None:
        if not self.columns("utt2spk", 2, "an utterance and its speaker"):
            return
        pairs = [line.split() for line in self.tables["utt2spk"]]
        if spk_sort and [u for u, _ in pairs] == sorted(u for u, _ in pairs):
            for number, ((_, before), (utterance, speaker)) in enumerate(itertools.pairwise(pairs), 2):
                if speaker < before:
                    what = f"the speaker {text_of(speaker)} of {text_of(utterance)} comes after {text_of(before)}"
                    self.found("utt2spk", number, what, "let ids begin with their speaker's, or give --no-spk-sort")
                    break
        if not self.tables.get("spk2utt"):
            return
        told = [(u, columns[0]) for columns in map(bytes.split, self.tables["spk2utt"]) for u in columns[1:]]
        if told != [(u, s) for u, s in pairs]:
            differ = set(told) ^ {(u, s) for u, s in pairs}
            what = "has other utterances than utt2spk, or another order"
            if differ:
                utterance, speaker = min(differ)
                where = "here" if (utterance, speaker) in set(told) else "in utt2spk"
                what = f"does not fit utt2spk: only {where} is {text_of(utterance)} of {text_of(speaker)}"
            self.found("spk2utt", None, what, self.make_spk2utt)
        if len(self.tables["spk2utt"]) == 1:
            self.found("spk2utt", 1, "there is one speaker only", "a bad idea, unless it is meant", warning=True)

    def columns(self, name: str, count: int, wanted: str) -> bool:
        """Whether all lines of a table have so many columns."""
        bad = [line for line in self.tables[name] if len(line.split()) != count]
        for line in bad[:10]:
            self.bad_line(name, line, f"{wanted} wanted")
        return not bad

    def bad_line(self, name: str, line: bytes, what: str) -> None:
        self.found(name, self.number_of(name, line), f"{what}, there is {text_of(line.strip())!r}", "mend the line")

    def number_of(self, name: str, line: bytes) -> int:
        if name not in self.numbers:
            lines = (self.folder / name).read_bytes().split(b"\n")
            self.numbers[name] = {line: number for number, line in reversed(list(enumerate(lines, 1)))}
        return self.numbers[name][line]

    def check_text(self, printable: bool) -> None:
        for line in self.tables.get("text", []):
            try:
                words = line.decode().rstrip("\r")
            except UnicodeDecodeError:
                self.bad_line("text", line, "UTF-8 wanted")
                continue
            if other := _OTHER_BLANKS.search(words):
                self.bad_line("text", line, f"no white space but blanks and tabs (U+{ord(other[0]):04X}) wanted")
            elif printable and any(unicodedata.category(c) in ("Cc", "Cn", "Cs") and c not in " \t" for c in words):
                self.bad_line("text", line, "printable characters (or --non-print) wanted")
            if illegal := _ILLEGAL.search(words):
                self.bad_line("text", line, f"a text without Kaldi's symbol {illegal[1]} wanted")

    def check_recordings(self) -> None:
        for line in self.tables.get("wav.scp", []):
            columns = line.split(maxsplit=1)
            if len(columns) < 2:
                self.bad_line("wav.scp", line, "a file or a command after the id wanted")
            elif columns[1].startswith(b"~"):
                self.bad_line("wav.scp", line, "a path without ~, which nobody expands, wanted")
        if "segments" not in self.tables:
            return
        if "wav.scp" not in self.tables:
            self.found("segments", None, "is there without wav.scp", "add wav.scp, or remove segments")
        for line in self.tables["segments"]:
            if not _is_segment(line.split()):
                self.bad_line("segments", line, "an utterance, its recording, start and a later end in seconds")

    def check_ids(self) -> None:
        """The same utterances, speakers and recordings everywhere."""
        recordings = "wav.scp"
        if "segments" in self.tables and "wav.scp" in self.tables:
            recordings = "segments"
            wanted = {c[1] for c in map(bytes.split, self.tables["segments"]) if len(c) > 1}
            self.same_ids("wav.scp", wanted, "segments", "recording")
        for name, kind in KEYS.items():
            if name not in self.tables or name in ("utt2spk", "spk2utt"):
                continue
            if kind == "recording" and name != "wav.scp" and "wav.scp" in self.tables:
                self.same_ids(name, set(self.keys("wav.scp")), "wav.scp", "recording")
            elif kind == "speaker" and self.tables.get("spk2utt"):
                self.same_ids(name, set(self.keys("spk2utt")), "spk2utt", "speaker")
            elif (kind == "utterance" or name == recordings == "wav.scp") and self.tables.get("utt2spk"):
                self.same_ids(name, set(self.keys("utt2spk")), "utt2spk", "utterance")

    def same_ids(self, name: str, wanted: set[bytes], other: str, kind: str) -> None:
        there = self.keys(name)
        for ids, where, whose in ((wanted - set(there), other, name), (set(there) - wanted, name, other)):
            if not ids:
                continue
            first = min(ids)
            column = 1 if where == "segments" and kind == "recording" else 0
            line = next(x for x in self.tables[where] if x.split()[column : column + 1] == [first])
            what = f"{len(ids)} {kind}{'s' if len(ids) > 1 else ''} not in {whose} (first: {text_of(first)})"
            self.found(where, self.number_of(where, line), what, f"add to {whose} or remove here; {_FIX}")

    def check_values(self) -> None:
        for name, (fits, wanted) in _VALUES.items():
            bad = [line for line in self.tables.get(name, []) if not fits(line.split()[1:])]
            for line in bad[:10]:
                self.bad_line(name, line, f"{wanted} wanted")
        for line in self.tables.get("reco2file_and_channel", []):
            if line.split()[2:] == [b"1"]:
                number = self.number_of("reco2file_and_channel", line)
                self.found("reco2file_and_channel", number, "the channel is 1", "write A or B", warning=True)


def _number(value: bytes) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _is_segment(columns: Sequence[bytes]) -> bool:
    if len(columns) != 4:
        return False
    start, end = _number(columns[2]), _number(columns[3])
    return 0 <= start < math.inf and (start < end < math.inf or end == -1)  # -1: the recording's end


def _one(fits: Callable[[float], bool]) -> Callable[[list[bytes]], bool]:
    return lambda values: len(values) == 1 and fits(_number(values[0]))


#: Table -> what its values must be.
_VALUES: dict[str, tuple[Callable[[list[bytes]], bool], str]] = {
    "spk2gender": (lambda values: values in ([b"m"], [b"f"]), "a speaker and m or f"),
    "utt2dur": (_one(lambda x: 0 < x < math.inf), "an utterance and its seconds"),
    "reco2dur": (_one(lambda x: 0 < x < math.inf), "a recording and its seconds"),
    "utt2num_frames": (_one(lambda x: x > 0 and x.is_integer()), "an utterance and its number of frames"),
    "spk2warp": (_one(lambda x: 0.5 < x < 1.5), "a speaker and a factor between 0.5 and 1.5"),
    "utt2warp": (_one(lambda x: 0.5 < x < 1.5), "an utterance and a factor between 0.5 and 1.5"),
    "reco2file_and_channel": (
        lambda values: len(values) == 2 and values[1] in (b"A", b"B", b"1"),
        "a recording, a file and the channel A or B",
    ),
}
