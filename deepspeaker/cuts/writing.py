"""Convert data directories to CutSets, and add embeddings to cuts."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deepspeaker.audio import AudioInfo, audio_info
from deepspeaker.corpora import recording_of, supervision_of, write_jsonl
from deepspeaker.errors import InputError
from deepspeaker.kaldi import ArkWriter, DataDir, parse_location, read_header_of, read_table, read_vector


def cuts_of_data_dir(
    data_dir: Path, frame_shift: float = 0.01, sampling_rate: int = 16000, allow_pipes: bool = False
) -> Iterator[Any]:
    """Yield a Lhotse cut for each utterance of a data directory, sorted by id.

    A cut has everything that the directory has:

    - the audio of ``wav.scp`` (and ``segments``) with its exact number of samples, which are read from the headers of
      the files, or from the recipe's manifests if they describe the same files
    - the features of ``feats.scp``, which stay in their archive (Lhotse's storage "kaldiio", which needs
      kaldi_native_io)
    - speaker, text and gender, as a supervision with the id of the cut

    Parameters
    ----------
    data_dir
        The data directory.
    frame_shift
        Seconds from frame to frame of the features.
    sampling_rate
        Sampling rate of the features in Hz. Lhotse resamples audio of another rate when it loads it.
    allow_pipes
        Whether commands in ``wav.scp`` may be run.

    Yields
    ------
    MonoCut or MultiCut
        A MultiCut for audio with several channels.

    Raises
    ------
    InputError
        The directory, or a header of audio or features, cannot be read.

    Notes
    -----
    If the features have fewer frames than Lhotse computes from the duration of the audio (as Kaldi's have with
    snip_edges), the cut ends with the shorter of the two.
    """
    from lhotse.serialization import deserialize_item

    return map(deserialize_item, cut_items(data_dir, frame_shift, sampling_rate, allow_pipes))


def cut_items(
    data_dir: Path, frame_shift: float = 0.01, sampling_rate: int = 16000, allow_pipes: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the cuts of ``cuts_of_data_dir`` as items of a manifest, without importing Lhotse."""
    data = DataDir.read(data_dir)
    info = _known_audio(data_dir, data)
    missing = [name for name in _needed_recordings(data) if name not in info]
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda name: audio_info(data.wav_scp[name], allow_pipes), missing)
        info.update(zip(missing, read, strict=True))
    cols: dict[str, int] = {}
    for utterance in sorted(data.utt2spk):
        yield _cut(data, utterance, info, frame_shift, sampling_rate, cols)


def _needed_recordings(data: DataDir) -> list[str]:
    segments = (data.segment_of(utterance) for utterance in data.utt2spk)
    return sorted({segment.recording for segment in segments if segment is not None})


def _known_audio(data_dir: Path, data: DataDir) -> dict[str, AudioInfo]:
    """Return the properties of the recordings that stage 1 wrote, so that files and pipes are not opened again."""
    manifest = data_dir.parent / "manifests" / f"{data_dir.name}_recordings.jsonl.gz"
    known: dict[str, AudioInfo] = {}
    if not manifest.is_file():
        return known
    with gzip.open(manifest, "rt", encoding="utf-8") as lines:
        for item in map(json.loads, lines):
            info = AudioInfo(item["sampling_rate"], item["num_samples"], len(item["sources"][0]["channels"]))
            name = item["id"]
            if name in data.wav_scp and recording_of(name, data.wav_scp[name], info) == item:
                known[name] = info
    return known


def _cut(
    data: DataDir,
    utterance: str,
    info: dict[str, AudioInfo],
    frame_shift: float,
    sampling_rate: int,
    cols: dict[str, int],
) -> dict[str, Any]:
    supervision = supervision_of(data, utterance, info, frame_shift)
    start, duration = supervision["start"], supervision["duration"]
    cut = {"id": utterance, "start": start, "duration": duration, "channel": 0, "supervisions": [], "type": "MonoCut"}
    segment = data.segment_of(utterance)
    if segment is not None:
        recording = recording_of(segment.recording, data.wav_scp[segment.recording], info[segment.recording])
        if len(recording["channel_ids"]) > 1:
            # The recipe's features are those of the averaged channels.
            cut |= {"channel": recording["channel_ids"], "type": "MultiCut"}
        if utterance in data.feats_scp and recording["sampling_rate"] != sampling_rate:
            recording = _resampled(recording, sampling_rate)  # a Lhotse cut has the sampling rate of its features
            duration = min(duration, recording["duration"] - start)
        cut["recording"] = recording
    if utterance in data.feats_scp:
        path, offset = parse_location(data.feats_scp[utterance])
        location = f"{Path(path).resolve()}:{offset}"
        if path not in cols or utterance not in data.utt2num_frames:
            header = read_header_of(location)
            cols[path] = header.cols
            data.utt2num_frames.setdefault(utterance, str(header.rows))
        frames = int(data.utt2num_frames[utterance])
        length = round(frames * frame_shift, 6)
        if segment is None or _frames(duration, frame_shift, sampling_rate) != frames:
            duration = length if segment is None else min(duration, length)
        else:
            length = duration
        cut["features"] = {
            "type": "kaldi-fbank",
            "num_frames": frames,
            "num_features": cols[path],
            "frame_shift": frame_shift,
            "sampling_rate": sampling_rate,
            "start": start,
            "duration": length,
            "storage_type": "kaldiio",
            "storage_path": location,
            "storage_key": utterance,
            "recording_id": supervision["recording_id"],
            "channels": cut["channel"],
        }
    elif segment is None:
        raise InputError(f"{utterance} is in neither wav.scp nor feats.scp; remove it (utils/fix_data_dir.sh)")
    cut["duration"] = duration
    cut["supervisions"] = [supervision | {"start": 0.0, "duration": duration, "channel": cut["channel"]}]
    keys = ("id", "start", "duration", "channel", "supervisions", "features", "recording", "type")  # Lhotse's order
    return {key: cut[key] for key in keys if key in cut}


