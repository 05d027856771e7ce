"""Read the audio that a ``wav.scp`` names, whole or a segment: a file, ``ark:offset`` or a pipe."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from deepspeaker.errors import InputError

#: The pipe of Kaldi's LibriSpeech recipe. libsndfile opens the file without running it.
_FLAC_PIPE = re.compile(r"flac -c -d -s (\S+) \|")
_ARK_OFFSET = re.compile(r"(.+\.ark):(\d+)")
_LARGEST_OGG_PAGE = 65307
#: Formats in which libsndfile does not always seek to the exact sample.
_INEXACT_SEEK = ("OGG", "MP3")
#: A segment may end less than this many seconds after its recording and is truncated, as by Kaldi's extract-segments.
MAX_OVERSHOOT = 0.5
#: Exit status of a command whose reader closed the pipe (128 + SIGPIPE).
_PIPE_CLOSED = 141


class _Container(NamedTuple):
    """The layout of a file of chunks, each a name, the size of its content, and the content."""

    order: Literal["little", "big"]  # of the bytes of a size
    first: int  # byte at which the first chunk begins
    name: int  # bytes of a name
    size: int  # bytes of a size
    align: int  # chunks begin at multiples of this
    unknown: int  # sizes from here on mean that the length was unknown when the header was written


_RIFF = _Container("little", 12, 4, 4, 2, 0x7FFFF000)
#: First four bytes of a file -> its container.
_CONTAINERS = {
    b"RIFF": _RIFF,  # wav
    b"RIFX": _RIFF._replace(order="big"),
    b"RF64": _RIFF,  # its chunk ds64 has the sizes that do not fit 32 bits
    b"FORM": _RIFF._replace(order="big"),  # aiff
    b"riff": _Container("little", 40, 16, 8, 8, 2**62),  # w64; its sizes include name and size
    b"caff": _Container("big", 8, 4, 8, 1, 2**62),
}


class AudioInfo(NamedTuple):
    """The properties of an audio file."""

    sampling_rate: int  # Hz
    samples: int  # per channel
    channels: int


def audio_file(location: str) -> str | None:
    """Return the audio file of a ``wav.scp`` entry, None for an ark or a pipe that must be run.

    Examples
    --------
    >>> audio_file("flac -c -d -s /data/a.flac |")
    '/data/a.flac'
    """
    if match := _FLAC_PIPE.fullmatch(location.strip()):
        return match[1]
    if location.rstrip().endswith("|") or _ARK_OFFSET.fullmatch(location):
        return None
    return location


def audio_info(location: str, allow_pipes: bool = False) -> AudioInfo:
    """Return the properties of the audio at ``location``. Parameters and errors are those of ``load_audio``."""
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


def segment_samples(start: float, end: float | None, info: AudioInfo) -> tuple[int, int]:
    """Return the bounds of a segment in samples.

    Parameters
    ----------
    start, end
        Bounds in seconds. An ``end`` of None is the end of the recording.
    info
        Properties of the recording.

    Returns
    -------
    first, stop
        First sample, and the one after the last.

    Raises
    ------
    InputError
        The segment is not within the recording (up to ``MAX_OVERSHOOT``), or has no samples. The message continues
        after the words "the segment".

    Notes
    -----
    Times are rounded to the nearest sample, so that times with six digits give the exact samples that they stand for.
    Kaldi's extract-segments truncates and is sometimes one sample early.

    Examples
    --------
    >>> segment_samples(0.5, 1.25, AudioInfo(sampling_rate=16000, samples=32000, channels=1))
    (8000, 20000)
    """
    length = info.samples / info.sampling_rate
    first = round(start * info.sampling_rate)
    stop = info.samples if end is None else round(end * info.sampling_rate)
    if first >= info.samples:
        raise InputError(f"begins at {start:g} s, its recording ends at {length:g} s")
    if stop >= info.samples + MAX_OVERSHOOT * info.sampling_rate:
        raise InputError(f"ends at {end:g} s, its recording at {length:g} s")
    stop = min(stop, info.samples)
    if stop <= first:
        raise InputError(f"has no sample from {start:g} to {end:g} s")
    return first, stop


def read_audio(location: str, sampling_rate: int = 16000, allow_pipes: bool = False) -> NDArray[np.float32]:
    """Read whole audio like ``load_audio``, and return only the samples."""
    return load_audio(location, sampling_rate, allow_pipes)[0]


def load_audio(
    location: str,
    sampling_rate: int = 16000,
    allow_pipes: bool = False,
    segment: tuple[float, float | None] | None = None,
) -> tuple[NDArray[np.float32], AudioInfo]:
    """Read audio, average its channels and resample it.

    Parameters
    ----------
    location
        An entry of ``wav.scp``:

        - a file of any format that libsndfile reads
        - ``ark:offset`` in an archive of wav files
        - ``flac -c -d -s PATH |``, which is opened without a shell
        - with ``allow_pipes``, any command followed by ``|`` that writes a wav file to stdout
    sampling_rate
        Sampling rate of the result in Hz.
    allow_pipes
        Whether commands may be run.
    segment
        Start and end in seconds; an end of None is the end of the recording. The segment is taken before resampling,
        with the bounds of ``segment_samples``.

    Returns
    -------
    samples : ndarray of shape (n,)
        float32 in [-1, 1].
    info
        Properties of the recording before resampling.

    Raises
    ------
    InputError
        The audio does not exist, cannot be read, is truncated or empty, has values that are not finite, is a pipe that
        fails or is not allowed, or does not contain the segment. The message names ``location``.
    """
    if segment is None:
        samples, info = _decode(location, allow_pipes)
    else:
        samples, info = _decode_segment(location, allow_pipes, segment)
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if not np.isfinite(mono).all():
        raise InputError(f"{location}: has samples that are not finite numbers")
    return resample(mono, info.sampling_rate, sampling_rate), info


def resample(samples: NDArray[np.float32], rate: int, sampling_rate: int) -> NDArray[np.float32]:
    """Resample samples of shape (n,) from ``rate`` to ``sampling_rate`` Hz with scipy's polyphase filter."""
    if rate != sampling_rate:
        from scipy.signal import resample_poly

        divisor = math.gcd(rate, sampling_rate)
        samples = resample_poly(samples, sampling_rate // divisor, rate // divisor)
    return np.ascontiguousarray(samples, dtype=np.float32)


def _decode(location: str, allow_pipes: bool) -> tuple[NDArray[np.float32], AudioInfo]:
    """Return all samples, of shape (n, channels)."""
    source = _open(location, allow_pipes)
    try:
        with soundfile.SoundFile(source) as stream:
            _check_whole(stream, source, location)
            rate, expected = stream.samplerate, stream.frames
            estimated = stream.format == "MP3"  # its header may not have the length
            samples: NDArray[np.float32] = stream.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(location, error) from None
    if len(samples) == 0:
        raise InputError(f"{location}: has no samples")
    if len(samples) < expected and not estimated:
        raise InputError(f"{location}: is truncated, {len(samples)} of {expected} samples can be read")
    return samples, AudioInfo(rate, *samples.shape)


#: Segments of a recording usually follow each other, so that the last recording is cached.
_cached_decode = functools.lru_cache(maxsize=1)(_decode)


def _decode_segment(
    location: str, allow_pipes: bool, segment: tuple[float, float | None]
) -> tuple[NDArray[np.float32], AudioInfo]:
    """Return the samples of a segment, of shape (n, channels); only a plain file need not be read whole."""
    path = audio_file(location)
    try:
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(soundfile.SoundFile(_open(location, False))) if path else None
            if stream and stream.format not in _INEXACT_SEEK:
                _check_whole(stream, path, location)
                info = AudioInfo(stream.samplerate, stream.frames, stream.channels)
                first, stop = _bounds(location, segment, info)
                stream.seek(first)
                samples: NDArray[np.float32] = stream.read(stop - first, dtype="float32", always_2d=True)
                if len(samples) < stop - first:
                    raise InputError(f"{location}: is truncated, samples {first} to {stop} cannot be read")
                return samples, info
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(location, error) from None
    samples, info = _cached_decode(location, allow_pipes)
    first, stop = _bounds(location, segment, info)
    return samples[first:stop], info


def _bounds(location: str, segment: tuple[float, float | None], info: AudioInfo) -> tuple[int, int]:
    try:
        return segment_samples(*segment, info)
    except InputError as error:
        raise InputError(f"{location}: the segment {error}; correct the file segments") from None


def _open(location: str, allow_pipes: bool) -> Any:
    """Return what soundfile can read: a path or a stream in memory."""
    location = location.strip()
    path = audio_file(location)
    if path is not None:
        if not Path(path).is_file():
            problem = "is a folder, not an audio file" if Path(path).is_dir() else "no such file"
            raise InputError(f"{path}: {problem}")
        if Path(path).stat().st_size == 0:
            raise InputError(f"{path}: is empty")
        return path
    if location.endswith("|"):
        if not allow_pipes:
            raise InputError(f"{location}: a pipe runs a command; give --allow-pipes true if you trust it")
        return io.BytesIO(_output(location))
    match = _ARK_OFFSET.fullmatch(location)
    assert match
    try:
        with Path(match[1]).open("rb") as stream:
            stream.seek(int(match[2]))
            return io.BytesIO(_one_wav(stream.read(8), stream, location))
    except OSError as error:
        raise InputError(f"{match[1]}: {error.strerror}") from None


def _output(pipe: str) -> bytes:
    """Run the command of a pipe and return what it writes. It fails if any part of it fails."""
    done = subprocess.run(["bash", "-o", "pipefail", "-c", pipe[:-1]], capture_output=True, check=False)
    if done.returncode not in (0, _PIPE_CLOSED):
        messages = done.stderr.decode(errors="replace").strip().splitlines()
        raise InputError(f"{pipe}: the pipe failed with status {done.returncode}: {messages[-1] if messages else ''}")
    if not done.stdout:
        raise InputError(f"{pipe}: the pipe wrote nothing")
    return done.stdout


def _check_whole(stream: Any, source: Any, location: str) -> None:
    """Raise ``InputError`` for truncated files that libsndfile would accept."""
    # Opened again, so that the position of the stream that libsndfile reads does not change.
    with io.BytesIO(source.getvalue()) if isinstance(source, io.BytesIO) else Path(source).open("rb") as content:
        if stream.format == "OGG":
            if _ogg_is_truncated(content):
                raise InputError(f"{location}: is truncated, it ends inside a page")
        elif sizes := _sample_bytes(content):
            present, declared = sizes
            if present < declared:
                raise InputError(f"{location}: is truncated, it has {present} of {declared} bytes of samples")
    if stream.frames >= 2**62:
        raise InputError(f"{location}: does not contain its length (written to a pipe?); convert it again")


def _sample_bytes(content: BinaryIO) -> tuple[int, int] | None:
    """Return how many bytes of samples a file of chunks has, and how many it declares.

    None for other files, and if the length was unknown when the header was written.
    """
    container = _CONTAINERS.get(content.read(4))
    if container is None:
        return None
    end, begin, long_size = content.seek(0, os.SEEK_END), container.first, None
    while begin < end:
        content.seek(begin)
        name = content.read(container.name)[:4]
        size = int.from_bytes(content.read(container.size), container.order)
        body = content.tell()
        if container.name == 16:
            size = max(size - (body - begin), 0)
        if name == b"ds64":
            long_size = int.from_bytes(content.read(16)[8:], "little")
        if name in (b"data", b"SSND"):
            if long_size is not None and size == 0xFFFFFFFF:
                return end - body, long_size
            return (end - body, size) if size < container.unknown else None
        begin = body + size + -size % container.align
    return None


def _ogg_is_truncated(content: BinaryIO) -> bool:
    """Return whether the last page (RFC 3533, section 6) is shorter than the sum of its segments."""
    end = content.seek(0, os.SEEK_END)
    content.seek(max(end - _LARGEST_OGG_PAGE, 0))
    tail = content.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return not segments or len(segments) < page[26] or len(page) < 27 + len(segments) + sum(segments)


def _one_wav(head: bytes, stream: io.BufferedReader, location: str) -> bytes:
    """Return the RIFF file that begins with ``head``, whose bytes 4 to 8 are the length of the rest."""
    if len(head) < 8 or head[:4] != b"RIFF":
        raise InputError(f"{location}: no wav file begins at this byte of the archive")
    return head + stream.read(int.from_bytes(head[4:8], "little"))


def _unreadable(location: str, error: Exception) -> InputError:
    reason = str(error).rpartition(": ")[2].rstrip(".") or type(error).__name__
    return InputError(f"{location}: cannot be read as audio ({reason})")
