"""Read a corpus in the layout of LibriSpeech: PART/READER/CHAPTER/READER-CHAPTER-NUMBER.flac and transcripts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from deepspeaker.corpora.partitions import PARTS
from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir

#: The default parts, as far as they are on disk: those of LibriSpeech (openslr.org/12) and of the demo corpus.
_DEFAULT_PARTS = {
    "train": ("train-clean-100", "train-clean-360", "train-other-500", "train-clean-5", "demo-train"),
    "dev": ("dev-clean", "dev-other", "dev-clean-2", "demo-dev"),
    "test": ("test-clean", "test-other", "demo-test"),
}
#: Mini LibriSpeech (openslr.org/31) has no test part, so its development part becomes the test part.
_MINI_TEST_PARTS = ("dev-clean-2",)

_UTTERANCE = re.compile(r"(\d+)-(\d+)-(\d+)")


def find_parts(folder: Path) -> list[str]:
    """Return the sorted names of the parts of a corpus.

    Raises
    ------
    InputError
        The folder contains no corpus.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; --corpus-dir needs the one that contains train-clean-100 and so on"
        )
    parts = sorted(part.name for part in folder.iterdir() if part.is_dir() and any(part.glob("*/*/*.flac")))
    if not parts:
        inner = folder / "LibriSpeech"
        fix = f"give --corpus-dir {inner}" if inner.is_dir() else "expected PART/READER/CHAPTER/*.flac"
        raise InputError(f"{folder}: contains no LibriSpeech corpus; {fix}")
    return parts


def read_librispeech(folder: Path, train: Sequence[str], dev: Sequence[str], test: Sequence[str]) -> dict[str, DataDir]:
    """Read ``train``, ``dev`` (optional) and ``test`` of a corpus in LibriSpeech's layout.

    Parameters
    ----------
    folder
        The folder that contains the parts.
    train, dev, test
        The names of the parts for each use. If empty: the default parts of LibriSpeech, Mini LibriSpeech or the demo
        corpus that are on disk.

    Raises
    ------
    InputError
        A part is missing, an utterance is duplicated, or a file name does not match its folders.
    """
    found = find_parts(folder)
    given, defaults = {"train": train, "dev": dev, "test": test}, dict(_DEFAULT_PARTS)
    for use, names in given.items():
        for part in names:
            if part not in found:
                raise InputError(f"{folder}: has no part {part} (--{use}-parts); it has: {' '.join(found)}")
    free = [part for part in found if not any(part in names for names in given.values())]
    if not any(part in free for part in defaults["test"]):
        defaults["test"] = _MINI_TEST_PARTS
    data: dict[str, DataDir] = {}
    for use in ("test", "train", "dev"):  # the test set comes first, because it may take a development part
        parts = list(dict.fromkeys(given[use])) or [part for part in defaults[use] if part in free]
        free = [part for part in free if part not in parts]
        if parts:
            data[use] = _read_parts(folder, parts, f"--{use}-parts")
        elif use != "dev":
            raise InputError(f"{folder}: no part for {use}; name some of {' '.join(found)} with --{use}-parts")
    return {use: data[use] for use in PARTS if use in data}


def _read_parts(folder: Path, parts: Sequence[str], option: str) -> DataDir:
    joined = DataDir(utt2spk={})
    for part in parts:
        data = _read_part(folder, part)
        if duplicates := sorted(data.utt2spk.keys() & joined.utt2spk.keys()):
            raise InputError(f"{option}: the utterance {duplicates[0]} is in two of the parts; name one of them")
        for name in ("utt2spk", "wav_scp", "text", "spk2gender"):
            getattr(joined, name).update(getattr(data, name))
    return joined


def _read_part(folder: Path, part: str) -> DataDir:
    """Read ``wav.scp``, ``utt2spk``, and ``text`` and ``spk2gender`` as far as they are known."""
    data = DataDir(utt2spk={})
    for flac in sorted((folder / part).glob("*/*/*.flac")):
        match = _UTTERANCE.fullmatch(flac.stem)
        if not match or match[1] != flac.parent.parent.name:
            raise InputError(f"{flac}: the name is not READER-CHAPTER-NUMBER.flac of its folders; rename or remove it")
        if flac.stem in data.utt2spk:
            raise InputError(f"{flac}: the utterance {flac.stem} is duplicated; remove one of the files")
        data.utt2spk[flac.stem] = match[1]
        data.wav_scp[flac.stem] = str(flac.resolve())
    for transcript in sorted((folder / part).glob("*/*/*.trans.txt")):
        for line in transcript.read_text(encoding="utf-8", errors="replace").splitlines():
            utterance, _, words = line.strip().partition(" ")
            if utterance in data.utt2spk and words:
                data.text[utterance] = words
    genders = _read_genders(folder / "SPEAKERS.TXT")
    data.spk2gender = {speaker: genders[speaker] for speaker in data.spk2utt if speaker in genders}
    return data


def _read_genders(path: Path) -> dict[str, str]:
    """Return reader -> m or f."""
    genders: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = [field.strip() for field in line.split("|")]
            if not line.startswith(";") and len(fields) > 1 and fields[1] in ("M", "F"):
                genders[fields[0]] = fields[1].lower()
    return genders
