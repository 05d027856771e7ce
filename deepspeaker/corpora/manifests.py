"""Lhotse manifests of a data directory.

The items are dictionaries in Lhotse's form, because importing Lhotse takes seconds.
"""

from __future__ import annotations

import gzip
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deepspeaker.audio import AudioInfo, audio_file, segment_samples
from deepspeaker.files import atomic_path
from deepspeaker.kaldi import DataDir


def utterance_samples(data: DataDir, utterance: str, info: Mapping[str, AudioInfo]) -> tuple[str, int, int] | None:
    """Return the recording of an utterance, its first sample there, and the one after its last.

    The result is None for an utterance without audio.

    Parameters
    ----------
    data, utterance
        The data directory, and the id of the utterance.
    info
        The properties of each recording.

    Raises
    ------
    InputError
        The segment is not within its recording.
    """
    segment = data.segment_of(utterance)
    if segment is None or segment.recording not in info:
        return None
    return segment.recording, *segment_samples(segment.start, segment.end, info[segment.recording])


def write_manifests(folder: Path, part: str, data: DataDir, info: Mapping[str, AudioInfo], frame_shift: float) -> None:
    """Write ``PART_recordings.jsonl.gz`` and ``PART_supervisions.jsonl.gz``; equal data gives equal bytes.

    Parameters
    ----------
    folder, part
        Where to write, and the prefix of the file names.
    data
        The data directory.
    info
        The properties of each recording. A recording that is not listed here gets no entry.
    frame_shift
        In seconds. An utterance with features but no audio has the duration of ``utt2dur`` or of its frames.
    """
    recordings = [
        recording_of(name, location, info[name])
        for name, location in sorted(data.wav_scp.items())
        if name in info
    ]
    if recordings:
        write_jsonl(folder / f"{part}_recordings.jsonl.gz", recordings)
    else:
        (folder / f"{part}_recordings.jsonl.gz").unlink(missing_ok=True)
    supervisions = (supervision_of(data, utterance, info, frame_shift) for utterance in sorted(data.utt2spk))
    write_jsonl(folder / f"{part}_supervisions.jsonl.gz", supervisions)


def supervision_of(data: DataDir, utterance: str, info: Mapping[str, AudioInfo], frame_shift: float) -> dict[str, Any]:
    """Return the Lhotse supervision of an utterance; for the arguments see ``write_manifests``."""
    samples = utterance_samples(data, utterance, info)
    if samples is not None:
        recording, first, stop = samples
        rate = info[recording].sampling_rate
        start, duration = first / rate, (stop - first) / rate
    else:
        recording, start = utterance, 0.0
        frames = int(data.utt2num_frames.get(utterance, "0"))
        duration = float(data.utt2dur.get(utterance, round(frames * frame_shift, 6)))
    speaker = data.utt2spk[utterance]
    item = {
        "id": utterance,
        "recording_id": recording,
        "start": start,
        "duration": duration,
        "channel": 0,
        "text": data.text.get(utterance),
        "speaker": speaker,
        "gender": data.spk2gender.get(speaker),
    }
    return {key: value for key, value in item.items() if value is not None}


def recording_of(name: str, location: str, info: AudioInfo) -> dict[str, Any]:
    """Return the Lhotse recording of an entry of ``wav.scp``."""
    path, channels = audio_file(location), list(range(info.channels))
    source = {"type": "file" if path else "command", "channels": channels, "source": path or _command(location)}
    return {
        "id": name,
        "sources": [source],
        "sampling_rate": info.sampling_rate,
        "num_samples": info.samples,
        "duration": info.samples / info.sampling_rate,
        "channel_ids": channels,
    }


def _command(location: str) -> str:
    """Return the shell command that prints the WAV file of a pipe or of ``ark:offset``."""
    if location.rstrip().endswith("|"):
        return location.rstrip(" |")
    ark, _, offset = location.rpartition(":")
    return f"tail -c +{int(offset) + 1} {shlex.quote(ark)}"


def write_jsonl(path: Path, items: Iterable[dict[str, Any]]) -> int:
    """Write a manifest and return the number of items; equal items give equal bytes."""
    count = 0
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as stream,
    ):
        for item in items:
            stream.write(json.dumps(item, ensure_ascii=False).encode() + b"\n")
            count += 1
    return count
