"""One reader for whatever a ``wav.scp`` names, whole or a segment of it: a file, ``ark:offset``, a pipe."""

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

#: The pipe of Kaldi's LibriSpeech recipe; libsndfile opens such a file itself.
_FLAC_PIPE = re.compile(r"flac -c -d -s (\S+) \|")
_ARK_OFFSET = re.compile(r"(.+\.ark):(\d+)")
_LARGEST_OGG_PAGE = 65307
#: Formats in which libsndfile does not always find a sample exactly.
_INEXACT = ("OGG", "MP3")
#: Seconds: a segment that ends later than its recording by less is cut there, as Kaldi's extract-segments does.
MAX_OVERSHOOT = 0.5
#: The status of a command whose reader had enough (128 + SIGPIPE).
_PIPE_CLOSED = 141


class _Container(NamedTuple):
    """How a file format lays out its chunks, each of a name, the size of its content, and the content."""

    order: Literal["little", "big"]  # of the bytes of a size
    first: int  # byte where the first chunk begins
    name: int  # bytes of a name
    size: int  # bytes of a size
    align: int  # chunks begin at multiples of so many bytes
    unknown: int  # headers written before the length was known have this size or a larger one


_RIFF = _Container("little", 12, 4, 4, 2, 0x7FFFF000)
#: By the first four bytes of a file.
_CONTAINERS = {
    b"RIFF": _RIFF,  # wav
    b"RIFX": _RIFF._replace(order="big"),
    b"RF64": _RIFF,  # its chunk ds64 has the sizes that 32 bits do not hold
    b"FORM": _RIFF._replace(order="big"),  # aiff
    b"riff": _Container("little", 40, 16, 8, 8, 2**62),  # w64; its sizes count name and size too
    b"caff": _Container("big", 8, 4, 8, 1, 2**62),
}


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


