"""Read a folder of recordings without tables: one folder for each speaker, and audio files anywhere below it."""

# DIR/SPEAKER/FILE.wav                      any format that libsndfile reads
# DIR/SPEAKER/SESSION/FILE.flac             any depth; VoxCeleb: DIR/id10270/5r0dWxy17C8/00001.wav
#
# or, with the speakers of each part in a folder of its own:
#
# DIR/train/SPEAKER/FILE.wav
# DIR/test/SPEAKER/FILE.wav
# DIR/dev/SPEAKER/FILE.wav                  optional

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deepspeaker.corpora.partitions import MIN_SPEAKERS_TO_TEST, PARTS, split_off_test
from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir

#: What counts as audio. A file that libsndfile cannot read (such as m4a) is then listed among the skipped ones.
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
    *(".w64", ".rf64", ".sph", ".nist", ".voc", ".m4a", ".aac", ".wma", ".amr", ".ape", ".wv", ".mp2", ".mka"),
)
#: The only part of a folder that has no folders train and test.
_WHOLE = ""
#: In the order of bytes, these are not after the hyphen, which follows the speaker in the id of an utterance.
_NOT_AFTER_HYPHEN = re.compile(r"[!-\-]")
#: What no line of a table can hold: control characters, bytes that are not UTF-8, line breaks.
_IMPOSSIBLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")

Say = Callable[[str], None]


@dataclass(frozen=True)
class FolderCorpus:
    """The parts of a folder of recordings."""

    parts: dict[str, DataDir]
    """``train``, ``test`` and optionally ``dev``."""
    utt2session: dict[str, str]
    """The session of each test utterance; empty unless a level of sessions was given."""
    same_speakers: bool
    """Whether training and test have the same speakers, because there are too few."""


def read_folder(folder: Path, seed: int, session_level: int | None, say: Say) -> FolderCorpus:
    """Read a folder with a folder for each speaker.

    An utterance id is the path of the file below the folder of its part, without extension and joined by hyphens.
    Blanks and other characters that Kaldi's tables cannot hold become ``_``; equal ids get a number.

    Parameters
    ----------
    folder
        Contains the folders of the speakers, of which the seed chooses some for the test; or ``train``, ``test`` and
        optionally ``dev``, which contain them.
    seed
        Decides the test speakers.
    session_level
        The level of the folder that is a session: 1 is directly below the speaker. None: no sessions.
    say
        Prints lines for the user.

    Raises
    ------
    InputError
        There are no speakers or only one, no audio, a path that tables cannot hold, or no session at that level.
    """
    found = find_speakers(folder, say)
    speaker_ids = _speaker_ids({speaker for speakers in found.values() for speaker in speakers})
    parts: dict[str, DataDir] = {}
    utt2session: dict[str, str] = {}
    for part, speakers in found.items():
        ids, parts[part] = _data_dir(folder.resolve() / part, speakers, speaker_ids)
        _report_names(folder / part, ids, say)
        if session_level is not None and part in (_WHOLE, "test"):
            utt2session = _sessions(ids, speaker_ids, session_level, say)
    if _WHOLE not in parts:
        return FolderCorpus(parts, utt2session, same_speakers=False)
    whole = parts[_WHOLE]
    too_few = len(whole.spk2utt) < MIN_SPEAKERS_TO_TEST
    return FolderCorpus(split_off_test(whole, seed, say), utt2session, same_speakers=too_few)


def read_speakers(folder: Path, say: Say) -> DataDir:
    """Read the speakers of a folder, or of its folder ``test``, as one data directory; see ``read_folder``."""
    found = find_speakers(folder, say)
    part = _WHOLE if _WHOLE in found else "test"
    return _data_dir(folder.resolve() / part, found[part], _speaker_ids(found[part]))[1]


