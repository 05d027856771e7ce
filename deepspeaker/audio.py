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
#: libsndfile's log of a wav or aiff file that ends before its header says.
_CUT = re.compile(r"^\s*(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)
#: Headers of streams, written before their length was known, have this size or a larger one.
_STREAM_BYTES = 0x7FFFF000
_LARGEST_OGG_PAGE = 65307


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
        with soundfile.SoundFile(source) as stream:
            _check_whole(stream, source, location)
            info = AudioInfo(stream.samplerate, stream.frames, stream.channels)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(location, error) from None
    if info.samples <= 0:
        raise InputError(f"{location}: has no samples")
    return info


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
            _check_whole(stream, source, location)
            rate, expected = stream.samplerate, stream.frames
            estimated = stream.format == "MP3"  # its header need not know its length
            samples: NDArray[np.float32] = stream.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(location, error) from None
    if len(samples) == 0:
        raise InputError(f"{location}: has no samples")
    if len(samples) < expected and not estimated:
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
        with Path(match[1]).open("rb") as stream:
            stream.seek(int(match[2]))
            return io.BytesIO(_one_wav(stream.read(8), stream, location))
    except OSError as error:
        raise InputError(f"{match[1]}: {error.strerror}") from None


def _check_whole(stream: Any, source: Any, location: str) -> None:
    """Raises ``InputError`` for a file whose end is missing where libsndfile would take what is left for all."""
    if stream.frames >= 2**62:
        raise InputError(f"{location}: does not say how long it is (written to a pipe?); convert it once more")
    cut = _CUT.search(stream.extra_info)
    if cut and int(cut[2]) < int(cut[1]) < _STREAM_BYTES:
        raise InputError(f"{location}: is truncated, {cut[2]} of {cut[1]} bytes of samples are there")
    if stream.format == "OGG" and _ogg_is_cut(source):
        raise InputError(f"{location}: is truncated, it ends inside a page")


def _ogg_is_cut(source: Any) -> bool:
    """Whether the last page (RFC 3533, section 6) is shorter than the sizes of its segments say."""
    if isinstance(source, io.BytesIO):
        tail = source.getvalue()[-_LARGEST_OGG_PAGE:]
    else:
        with Path(source).open("rb") as stream:
            stream.seek(max(Path(source).stat().st_size - _LARGEST_OGG_PAGE, 0))
            tail = stream.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return not segments or len(segments) < page[26] or len(page) < 27 + len(segments) + sum(segments)


def _one_wav(head: bytes, stream: io.BufferedReader, location: str) -> bytes:
    """The bytes of the RIFF file that begins with ``head`` (its length stands in bytes 4 to 8)."""
    if len(head) < 8 or head[:4] != b"RIFF":
        raise InputError(f"{location}: no wav file begins at this byte of the archive")
    return head + stream.read(int.from_bytes(head[4:8], "little"))


def _unreadable(location: str, error: Exception) -> InputError:
    reason = str(error).rpartition(": ")[2].rstrip(".") or type(error).__name__
    return InputError(f"{location}: cannot be read as audio ({reason})")
