"""Find errors in a data directory, with the checks of Kaldi's ``utils/validate_data_dir.sh``."""

from __future__ import annotations

import itertools
import math
import re
import shlex
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from deepspeaker.kaldi.datadir import TABLE_KEYS
from deepspeaker.kaldi.tables import read_lines
from deepspeaker.kaldi.text_utils import key_of, keys_of, text_of

#: White space other than blank and tab, which Kaldi's validate_text.pl rejects.
_OTHER_BLANKS = re.compile("[\r\v\f\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_ILLEGAL = re.compile(r"(?<!\w)(<s>|</s>|#0)(?!\w)", re.ASCII)
_RUN_FIX = "utils/fix_data_dir.sh fixes it"


class Finding(NamedTuple):
    """An error in a data directory, or (``warning``) something unwise."""

    file: Path
    line: int | None
    problem: str
    fix: str
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {'warning: ' if self.warning else ''}{self.problem}; {self.fix}"


def validate_data_dir(
    path: str | Path,
    *,
    feats: bool = True,
    wav: bool = True,
    text: bool = True,
    spk_sort: bool = True,
    printable: bool = True,
) -> list[Finding]:
    """Return everything that is wrong with a data directory.

    Parameters
    ----------
    path
        The data directory.
    feats, wav, text
        Whether ``feats.scp``, ``wav.scp`` or ``text`` must exist. If they exist, they are always checked.
    spk_sort
        Whether ``utt2spk`` must be sorted by speaker too.
    printable
        Whether ``text`` must be free of control characters.
    """
    return _Validator(Path(path)).run(feats, wav, text, spk_sort, printable)


class _Validator:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings: list[Finding] = []
        self.all_lines: dict[str, list[bytes]] = {}
        self.tables: dict[str, list[bytes]] = {}  # without empty lines
        self.numbers: dict[str, dict[bytes, int]] = {}  # table -> line -> line number
        utt2spk, spk2utt = (shlex.quote(str(folder / name)) for name in ("utt2spk", "spk2utt"))
        self.create_spk2utt = f"create it: utils/utt2spk_to_spk2utt.pl {utt2spk} > {spk2utt}"

    def report(self, name: str, line: int | None, problem: str, fix: str, warning: bool = False) -> None:
        self.findings.append(Finding(self.folder / name if name else self.folder, line, problem, fix, warning))

    def run(self, feats: bool, wav: bool, text: bool, spk_sort: bool, printable: bool) -> list[Finding]:
        if not self.folder.is_dir():
            self.report("", None, "no such data directory", "give an existing one")
            return self.findings
        for file in sorted(self.folder.iterdir()):
            if file.name in TABLE_KEYS and file.is_file():
                self.check_lines(file.name)
        for name, missing, empty in (
            ("utt2spk", "create it; it is the only source of the speakers", "write a line for each utterance"),
            ("spk2utt", self.create_spk2utt, self.create_spk2utt),
        ):
            if name not in self.tables:
                self.report(name, None, "no such file", missing)
            elif not self.tables[name]:
                self.report(name, None, "is empty", empty)
        if self.tables.get("utt2spk"):
            self.check_speakers(spk_sort)
        for name, required in (("feats.scp", feats), ("wav.scp", wav), ("text", text)):
            if required and name not in self.tables:
                option = f"--no-{name.partition('.')[0]}"
                self.report(name, None, "no such file", f"create it, or give {option} if it is not needed")
        self.check_text(printable)
        self.check_recordings()
        self.check_ids()
        self.check_values()
        return self.findings

    def keys(self, name: str) -> list[bytes]:
        return keys_of(self.tables[name])

    def check_lines(self, name: str) -> None:
        """Read a table and check line ends, empty lines, order and duplicates."""
        lines = read_lines(self.folder / name)
        if lines and not lines[-1].endswith(b"\n"):
            self.report(name, len(lines), "the last line does not end", f"end it with a newline; {_RUN_FIX}")
        lines = self.all_lines[name] = [line.removesuffix(b"\n") for line in lines]
        seen: dict[bytes, int] = {}
        before = b""
        sorted_so_far = True
        for number, line in enumerate(lines, 1):
            key = key_of(line)
            if not key:
                self.report(name, number, "empty line", _RUN_FIX)
            elif key in seen:
                self.report(name, number, f"{text_of(key)} is already in line {seen[key]}", f"keep one; {_RUN_FIX}")
            else:
                if key < before and sorted_so_far:
                    problem = f"{text_of(key)} after {text_of(before)} is not the order of LC_ALL=C sort"
                    self.report(name, number, problem, _RUN_FIX)
                    sorted_so_far = False
                seen[key] = number
                before = key
            if line.endswith(b"\r"):
                self.report(name, number, "ends in a carriage return", _RUN_FIX)
        self.tables[name] = [line for line in lines if key_of(line)]

    def check_speakers(self, spk_sort: bool) -> None:
        bad = [line for line in self.tables["utt2spk"] if len(line.split()) != 2]
        for line in bad[:10]:
            self.report_line("utt2spk", line, "an utterance and its speaker")
        if bad:
            return
        pairs = [(utterance, speaker) for utterance, speaker in map(bytes.split, self.tables["utt2spk"])]
        if spk_sort and [u for u, _ in pairs] == sorted(u for u, _ in pairs):
            for number, ((_, before), (utterance, speaker)) in enumerate(itertools.pairwise(pairs), 2):
                if speaker < before:
                    problem = f"the speaker {text_of(speaker)} of {text_of(utterance)} comes after {text_of(before)}"
                    fix = "start each id with that of its speaker, or give --no-spk-sort"
                    self.report("utt2spk", number, problem, fix)
                    break
        if not self.tables.get("spk2utt"):
            return
        found = [(u, columns[0]) for columns in map(bytes.split, self.tables["spk2utt"]) for u in columns[1:]]
        if found != pairs:
            problem = "has other utterances than utt2spk, or another order"
            if differences := set(found) ^ set(pairs):
                utterance, speaker = min(differences)
                where = "here" if (utterance, speaker) in set(found) else "in utt2spk"
                problem = f"contradicts utt2spk: {text_of(utterance)} of {text_of(speaker)} is only {where}"
            self.report("spk2utt", None, problem, self.create_spk2utt)
        if len(self.tables["spk2utt"]) == 1:
            self.report("spk2utt", 1, "there is only one speaker", "check that this is intended", warning=True)

    def report_line(self, name: str, line: bytes, expected: str) -> None:
        problem = f"expected {expected}, found {text_of(line.strip())!r}"
        self.report(name, self.number_of(name, line), problem, "correct the line")

    def number_of(self, name: str, line: bytes) -> int:
        if name not in self.numbers:
            numbered = list(enumerate(self.all_lines[name], 1))
            self.numbers[name] = {line: number for number, line in reversed(numbered)}
        return self.numbers[name][line]

    def check_text(self, printable: bool) -> None:
        for line in self.tables.get("text", []):
            try:
                words = line.decode().rstrip("\r")
            except UnicodeDecodeError:
                self.report_line("text", line, "UTF-8")
                continue
            if other := _OTHER_BLANKS.search(words):
                self.report_line("text", line, f"no white space but blanks and tabs (U+{ord(other[0]):04X})")
            elif printable and any(unicodedata.category(c) in ("Cc", "Cn", "Cs") and c not in " \t" for c in words):
                self.report_line("text", line, "printable characters (or --non-print)")
            if illegal := _ILLEGAL.search(words):
                self.report_line("text", line, f"a text without Kaldi's symbol {illegal[1]}")

    def check_recordings(self) -> None:
        for line in self.tables.get("wav.scp", []):
            columns = line.split(maxsplit=1)
            if len(columns) < 2:
                self.report_line("wav.scp", line, "a file or a command after the id")
            elif columns[1].startswith(b"~"):
                self.report_line("wav.scp", line, "a path without ~, which is not expanded")
        if "segments" not in self.tables:
            return
        if "wav.scp" not in self.tables:
            self.report("segments", None, "needs wav.scp, which does not exist", "add wav.scp, or remove segments")
        for line in self.tables["segments"]:
            if not _is_segment(line.split()):
                self.report_line("segments", line, "an utterance, its recording, start and a later end in seconds")

    def check_ids(self) -> None:
        """Check that all tables have the same utterances, speakers and recordings."""
        recordings = "wav.scp"
        if "segments" in self.tables and "wav.scp" in self.tables:
            recordings = "segments"
            expected = {c[1] for c in map(bytes.split, self.tables["segments"]) if len(c) > 1}
            self.compare_ids("wav.scp", expected, "segments", "recording")
        for name, kind in TABLE_KEYS.items():
            if name not in self.tables or name in ("utt2spk", "spk2utt"):
                continue
            if kind == "recording" and name != "wav.scp" and "wav.scp" in self.tables:
                self.compare_ids(name, set(self.keys("wav.scp")), "wav.scp", "recording")
            elif kind == "speaker" and self.tables.get("spk2utt"):
                self.compare_ids(name, set(self.keys("spk2utt")), "spk2utt", "speaker")
            elif (kind == "utterance" or name == recordings == "wav.scp") and self.tables.get("utt2spk"):
                self.compare_ids(name, set(self.keys("utt2spk")), "utt2spk", "utterance")

    def compare_ids(self, name: str, expected: set[bytes], other: str, kind: str) -> None:
        found = set(self.keys(name))
        for ids, present, absent in ((expected - found, other, name), (found - expected, name, other)):
            if not ids:
                continue
            first = min(ids)
            column = 1 if present == "segments" and kind == "recording" else 0
            line = next(x for x in self.tables[present] if x.split()[column : column + 1] == [first])
            problem = f"{len(ids)} {kind}{'s' if len(ids) > 1 else ''} not in {absent} (first: {text_of(first)})"
            fix = f"add to {absent} or remove here; {_RUN_FIX}"
            self.report(present, self.number_of(present, line), problem, fix)

    def check_values(self) -> None:
        for name, (fits, expected) in _VALUES.items():
            bad = [line for line in self.tables.get(name, []) if not fits(line.split()[1:])]
            for line in bad[:10]:
                self.report_line(name, line, expected)
        for line in self.tables.get("reco2file_and_channel", []):
            if line.split()[2:] == [b"1"]:
                number = self.number_of("reco2file_and_channel", line)
                self.report("reco2file_and_channel", number, "the channel is 1", "write A or B", warning=True)


def _number(value: bytes) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _is_segment(columns: Sequence[bytes]) -> bool:
    if len(columns) != 4:
        return False
    start, end = _number(columns[2]), _number(columns[3])
    return 0 <= start < math.inf and (start < end < math.inf or end == -1)  # -1: the end of the recording


def _single(fits: Callable[[float], bool]) -> Callable[[list[bytes]], bool]:
    return lambda values: len(values) == 1 and fits(_number(values[0]))


#: Table -> check of the values after the key, and a description of a correct line.
_VALUES: dict[str, tuple[Callable[[list[bytes]], bool], str]] = {
    "spk2gender": (lambda values: values in ([b"m"], [b"f"]), "a speaker and m or f"),
    "utt2dur": (_single(lambda x: 0 < x < math.inf), "an utterance and its seconds"),
    "reco2dur": (_single(lambda x: 0 < x < math.inf), "a recording and its seconds"),
    "utt2num_frames": (_single(lambda x: x > 0 and x.is_integer()), "an utterance and its number of frames"),
    "spk2warp": (_single(lambda x: 0.5 < x < 1.5), "a speaker and a factor between 0.5 and 1.5"),
    "utt2warp": (_single(lambda x: 0.5 < x < 1.5), "an utterance and a factor between 0.5 and 1.5"),
    "reco2file_and_channel": (
        lambda values: len(values) == 2 and values[1] in (b"A", b"B", b"1"),
        "a recording, a file and the channel A or B",
    ),
}
