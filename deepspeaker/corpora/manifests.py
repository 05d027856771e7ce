"""Lhotse manifests of a data directory."""

from __future__ import annotations

import gzip
import io
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deepspeaker.audio import AudioInfo, audio_file, segment_samples
from deepspeaker.files import atomic_write
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
    from lhotse import SupervisionSegment

    recordings = [
        _recording(name, location, info[name]) for name, location in sorted(data.wav_scp.items()) if name in info
    ]
    supervisions = []
    for utterance, speaker in sorted(data.utt2spk.items()):
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
        supervisions.append(
            SupervisionSegment(
                id=utterance,
                recording_id=recording,
                start=start,
                duration=duration,
                channel=0,
                text=data.text.get(utterance),
                speaker=speaker,
                gender=data.spk2gender.get(speaker),
            ).to_dict()
        )
    if recordings:
        _write(folder / f"{part}_recordings.jsonl.gz", recordings)
    else:
        (folder / f"{part}_recordings.jsonl.gz").unlink(missing_ok=True)
    _write(folder / f"{part}_supervisions.jsonl.gz", supervisions)


def _recording(name: str, location: str, info: AudioInfo) -> dict[str, Any]:
    from lhotse import AudioSource, Recording

    path = audio_file(location)
    source = AudioSource(
        type="file" if path else "command", channels=list(range(info.channels)), source=path or _command(location)
    )
    recording: dict[str, Any] = Recording(
        id=name,
        sources=[source],
        sampling_rate=info.sampling_rate,
        num_samples=info.samples,
        duration=info.samples / info.sampling_rate,
    ).to_dict()
    return recording


def _command(location: str) -> str:
    """The shell command that gives the wav file of a pipe or of ``ark:offset``."""
    if location.rstrip().endswith("|"):
        return location.rstrip(" |")
    ark, _, offset = location.rpartition(":")
    return f"tail -c +{int(offset) + 1} {shlex.quote(ark)}"


def _write(path: Path, items: Iterable[dict[str, Any]]) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0) as stream:
        for item in items:
            stream.write(json.dumps(item, ensure_ascii=False).encode() + b"\n")
    atomic_write(path, packed.getvalue())