def _frames(duration: float, frame_shift: float, sampling_rate: int) -> int:
    """Return the number of frames that Lhotse expects of a duration in seconds."""
    hop = round(frame_shift * sampling_rate)
    return (round(duration * sampling_rate) + hop // 2) // hop


def _resampled(recording: dict[str, Any], sampling_rate: int) -> dict[str, Any]:
    """Return a recording that Lhotse resamples when it loads it."""
    samples = math.floor(round(recording["duration"] * sampling_rate, 8) + 0.5)
    rates = {"source_sampling_rate": recording["sampling_rate"], "target_sampling_rate": sampling_rate}
    new = {"sampling_rate": sampling_rate, "num_samples": samples, "duration": samples / sampling_rate}
    return recording | new | {"transforms": [{"name": "Resample", "kwargs": rates}]}


def write_cuts(path: Path, cuts: Iterable[Any]) -> int:
    """Write a manifest ``*.jsonl.gz`` and return the number of cuts. The same cuts give the same bytes.

    The cuts are Lhotse cuts, or items of ``cut_items``.
    """
    if not path.name.endswith(".jsonl.gz"):
        raise InputError(f"{path}: the name of a manifest must end in .jsonl.gz")
    return write_jsonl(path, (cut if isinstance(cut, dict) else cut.to_dict() for cut in cuts))


def with_embeddings(
    cuts: Iterable[Any], embeddings: Path, ark: Path, field: str = "xvector", say: Callable[[str], None] = print
) -> Iterator[Any]:
    """Add an embedding to each cut as a custom field, a Lhotse ``Array``.

    Parameters
    ----------
    cuts
        The cuts, which are not modified. A cut without an embedding is yielded unchanged.
    embeddings
        An scp file of vectors by cut id, such as ``embeddings_test/xvector.scp``.
    ark
        Archive to which the embeddings are copied as matrices of one row, with an scp file beside it. Lhotse can read
        only matrices from Kaldi archives, so that ``cut.load_xvector()`` returns an array of shape (1, dim).
    field
        Name of the custom field.
    say
        Called at the end with the number of cuts without an embedding.

    Yields
    ------
    Cut
        The cuts with their embeddings.

    Raises
    ------
    InputError
        No cut has an embedding, or the name of the field is not a Python identifier.
    """
    from lhotse.array import Array
    from lhotse.utils import fastcopy

    if not field.isidentifier():
        raise InputError(f"--field {field}: use only letters, digits and underscores")
    locations: dict[str, tuple[str, int]] = {}
    with ArkWriter(ark, ark.with_suffix(".scp")) as writer:
        for utterance, location in sorted(read_table(embeddings).items()):
            vector = read_vector(location)
            locations[utterance] = writer.write(utterance, vector[None]), len(vector)
    total, missing = 0, []
    for cut in cuts:
        total += 1
        if cut.id in locations:
            path, dim = locations[cut.id]
            if hasattr(cut, "tracks"):
                raise InputError(f"cut {cut.id}: a mixed cut has no custom fields; attach embeddings to plain cuts")
            array = Array(storage_type="kaldiio", storage_path=path, storage_key=cut.id, shape=[1, dim])
            cut = fastcopy(cut, custom={**(cut.custom or {}), field: array})
        else:
            missing.append(cut.id)
        yield cut
    if len(missing) == total:
        raise InputError(f"{embeddings}: has no embedding for any of the {total} cuts; use the ids of the cuts")
    if missing:
        say(f"note: {len(missing)} of {total} cuts have no embedding in {embeddings} (first: {missing[0]})")
