"""LibriSpeech's layout on disk: part/reader/chapter/reader-chapter-number.flac, with ``*.trans.txt`` beside it."""

from __future__ import annotations

import re
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir

#: The parts of LibriSpeech (openslr.org/12) by their use here; those that are on disk are taken. Mini LibriSpeech
#: (openslr.org/31) has no test part: there dev-clean-2 is the test.
TRAIN_PARTS = ("train-clean-100", "train-clean-360", "train-other-500", "train-clean-5")
DEV_PARTS = ("dev-clean", "dev-other", "dev-clean-2")
TEST_PARTS = ("test-clean", "test-other")
MINI_TEST_PARTS = ("dev-clean-2",)

_UTTERANCE = re.compile(r"(\d+)-(\d+)-(\d+)")


def find_parts(folder: Path) -> list[str]:
    """The names of the parts in a corpus' folder, sorted; raises ``InputError`` when there is no such corpus."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --corpus-dir wants the one that holds train-clean-100 and so on")
    parts = sorted(part.name for part in folder.iterdir() if part.is_dir() and any(part.glob("*/*/*.flac")))
    if not parts:
        inner = folder / "LibriSpeech"
        mend = f"give --corpus-dir {inner}" if inner.is_dir() else "PART/READER/CHAPTER/*.flac is wanted"
        raise InputError(f"{folder}: no LibriSpeech corpus is there; {mend}")
    return parts


def read_part(folder: Path, part: str) -> DataDir:
    """The data directory of one part: ``wav.scp``, ``utt2spk``, ``text`` and ``spk2gender`` as far as they are known.

    Missing transcripts are no obstacle, nor transcripts without audio; of SPEAKERS.TXT only the sex is used.
    """
    data = DataDir(utt2spk={})
    for flac in sorted((folder / part).glob("*/*/*.flac")):
        match = _UTTERANCE.fullmatch(flac.stem)
        if not match or match[1] != flac.parent.parent.name:
            raise InputError(f"{flac}: the name is not READER-CHAPTER-NUMBER.flac of its folders; rename or remove it")
        if flac.stem in data.utt2spk:
            raise InputError(f"{flac}: the utterance {flac.stem} comes twice")
        data.utt2spk[flac.stem] = match[1]
        data.wav_scp[flac.stem] = str(flac.resolve())
    for transcript in sorted((folder / part).glob("*/*/*.trans.txt")):
        for line in transcript.read_text(encoding="utf-8", errors="replace").splitlines():
            utterance, _, words = line.strip().partition(" ")
            if utterance in data.utt2spk and words:
                data.text[utterance] = words
    sexes = _sexes(folder / "SPEAKERS.TXT")
    data.spk2gender = {speaker: sexes[speaker] for speaker in data.spk2utt if speaker in sexes}
    return data


def _sexes(path: Path) -> dict[str, str]:
    """Reader -> m or f."""
    sexes: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = [field.strip() for field in line.split("|")]
            if not line.startswith(";") and len(fields) > 1 and fields[1] in ("M", "F"):
                sexes[fields[0]] = fields[1].lower()
    return sexes
