"""Stage 2 in shards: each job takes a run of utterances, then their tables are collected."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from deepspeaker.audio import AudioInfo, load_audio
from deepspeaker.errors import InputError
from deepspeaker.features.fbank import FbankExtractor
from deepspeaker.features.normalisation import mean_variance_normalised
from deepspeaker.features.vad import energy_vad
from deepspeaker.files import remove_folder
from deepspeaker.kaldi import (
    ArkWriter,
    DataDir,
    has_own_features,
    read_matrix,
    read_table,
    read_vector,
    split_bounds,
    write_table,
)
from deepspeaker.skipped import report_skipped

_SHARDS = ".shards"


T = TypeVar("T")


def shard_of(utterances: Sequence[T], job: int, num_jobs: int) -> Sequence[T]:
    """The utterances of job ``job``, from 1 to ``num_jobs``: the piece that Kaldi's ``split_scp.pl`` makes for it.

    Unlike that program it accepts more jobs than utterances; the last jobs then have none.
    """
    bounds = split_bounds(len(utterances), num_jobs)
    return utterances[bounds[job - 1] : bounds[job]]


def nosil_dir(data_dir: Path) -> Path:
    """Where the normalised speech frames of a data directory lie."""
    return data_dir.with_name(data_dir.name + "_nosil")


def compute_shard(
    data_dir: Path,
    job: int,
    num_jobs: int,
    *,
    sampling_rate: int,
    fbank: dict[str, Any],
    vad: dict[str, Any],
    variance_floor: float,
    raw_compression: str,
    compression: str,
    allow_pipes: bool,
) -> None:
    """Features, speech frames and their normalised form for one shard of a data directory.

    Writes ``fbank.JOB.ark`` and ``vad.JOB.ark`` (unless the directory brought its features) there and
    ``fbank.JOB.ark`` in ``*_nosil``. Utterances that cannot be read, have no speech, or have features that are not
    finite numbers are noted for ``collect_shards``, so that training need not look for such values.
    ``fbank`` and ``vad`` are the options of ``FbankExtractor`` and ``energy_vad``.
    """
    torch.set_num_threads(1)  # the jobs share the machine
    data = DataDir.read(data_dir)
    given = has_own_features(data_dir)
    extractor = FbankExtractor(sampling_rate=sampling_rate, **fbank)
    shards = data_dir / _SHARDS
    nosil = nosil_dir(data_dir)
    num_frames: dict[str, str] = {}
    num_speech: dict[str, str] = {}
    skipped: dict[str, str] = {}
    converted: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        nosil_writer = stack.enter_context(
            ArkWriter(nosil / f"fbank.{job}.ark", shards / f"nosil.{job}", compression)
        )
        if not given:  # else an ark of the user's could have one of these names
            feats_writer = stack.enter_context(
                ArkWriter(data_dir / f"fbank.{job}.ark", shards / f"feats.{job}", raw_compression)
            )
            vad_writer = stack.enter_context(ArkWriter(data_dir / f"vad.{job}.ark", shards / f"vad.{job}"))
        for utterance in shard_of(sorted(data.utt2spk), job, num_jobs):
            try:
                if given:
                    feats, speech = _given_features(data, utterance)
                else:
                    feats, speech, info = _computed_features(
                        data, utterance, extractor, sampling_rate, vad, allow_pipes
                    )
                    if info.sampling_rate != sampling_rate or info.channels > 1:
                        converted[utterance] = f"{info.sampling_rate} {sampling_rate} {info.channels}"
                if not (speech > 0).any():
                    raise InputError("has no speech frame")
            except InputError as error:
                skipped[utterance] = str(error)
                continue
            normalised = mean_variance_normalised(feats[speech > 0], variance_floor)
            num_frames[utterance], num_speech[utterance] = str(len(feats)), str(len(normalised))
            if not given:
                feats_writer.write(utterance, feats)
                vad_writer.write(utterance, speech)
            nosil_writer.write(utterance, normalised)
    write_table(shards / f"num_frames.{job}", num_frames)
    write_table(shards / f"num_speech.{job}", num_speech)
    write_table(shards / f"skipped.{job}", skipped)
    write_table(shards / f"converted.{job}", converted)
    for line in _conversions(converted):
        print(line)


def collect_shards(data_dir: Path, num_jobs: int, max_skipped: float) -> str:
    """Joins what ``compute_shard`` left into ``feats.scp``, ``vad.scp``, ``utt2num_frames`` and ``*_nosil``.

    Returns lines that say what is there now, and what audio was converted. Raises ``InputError`` when a shard is
    missing or more than ``max_skipped`` percent of the utterances are skipped (list: ``skipped`` in the directory);
    then all shards are to be computed again.
    """
    data = DataDir.read(data_dir)
    given = has_own_features(data_dir)
    shards = data_dir / _SHARDS
    names = ["skipped", "num_frames", "num_speech", "nosil", "converted", *([] if given else ["feats", "vad"])]
    try:
        tables = {name: _joined(shards, name, num_jobs) for name in names}
        about = f"utterances of {data_dir}"
        report_skipped(data_dir / "skipped", tables["skipped"], len(data.utt2spk), about, max_skipped)
    except InputError:
        remove_folder(shards)
        raise
    num_frames, num_speech = tables["num_frames"], tables["num_speech"]
    nosil = data.subset(num_speech)
    nosil.wav_scp, nosil.segments, nosil.reco2dur, nosil.vad_scp, nosil.utt2dur = {}, {}, {}, {}, {}
    nosil.feats_scp, nosil.utt2num_frames = tables["nosil"], num_speech
    nosil.write(nosil_dir(data_dir))
    if not given:
        data.feats_scp, data.vad_scp = tables["feats"], tables["vad"]
    data.utt2num_frames = num_frames
    data.write(data_dir)
    if not given:
        _remove_old_arks(data_dir, num_jobs)
    _remove_old_arks(nosil_dir(data_dir), num_jobs)
    remove_folder(shards)
    frames, speech = sum(map(int, num_frames.values())), sum(map(int, num_speech.values()))
    summary = (
        f"{data_dir}: {len(num_speech)} utterances, {frames} frames, {100.0 * speech / frames:.1f} % of them speech"
        + (" (features as given)" if given else "")
    )
    return "\n".join([*(f"{data_dir}: {line}" for line in _conversions(tables["converted"])), summary])


def _joined(shards: Path, name: str, num_jobs: int) -> dict[str, str]:
    """The table ``name`` of all jobs."""
    table: dict[str, str] = {}
    for job in range(1, num_jobs + 1):
        if not (shards / f"{name}.{job}").is_file():
            raise InputError(f"{shards / name}.{job}: shard {job} of {num_jobs} is missing; run stage 2 again")
        table.update(read_table(shards / f"{name}.{job}"))
    return table


def _conversions(converted: dict[str, str]) -> list[str]:
    """What was done to audio of another form: a line for each rate, and one for channels."""
    by_rate: dict[tuple[int, int], list[str]] = {}
    several = []
    for utterance, form in converted.items():
        rate, wanted, channels = map(int, form.split())
        if rate != wanted:
            by_rate.setdefault((rate, wanted), []).append(utterance)
        if channels > 1:
            several.append(utterance)
    lines = [
        f"resampled from {rate} to {wanted} Hz: {len(utterances)} utterances (first: {utterances[0]})"
        for (rate, wanted), utterances in sorted(by_rate.items())
    ]
    if several:
        lines.append(f"channels averaged: {len(several)} utterances (first: {several[0]})")
    return lines


def _remove_old_arks(folder: Path, num_jobs: int) -> None:
    """Arks of an earlier run with more jobs."""
    for ark in folder.glob("*.ark"):
        match = re.fullmatch(r"(?:fbank|vad)\.(\d+)\.ark", ark.name)
        if match and int(match[1]) > num_jobs:
            ark.unlink()


def _computed_features(
    data: DataDir, utterance: str, extractor: FbankExtractor, sampling_rate: int, vad: dict[str, Any], allow_pipes: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32], AudioInfo]:
    """Features, speech frames, and what the recording says of itself."""
    segment = data.segment_of(utterance)
    if segment is None:
        raise InputError("is not in segments" if data.segments else "is not in wav.scp")
    location = data.wav_scp[segment.recording]
    bounds = (segment.start, segment.end) if data.segments else None
    samples, info = load_audio(location, sampling_rate, allow_pipes, bounds)
    if len(samples) < extractor.minimum_samples:
        raise InputError(f"{location}: has {len(samples)} samples, less than one frame")
    feats, log_energy = extractor(samples)
    _check_finite(feats)  # squares of large samples overflow
    return feats, energy_vad(log_energy, **vad), info


def _given_features(data: DataDir, utterance: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if utterance not in data.feats_scp:
        raise InputError("is not in feats.scp")
    feats = read_matrix(data.feats_scp[utterance])
    _check_finite(feats)
    if utterance not in data.vad_scp:
        return feats, np.ones(len(feats), dtype=np.float32)
    speech = read_vector(data.vad_scp[utterance])
    if len(speech) != len(feats):
        raise InputError(f"has {len(feats)} frames in feats.scp and {len(speech)} in vad.scp")
    return feats, speech


def _check_finite(feats: NDArray[np.float32]) -> None:
    """Normalised forms of finite features are finite too."""
    if not np.isfinite(feats).all():
        raise InputError("has features that are not finite numbers")
