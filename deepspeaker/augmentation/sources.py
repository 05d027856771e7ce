"""Recordings of noises and impulse responses: which files there are, and pieces of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.audio import audio_info, load_audio
from deepspeaker.corpora import audio_files
from deepspeaker.errors import InputError

#: Longer files are checked, and read, only in part, in seconds.
_WHOLE = 60.0
#: Silent pieces that are drawn in a row before the noises are given up.
_TRIES = 20


def find_sources(place: str, what: str) -> list[str]:
    """Return the audio files of a folder, or those that a Lhotse manifest of recordings or cuts names.

    Parameters
    ----------
    place
        The folder or manifest.
    what
        What the files are, for messages.

    Raises
    ------
    InputError
        There is no audio file.
    """
    path = Path(place)
    if path.is_dir():
        files = [path / name for name in sorted(audio_files(path))]
    elif path.is_file():
        files = [Path(name) for name in _files_of_manifest(path)]
    else:
        raise InputError(f"{path}: no such folder or manifest of {what}; correct the copy's key folder")
    if not files:
        raise InputError(f"{path}: has no audio file; give a folder of {what}, or none, and they are generated")
    return [str(file.resolve()) for file in files]


def check_sources(files: Sequence[str], what: str) -> None:
    """Raise ``InputError`` for the first file that cannot be read or is silent; of long ones, ten seconds are read."""

    def check(file: str) -> None:
        info = audio_info(file)
        middle = info.samples / info.sampling_rate / 2
        segment = None if 2 * middle <= _WHOLE else (middle, middle + 10)
        if not load_audio(file, info.sampling_rate, segment=segment)[0].any():
            raise InputError(f"{file}: is silent; remove it from the {what}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(check, files))


def noise_piece(
    files: Sequence[str], length: int, sampling_rate: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return a random piece of a random noise, (length,). A shorter noise is repeated; silent pieces are drawn again.

    Raises
    ------
    InputError
        A file cannot be read, or all pieces that were drawn are silent.
    """
    for _ in range(_TRIES):
        file = files[int(generator.integers(len(files)))]
        info = audio_info(file)
        seconds, wanted = info.samples / info.sampling_rate, length / sampling_rate
        if seconds > wanted + 0.1 and seconds > _WHOLE:
            start = float(generator.uniform(0.0, seconds - wanted - 0.1))
            piece = load_audio(file, sampling_rate, segment=(start, start + wanted + 0.05))[0]
        else:
            piece = np.roll(_whole(file, sampling_rate), -int(generator.integers(info.samples)))
        piece = np.resize(piece, length)
        if piece.any():
            return piece
    raise InputError(f"{file}: {_TRIES} pieces of the noises are silent; remove silent files")


def impulse_response(files: Sequence[str], sampling_rate: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return a random impulse response, (samples,)."""
    return _whole(files[int(generator.integers(len(files)))], sampling_rate)


@lru_cache(maxsize=64)
def _whole(file: str, sampling_rate: int) -> NDArray[np.float32]:
    return load_audio(file, sampling_rate)[0]


def _files_of_manifest(path: Path) -> list[str]:
    from lhotse import load_manifest_lazy

    try:
        manifest = load_manifest_lazy(path)
        recordings = [getattr(item, "recording", item) for item in (manifest if manifest is not None else [])]
        sources = [source for recording in recordings for source in recording.sources[:1]]
    except Exception as error:  # Lhotse has many ways to fail on a file that is no manifest
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: cannot be read as a Lhotse manifest of recordings or cuts ({reason})") from None
    if other := [source.type for source in sources if source.type != "file"]:
        raise InputError(f"{path}: names a {other[0]} instead of files; write the recordings to files first")
    return list(dict.fromkeys(source.source for source in sources))