def find_speakers(folder: Path, say: Say | None = None) -> dict[str, dict[str, list[str]]]:
    """Find the audio files of each speaker, without opening them.

    Parameters
    ----------
    folder
        See `read_folder`.
    say
        Prints lines about what is left out.

    Returns
    -------
    dict
        Part -> folder of the speaker -> paths of the files, relative to the folder of the part, sorted. The parts are
        ``train``, ``dev`` and ``test``, or only "" for a folder that contains speakers.

    Raises
    ------
    InputError
        See `read_folder`.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --corpus-dir needs one that has a folder for each speaker")
    parts = [part for part in PARTS if (folder / part).is_dir()]
    if not parts:
        return {_WHOLE: _speakers_below(folder, say, needed=2)}
    for part in ("train", "test"):
        if part not in parts:
            raise InputError(
                f"{folder}: has the folder {parts[0]} but not {part}; add it, or rename {parts[0]} if it is a speaker"
            )
    others = [name for name in _folders_in(folder) if name not in parts]
    if others and say is not None:
        beside = ", ".join(parts)
        say(f"note: {folder}: {len(others)} folders other than {beside} are left out (first: {_shown(others[0])})")
    return {part: _speakers_below(folder / part, say, needed=1 if part == "dev" else 2) for part in parts}


def audio_files(folder: Path) -> Iterator[str]:
    """Yield the audio files below a folder, relative to it. Hidden files and folders do not count."""
    return filter(_is_audio, _files(folder))


def _is_audio(path: str) -> bool:
    return path.lower().endswith(AUDIO_SUFFIXES)


def _files(folder: Path) -> Iterator[str]:
    """Yield all files below a folder that are not hidden, also through links to folders."""

    def stop(error: OSError) -> None:
        raise InputError(f"{error.filename}: {error.strerror}")

    for root, folders, files in os.walk(folder, followlinks=True, onerror=stop):
        here = Path(root)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            # A link to a folder that contains it would have no end.
            and not ((here / name).is_symlink() and here.resolve().is_relative_to((here / name).resolve()))
        ]
        below = "" if here == folder else f"{here.relative_to(folder)}/"
        yield from (below + name for name in files if not name.startswith("."))


def _folders_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _speakers_below(root: Path, say: Say | None, needed: int) -> dict[str, list[str]]:
    """Return the audio files of each folder in ``root``, and check that there are enough folders with audio."""
    everything = sorted(_files(root))
    audio = [path for path in everything if _is_audio(path)]
    example = f"{root}/SPEAKER/FILE.wav"
    if not audio:
        found = f" (other files: {len(everything)}, first {_shown(everything[0])})" if everything else ""
        raise InputError(f"{root}: has no audio files{found}; expected {example}")
    speakers: dict[str, list[str]] = {}
    for path in audio:
        if _IMPOSSIBLE.search(path):
            raise InputError(f"{root}: tables cannot hold the name {_shown(path)}; rename it")
        if "/" in path:
            speakers.setdefault(path.split("/")[0], []).append(path)
    beside = [path for path in audio if "/" not in path]
    if not speakers:
        raise InputError(
            f"{root}: has {len(beside)} audio files (first: {beside[0]}), but no folder for each speaker; expected "
            f"{example}"
        )
    if len(speakers) < needed:
        (only,) = speakers
        deeper = any(path.count("/") > 1 for path in speakers[only])
        fix = f"; if the folders in it are the speakers, give them as {root / only}" if deeper else ""
        raise InputError(f"{root}: has a single folder with audio, {only}, but {needed} speakers are needed{fix}")
    if say is not None:
        others = [path for path in everything if not _is_audio(path)]
        empty = [name for name in _folders_in(root) if name not in speakers]
        for left_out, what in (
            (beside, "audio files that are in no speaker's folder"),
            (others, "files without the extension of an audio format"),
            (empty, "folders without audio"),
        ):
            if left_out:
                say(f"note: {root}: {len(left_out)} {what} are left out (first: {_shown(left_out[0])})")
    return speakers


def _shown(name: str) -> str:
    """Return a name as it is, or quoted if it has characters that a terminal would not show."""
    return name if name.isprintable() else ascii(name)


def _stem(path: str) -> str:
    return path.rpartition(".")[0]


def _clean(name: str) -> str:
    """Return a name without blanks and other characters that the keys of Kaldi's tables cannot hold."""
    if name.isprintable() and " " not in name:
        return name
    return "".join(character if character.isprintable() and character != " " else "_" for character in name)