def segment_samples(start: float, end: float | None, info: AudioInfo) -> tuple[int, int]:
    """First sample and the one after the last of a segment from ``start`` to ``end`` seconds (None: to the end).

    Times are rounded to the nearest sample, so that times written with six digits give the very samples they came
    from (extract-segments of Kaldi cuts the fraction off, and is one sample early there). Raises ``InputError`` when
    the segment is not within its recording (up to ``MAX_OVERSHOOT``) or has no samples.
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
        raise InputError(f"from {start:g} to {end:g} s there is no sample")
    return first, stop


def read_audio(location: str, sampling_rate: int = 16000, allow_pipes: bool = False) -> NDArray[np.float32]:
    """The samples at ``location`` as float32 (n,) in [-1, 1], channels averaged, at ``sampling_rate`` Hz.

    ``load_audio`` without what the file says of itself.
    """
    return load_audio(location, sampling_rate, allow_pipes)[0]


def load_audio(
    location: str,
    sampling_rate: int = 16000,
    allow_pipes: bool = False,
    segment: tuple[float, float | None] | None = None,
) -> tuple[NDArray[np.float32], AudioInfo]:
    """The samples at ``location`` as float32 (n,) in [-1, 1], channels averaged, at ``sampling_rate`` Hz, and its info.

    ``location`` is an entry of a ``wav.scp``: a file of any format that libsndfile reads, ``ark:offset`` of an archive
    of whole wav files, ``flac -c -d -s PATH |`` (opened without a shell) or, with ``allow_pipes``, any command
    followed by ``|`` that writes a wav file to its standard output. ``segment`` is its start and end in seconds (None:
    to the end of the recording), cut at the recording's own rate as ``segment_samples`` says. Raises ``InputError``
    that names the entry: no such file, not audio, truncated, empty, a pipe without ``allow_pipes``, a pipe that fails,
    values that are not finite, a segment that is not there.
    """
    if segment is None:
        samples, info = _decoded(location, allow_pipes)
    else:
        samples, info = _cut(location, allow_pipes, segment)
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if not np.isfinite(mono).all():
        raise InputError(f"{location}: has samples that are not finite numbers")
    return resampled(mono, info.sampling_rate, sampling_rate), info


def resampled(samples: NDArray[np.float32], rate: int, sampling_rate: int) -> NDArray[np.float32]:
    """Samples (n,) at ``rate`` Hz as float32 at ``sampling_rate`` Hz, by scipy's polyphase filter."""
    if rate != sampling_rate:
        from scipy.signal import resample_poly

        divisor = math.gcd(rate, sampling_rate)
        samples = resample_poly(samples, sampling_rate // divisor, rate // divisor)
    return np.ascontiguousarray(samples, dtype=np.float32)


def _decoded(location: str, allow_pipes: bool) -> tuple[NDArray[np.float32], AudioInfo]:
    """All samples (n, channels) at ``location``, and how many and what they are."""
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
    return samples, AudioInfo(rate, *samples.shape)


#: For the segments of a recording, which follow each other.
_kept_decoded = functools.lru_cache(maxsize=1)(_decoded)


def _cut(
    location: str, allow_pipes: bool, segment: tuple[float, float | None]
) -> tuple[NDArray[np.float32], AudioInfo]:
    """The samples (n, channels) of a segment: read alone from a file, cut from the whole of everything else."""
    path = audio_file(location)
    try:
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(soundfile.SoundFile(_open(location, False))) if path else None
            if stream and stream.format not in _INEXACT:
                _check_whole(stream, path, location)
                info = AudioInfo(stream.samplerate, stream.frames, stream.channels)
                first, stop = _within(location, segment, info)
                stream.seek(first)
                samples: NDArray[np.float32] = stream.read(stop - first, dtype="float32", always_2d=True)
                if len(samples) < stop - first:
                    raise InputError(f"{location}: is truncated, samples {first} to {stop} cannot be read")
                return samples, info
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(location, error) from None
    samples, info = _kept_decoded(location, allow_pipes)
    first, stop = _within(location, segment, info)
    return samples[first:stop], info


def _within(location: str, segment: tuple[float, float | None], info: AudioInfo) -> tuple[int, int]:
    try:
        return segment_samples(*segment, info)
    except InputError as error:
        raise InputError(f"{location}: the segment {error}; mend segments") from None


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
    """What the command of a pipe writes; any of its parts that fails is an error."""
    done = subprocess.run(["bash", "-o", "pipefail", "-c", pipe[:-1]], capture_output=True, check=False)
    if done.returncode not in (0, _PIPE_CLOSED):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise InputError(f"{pipe}: the pipe failed with status {done.returncode}: {said[-1] if said else ''}")
    if not done.stdout:
        raise InputError(f"{pipe}: the pipe wrote nothing")
    return done.stdout


def _check_whole(stream: Any, source: Any, location: str) -> None:
    """Raises ``InputError`` for a file whose end is missing where libsndfile would take what is left for all."""
    # Not by the stream that libsndfile reads from, whose position is its own.
    with io.BytesIO(source.getvalue()) if isinstance(source, io.BytesIO) else Path(source).open("rb") as content:
        if stream.format == "OGG":
            if _ogg_is_cut(content):
                raise InputError(f"{location}: is truncated, it ends inside a page")
        elif sizes := _sample_bytes(content):
            there, declared = sizes
            if there < declared:
                raise InputError(f"{location}: is truncated, {there} of {declared} bytes of samples are there")
    if stream.frames >= 2**62:
        raise InputError(f"{location}: does not say how long it is (written to a pipe?); convert it once more")


def _sample_bytes(content: BinaryIO) -> tuple[int, int] | None:
    """The bytes of samples that a file of chunks has, and those that it declares.

    None for another file, and for one that was written before its length was known.
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


def _ogg_is_cut(content: BinaryIO) -> bool:
    """Whether the last page (RFC 3533, section 6) is shorter than the sizes of its segments say."""
    end = content.seek(0, os.SEEK_END)
    content.seek(max(end - _LARGEST_OGG_PAGE, 0))
    tail = content.read()
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
