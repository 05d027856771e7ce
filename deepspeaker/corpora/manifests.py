"""Lhotse manifests of a data directory."""

from __future__ import annotations

import gzip
import io
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deepspeaker.audio import AudioInfo, audio_file
from deepspeaker.files import atomic_write
from deepspeaker.kaldi import DataDir


def write_manifests(folder: Path, part: str, data: DataDir, info: Mapping[str, AudioInfo], frame_shift: float) -> None:
    """Writes ``PART_recordings.jsonl.gz`` and ``PART_supervisions.jsonl.gz``, the same bytes for the same data.

    ``info`` holds what is known of the audio of each utterance. An utterance with features alone has a supervision,
    whose duration follows from its frames of ``frame_shift`` seconds, and no recording.
    """
    from lhotse import AudioSource, Recording, SupervisionSegment

    recordings, supervisions = [], []
    for utterance, speaker in sorted(data.utt2spk.items()):
        if utterance in info:
            rate, samples, channels = info[utterance]
            location = data.wav_scp[utterance]
            path = audio_file(location)
            source = AudioSource(
                type="file" if path else "command", channels=list(range(channels)), source=path or _command(location)
            )
            duration = samples / rate
            recordings.append(
                Recording(
                    id=utterance, sources=[source], sampling_rate=rate, num_samples=samples, duration=duration
                ).to_dict()
            )
        else:
            duration = round(int(data.utt2num_frames.get(utterance, "0")) * frame_shift, 6)
        supervisions.append(
            SupervisionSegment(
                id=utterance,
                recording_id=utterance,
                start=0.0,
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
