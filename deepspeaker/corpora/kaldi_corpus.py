"""Read a corpus that is a folder of Kaldi data directories."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from deepspeaker.audio import audio_file
from deepspeaker.corpora.partitions import PARTS
from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir

#: A speaker of Kaldi's LibriSpeech recipe: a reader and a chapter.
_CHAPTER = re.compile(r"((?:lbi-)?\d+)-\d+")
#: An utterance of LibriSpeech: a reader, a chapter and a number of four digits.
_UTTERANCE = re.compile(r"(((?:lbi-)?\d+)-\d+)-\d{4}")


def read_kaldi(folder: Path, allow_pipes: bool = True) -> dict[str, DataDir]:
    """Read ``train``, ``dev`` (optional) and ``test`` of a folder of Kaldi data directories.

    Relative paths become absolute. They may be relative to the current folder, to ``folder``, or to its parent, as in
    Kaldi's s5.

    Raises
    ------
    InputError
        A data directory is missing or wrong, or an entry of wav.scp runs a command and ``allow_pipes`` is false.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --corpus-dir needs one with data directories train and test")
    data = {}
    for part in PARTS:
        if part != "dev" and not (folder / part).is_dir():
            raise InputError(
                f"{folder / part}: no such data directory; it needs wav.scp and utt2spk (for a folder of recordings "
                "without tables, give --corpus folder)"
            )
        if (folder / part).is_dir():
            data[part] = DataDir.read(folder / part)
            if not allow_pipes:
                _refuse_pipes(folder / part / "wav.scp", data[part].wav_scp)
            for table in (data[part].wav_scp, data[part].feats_scp, data[part].vad_scp):
                for utterance, location in table.items():
                    table[utterance] = _absolute(location, folder)
    return data


def _refuse_pipes(path: Path, wav_scp: Mapping[str, str]) -> None:
    lines = enumerate(wav_scp.items(), 1)
    pipes = [(n, name) for n, (name, location) in lines if location.endswith("|") and audio_file(location) is None]
    if pipes:
        number, name = pipes[0]
        raise InputError(
            f"{path}:{number}: {name} is a pipe, which runs a command ({len(pipes)} such lines); give "
            "--allow-pipes true if you trust them"
        )


def _absolute(location: str, folder: Path) -> str:
    path = audio_file(location) or ("" if location.endswith("|") else location.rpartition(":")[0])
    if not path or Path(path).is_absolute():
        return location
    before, _, after = location.rpartition(path)
    for base in (Path(), folder, folder.parent):
        if (base / path.rpartition(":")[0]).is_file() or (base / path).is_file():
            return f"{before}{base.resolve() / path}{after}"
    return location


def merge_chapters(data: Mapping[str, DataDir]) -> None:
    """Merge the speakers of Kaldi's LibriSpeech recipe, which are chapters, into readers.

    ``lbi-84-121123`` becomes ``lbi-84``, so that utterance ids still begin with their speaker id. ``84-121123`` becomes
    ``84``.

    Raises
    ------
    InputError
        A speaker id has another form, or the chapters of a reader differ in gender.
    """
    for part, directory in data.items():
        for utterance, speaker in directory.utt2spk.items():
            directory.utt2spk[utterance] = _reader(speaker, part)
        genders: dict[str, str] = {}
        for speaker, gender in directory.spk2gender.items():
            if genders.setdefault(_reader(speaker, part), gender) != gender:
                raise InputError(f"{part}/spk2gender: the chapters of reader {_reader(speaker, part)} differ in gender")
        directory.spk2gender = genders


def _reader(speaker: str, part: str) -> str:
    match = _CHAPTER.fullmatch(speaker)
    if not match:
        raise InputError(
            f"{part}/utt2spk: the speaker {speaker} does not have the form reader-chapter or lbi-reader-chapter; "
            "leave out --merge-chapters"
        )
    return match[1]


def note_chapters(data: Mapping[str, DataDir], say: Callable[[str], None]) -> None:
    """Print a note if the speakers look like chapters and some readers have several."""
    speakers = {speaker for directory in data.values() for speaker in directory.utt2spk.values()}
    matches = [_CHAPTER.fullmatch(speaker) for speaker in speakers]
    readers = {match[1] for match in matches if match}
    if all(matches) and len(readers) < len(speakers):
        say(
            f"note: the {len(speakers)} speakers look like chapters of {len(readers)} readers (first: "
            f"{min(speakers)}), as in Kaldi's LibriSpeech recipe; --merge-chapters true makes readers of them"
        )


def chapters_as_sessions(utt2spk: Mapping[str, str]) -> dict[str, str]:
    """Return the chapter of each utterance of LibriSpeech, which stands for the session in which it was recorded.

    The result is empty if speakers are not readers, no reader has two chapters, or an id has another form.

    Examples
    --------
    >>> chapters_as_sessions({"84-121123-0000": "84", "84-121550-0003": "84"})
    {'84-121123-0000': '84-121123', '84-121550-0003': '84-121550'}
    """
    sessions: dict[str, str] = {}
    for utterance, speaker in utt2spk.items():
        match = _UTTERANCE.fullmatch(utterance)
        if not match or match[2] != speaker:
            return {}
        sessions[utterance] = match[1]
    return sessions if len(set(sessions.values())) > len(set(utt2spk.values())) else {}
