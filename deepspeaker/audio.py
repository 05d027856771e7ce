"""One reader for whatever a ``wav.scp`` names: a file, ``ark:offset``, a pipe."""

from __future__ import annotations

import io
import math
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from deepspeaker.errors import InputError

#: The pipe of Kaldi's LibriSpeech recipe; libsndfile opens such a file itself.
_FLAC_PIPE = re.compile(r"flac -c -d -s (\S+) \|")
_ARK_OFFSET = re.compile(r"(.+\.ark):(\d+)")


class AudioInfo(NamedTuple):
    """What a file says of itself."""

    sampling_rate: int  # Hz
    samples: int  # a channel
    channels: int


def audio_file(location: str) -> str | None:
    """The plain audio file that a ``wav.scp`` entry stands for, None for an ark or a pipe that must be run."""
    if match := _FLAC_PIPE.fullmatch(location.strip()):
        return match[1]
    if location.rstrip().endswith("|") or _ARK_OFFSET.fullmatch(location):
        return None
    return location


def audio_info(location: str, allow_pipes: bool = False) -> AudioInfo:
    """Rate, length and channels of the audio at ``location``; raises ``InputError`` as ``read_audio`` does."""
    source = _open(location, allow_pipes)
    try:
        info = soundfile.info(source)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(location, error) from None
    if info.frames <= 0:
        raise InputError(f"{location}: has no samples")
    return AudioInfo(info.samplerate, info.frames, info.channels)


def read_audio(location: str, sampling_rate: int = 16000, allow_pipes: bool = False) -> NDArray[np.float32]:
    """The samples at ``location`` as float32 (n,) in [-1, 1], channels averaged, at ``sampling_rate`` Hz.

    ``location`` is an entry of a ``wav.scp``: a file of any format that libsndfile reads, ``ark:offset`` of an archive
    of whole wav files, ``flac -c -d -s PATH |`` (opened without a shell) or, with ``allow_pipes``, any command
    followed by ``|`` that writes a wav file to its standard output. Raises ``InputError`` that names the entry: no
    such file, not audio, truncated, empty, a pipe without ``allow_pipes``, a pipe that fails, values that are not
    finite.
    """
    source = _open(location, allow_pipes)
    try:
        with soundfile.SoundFile(source) as stream:
            rate, expected = stream.samplerate, stream.frames
            samples: NDArray[np.float32] = stream.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(location, error) from None
    if len(samples) == 0:
        raise InputError(f"{location}: has no samples")
    if len(samples) < expected:
        raise InputError(f"{location}: is truncated, {len(samples)} of {expected} samples can be read")
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if not np.isfinite(mono).all():
        raise InputError(f"{location}: has samples that are not finite numbers")
    if rate != sampling_rate:
        from scipy.signal import resample_poly

        divisor = math.gcd(rate, sampling_rate)
        mono = resample_poly(mono, sampling_rate // divisor, rate // divisor)
    return np.ascontiguousarray(mono, dtype=np.float32)


def _open(location: str, allow_pipes: bool) -> Any:
    """What soundfile can read from: a path or a stream in memory."""
    location = location.strip()
    path = audio_file(location)
    if path is not None:
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file")
        if Path(path).stat().st_size == 0:
            raise InputError(f"{path}: is empty")
        return path
    if location.endswith("|"):
        if not allow_pipes:
            raise InputError(f"{location}: a pipe runs a command; give --allow-pipes true if you trust it")
        done = subprocess.run(["bash", "-c", location[:-1]], capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise InputError(f"{location}: the pipe failed with status {done.returncode}: {said[-1] if said else ''}")
        return io.BytesIO(done.stdout)
    match = _ARK_OFFSET.fullmatch(location)
    assert match
    try:
        stream = Path(match[1]).open("rb")
    except OSError as error:
        raise InputError(f"{match[1]}: {error.strerror}") from None
    with stream:
        stream.seek(int(match[2]))
        return io.BytesIO(_one_wav(stream.read(8), stream, location))


def _one_wav(head: bytes, stream: io.BufferedReader, location: str) -> bytes:
    """The bytes of the RIFF file that begins with ``head`` (its length stands in bytes 4 to 8)."""
    if len(head) < 8 or head[:4] != b"RIFF":
        raise InputError(f"{location}: no wav file begins at this byte of the archive")
    return head + stream.read(int.from_bytes(head[4:8], "little"))


def _unreadable(location: str, error: Exception) -> InputError:
    reason = str(error).rpartition(": ")[2].rstrip(".") or type(error).__name__
    return InputError(f"{location}: cannot be read as audio ({reason})")