def _speaker_ids(folders: Iterable[str]) -> dict[str, str]:
    """Return the id of the speaker of each folder.

    Utterances sort like their speakers and differ from those of other speakers, unless an id is the beginning of
    another that continues with a hyphen or a character before it, as with anna and anna-maria. Then these characters
    become ``_``.
    """
    ids = {folder: _clean(folder) for folder in folders}
    known = set(ids.values())
    if any(name[: match.start()] in known for name in known for match in _NOT_AFTER_HYPHEN.finditer(name)):
        ids = {folder: _NOT_AFTER_HYPHEN.sub("_", name) for folder, name in ids.items()}
    return _distinct(ids, {folder: folder for folder in ids})


def _data_dir(
    root: Path, speakers: Mapping[str, Iterable[str]], speaker_ids: Mapping[str, str]
) -> tuple[dict[str, str], DataDir]:
    """Return the id of each file of the speakers, and the data directory of all of them."""
    ids = _ids({path: _stem(path) for paths in speakers.values() for path in paths}, speaker_ids)
    data = DataDir(
        utt2spk={utterance: speaker_ids[path.split("/")[0]] for path, utterance in ids.items()},
        wav_scp={utterance: f"{root}/{path}" for path, utterance in ids.items()},
    )
    return ids, data


def _ids(names: Mapping[str, str], speaker_ids: Mapping[str, str]) -> dict[str, str]:
    """Return an id for each path, which begins with the speaker and is the joined parts of its name."""
    wished, plain = {}, {}
    for path, name in names.items():
        speaker, *below = name.split("/")
        plain[path] = "-".join([speaker_ids[speaker], *below])
        wished[path] = "-".join([speaker_ids[speaker], *map(_clean, below)])
    return _distinct(wished, plain)


def _distinct(wished: Mapping[str, str], plain: Mapping[str, str]) -> dict[str, str]:
    """Return the wished names, with a number at the end where another has the same name.

    Names that are as in ``plain`` come first and get no number, then the order of the keys decides.
    """
    distinct: dict[str, str] = {}
    taken: set[str] = set()
    for key in sorted(wished, key=lambda key: (plain[key] != wished[key], key)):
        number, name = 1, wished[key]
        while name in taken:
            number += 1
            name = f"{wished[key]}_{number}"
        taken.add(name)
        distinct[key] = name
    return distinct


def _report_names(root: Path, ids: Mapping[str, str], say: Say) -> None:
    """Tell the user about ids that are not the plain path, and about files that may be one recording twice."""
    changed = sorted(path for path, name in ids.items() if name != _stem(path).replace("/", "-"))
    if changed:
        say(
            f"note: {root}: {len(changed)} utterance ids are not the path of their file, because that has characters "
            f"that Kaldi's tables cannot hold, or is not unique (first: {_shown(changed[0])} is {ids[changed[0]]}; "
            "wav.scp has all)"
        )
    first_of = {_stem(path): path for path in sorted(ids, reverse=True)}
    twins = sorted(ids.keys() - first_of.values())
    if twins:
        say(
            f"note: {root}: {len(twins)} files differ from another one only in their extension (first: "
            f"{_shown(twins[0])}); remove them if they are the same recordings, because error rates would be too low"
        )


def _sessions(ids: Mapping[str, str], speaker_ids: Mapping[str, str], level: int, say: Say) -> dict[str, str]:
    """Return the session of each utterance that has a folder at this level below its speaker."""
    folder_of = {path: "/".join(path.split("/")[: level + 1]) for path in ids if path.count("/") > level}
    if not folder_of:
        raise InputError(
            f"--session-level {level}: no file has a folder at this level below its speaker (first file: "
            f"{_shown(min(ids))}); 1 is the folder directly below the speaker"
        )
    if len(folder_of) < len(ids):
        first = min(ids.keys() - folder_of.keys())
        say(
            f"note: --session-level {level}: {len(ids) - len(folder_of)} files have no folder at this level; their "
            f"session is unknown (first: {_shown(first)})"
        )
    sessions = _ids({session: session for session in folder_of.values()}, speaker_ids)
    return {ids[path]: sessions[session] for path, session in folder_of.items()}
