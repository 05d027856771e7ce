"""Lhotse manifests of a data directory."""

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
    """An utterance's recording, its first sample there and the one after its last; None without audio.

    ``info`` holds what is known of the recordings. Raises ``InputError`` for a segment that is not in its recording.
    """
    segment = data.segment_of(utterance)
    if segment is None or segment.recording not in info:
        return None
    return segment.recording, *segment_samples(segment.start, segment.end, info[segment.recording])


def write_manifests(folder: Path, part: str, data: DataDir, info: Mapping[str, AudioInfo], frame_shift: float) -> None:
    """Writes ``PART_recordings.jsonl.gz`` and ``PART_supervisions.jsonl.gz``, the same bytes for the same data.

    ``info`` holds what is known of each recording. An utterance with features alone has a supervision, whose duration
    is that of ``utt2dur`` or else follows from its frames of ``frame_shift`` seconds, and no recording.
    """
    recordings = [
        recording_of(name, location, info[name]).to_dict()
        for name, location in sorted(data.wav_scp.items())
        if name in info
    ]
    if recordings:
        write_jsonl(folder / f"{part}_recordings.jsonl.gz", recordings)
    else:
        (folder / f"{part}_recordings.jsonl.gz").unlink(missing_ok=True)
    supervisions = (supervision_of(data, utterance, info, frame_shift).to_dict() for utterance in sorted(data.utt2spk))
    write_jsonl(folder / f"{part}_supervisions.jsonl.gz", supervisions)


def supervision_of(data: DataDir, utterance: str, info: Mapping[str, AudioInfo], frame_shift: float) -> Any:
    """The Lhotse supervision of an utterance; the arguments are those of ``write_manifests``."""
    from lhotse import SupervisionSegment

    samples = utterance_samples(data, utterance, info)
    if samples is not None:
        recording, first, stop = samples
        rate = info[recording].sampling_rate
        start, duration = first / rate, (stop - first) / rate
    else:
        recording, start = utterance, 0.0
        duration = round(int(data.utt2num_frames.get(utterance, "0")) * frame_shift, 6)
        if utterance in data.utt2dur:
            duration = float(data.utt2dur[utterance])
    speaker = data.utt2spk[utterance]
    return SupervisionSegment(
        id=utterance,
        recording_id=recording,
        start=start,
        duration=duration,
        channel=0,
        text=data.text.get(utterance),
        speaker=speaker,
        gender=data.spk2gender.get(speaker),
    )


def recording_of(name: str, location: str, info: AudioInfo) -> Any:
    """The Lhotse recording of an entry of ``wav.scp``."""
    from lhotse import AudioSource, Recording

    path = audio_file(location)
    source = AudioSource(
        type="file" if path else "command", channels=list(range(info.channels)), source=path or _command(location)
    )
    return Recording(
        id=name,
        sources=[source],
        sampling_rate=info.sampling_rate,
        num_samples=info.samples,
        duration=info.samples / info.sampling_rate,
    )


def _command(location: str) -> str:
    """The shell command that gives the wav file of a pipe or of ``ark:offset``."""
    if location.rstrip().endswith("|"):
        return location.rstrip(" |")
    ark, _, offset = location.rpartition(":")
    return f"tail -c +{int(offset) + 1} {shlex.quote(ark)}"


def write_jsonl(path: Path, items: Iterable[dict[str, Any]]) -> None:
    """Writes a manifest, the same bytes for the same items."""
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as stream,
    ):
        for item in items:
            stream.write(json.dumps(item, ensure_ascii=False).encode() + b"\n")
