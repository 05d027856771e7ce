"""Stage 2 in shards: each job computes the features of some utterances, then the shards are collected."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
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
    has_precomputed_features,
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
    """Return the utterances of one job, as Kaldi's ``split_scp.pl`` divides them.

    ``job`` counts from 1. Unlike ``split_scp.pl``, this accepts more jobs than utterances: the last shards are empty.

    Examples
    --------
    >>> [shard_of("abcde", job, 2) for job in (1, 2)]
    ['abc', 'de']
    """
    bounds = split_bounds(len(utterances), num_jobs)
    return utterances[bounds[job - 1] : bounds[job]]


def nosil_dir(data_dir: Path) -> Path:
    """Return the directory that holds the normalised speech frames of a data directory."""
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
    """Compute features, VAD and normalised speech frames for one shard of a data directory.

    This writes ``fbank.JOB.ark`` and ``vad.JOB.ark`` into the directory, unless it came with features, and
    ``fbank.JOB.ark`` into its ``_nosil`` directory. Utterances that cannot be read, contain no speech, or have features
    that are not finite are skipped; ``collect_shards`` lists them. Training need not check for such values again.

    Parameters
    ----------
    data_dir
        A Kaldi data directory.
    job, num_jobs
        The number of this shard, from 1, and the number of shards.
    sampling_rate
        Audio at another rate is resampled to this one, in Hz.
    fbank, vad
        Options of ``FbankExtractor`` and ``energy_vad``.
    variance_floor
        See ``mean_variance_normalised``.
    raw_compression, compression
        How to compress the features, and the normalised features; see ``deepspeaker.kaldi.COMPRESSIONS``.
    allow_pipes
        Whether entries of wav.scp may run commands.
    """
    import torch

    torch.set_num_threads(1)  # the jobs share the machine
    data = DataDir.read(data_dir)
    given = has_precomputed_features(data_dir)
    extractor = FbankExtractor(sampling_rate=sampling_rate, **fbank)
    shards = data_dir / _SHARDS
    tables: dict[str, dict[str, str]] = {name: {} for name in ("num_frames", "num_speech", "skipped", "converted")}
    with contextlib.ExitStack() as stack:

        def open_ark(ark: Path, table: str, compression: str = "none") -> ArkWriter:
            return stack.enter_context(ArkWriter(ark, shards / f"{table}.{job}", compression))

        nosil_writer = open_ark(nosil_dir(data_dir) / f"fbank.{job}.ark", "nosil", compression)
        if not given:  # an ark that came with the directory could have one of these names
            feats_writer = open_ark(data_dir / f"fbank.{job}.ark", "feats", raw_compression)
            vad_writer = open_ark(data_dir / f"vad.{job}.ark", "vad")
        for utterance in shard_of(sorted(data.utt2spk), job, num_jobs):
            try:
                if given:
                    feats, speech = _read_features(data, utterance)
                else:
                    feats, speech, info = _compute_features(data, utterance, extractor, sampling_rate, vad, allow_pipes)
                    if info.sampling_rate != sampling_rate or info.channels > 1:
                        tables["converted"][utterance] = f"{info.sampling_rate} {sampling_rate} {info.channels}"
                if not (speech > 0).any():
                    raise InputError("has no speech frame")
            except InputError as error:
                tables["skipped"][utterance] = str(error)
                continue
            normalised = mean_variance_normalised(feats[speech > 0], variance_floor)
            tables["num_frames"][utterance] = str(len(feats))
            tables["num_speech"][utterance] = str(len(normalised))
            if not given:
                feats_writer.write(utterance, feats)
                vad_writer.write(utterance, speech)
            nosil_writer.write(utterance, normalised)
    for name, table in tables.items():
        write_table(shards / f"{name}.{job}", table)
    for line in _conversion_lines(tables["converted"]):
        print(line)


def collect_shards(data_dir: Path, num_jobs: int, max_skipped: float) -> str:
    """Join the shards of ``compute_shard`` into ``feats.scp``, ``vad.scp``, ``utt2num_frames`` and ``_nosil``.

    Parameters
    ----------
    data_dir
        The data directory.
    num_jobs
        The number of shards.
    max_skipped
        How many utterances may be skipped, in percent. ``skipped`` in the directory lists them all.

    Returns
    -------
    str
        Lines for the user: the audio that was converted, and the number of utterances and frames.

    Raises
    ------
    InputError
        A shard is missing, or too many utterances were skipped. All shards must then be computed again.
    """
    data = DataDir.read(data_dir)
    given = has_precomputed_features(data_dir)
    shards = data_dir / _SHARDS
    names = ["skipped", "num_frames", "num_speech", "nosil", "converted", *([] if given else ["feats", "vad"])]
    try:
        tables = {name: join_tables(shards, name, num_jobs) for name in names}
        label = f"utterances of {data_dir}"
        report_skipped(data_dir / "skipped", tables["skipped"], len(data.utt2spk), label, max_skipped)
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
    lines = [f"{data_dir}: {line}" for line in _conversion_lines(tables["converted"])]
    share, note = 100.0 * speech / frames, " (features as given)" if given else ""
    lines.append(f"{data_dir}: {len(num_speech)} utterances, {frames} frames, {share:.1f} % of them speech{note}")
    return "\n".join(lines)


def join_tables(shards: Path, name: str, num_jobs: int, stage: int = 2) -> dict[str, str]:
    """Return the entries of ``shards/NAME.JOB`` of all jobs of a stage.

    Raises
    ------
    InputError
        A shard is missing.
    """
    table: dict[str, str] = {}
    for job in range(1, num_jobs + 1):
        if not (shards / f"{name}.{job}").is_file():
            raise InputError(f"{shards / name}.{job}: shard {job} of {num_jobs} is missing; run stage {stage} again")
        table.update(read_table(shards / f"{name}.{job}"))
    return table


def _conversion_lines(converted: dict[str, str]) -> list[str]:
    """Return a line for each sampling rate that was converted, and one for averaged channels."""
    by_rate: dict[tuple[int, int], list[str]] = {}
    averaged = []
    for utterance, form in converted.items():
        rate, new_rate, channels = map(int, form.split())
        if rate != new_rate:
            by_rate.setdefault((rate, new_rate), []).append(utterance)
        if channels > 1:
            averaged.append(utterance)
    lines = [
        f"resampled from {rate} to {new_rate} Hz: {len(utterances)} utterances (first: {utterances[0]})"
        for (rate, new_rate), utterances in sorted(by_rate.items())
    ]
    if averaged:
        lines.append(f"channels averaged: {len(averaged)} utterances (first: {averaged[0]})")
    return lines


def _remove_old_arks(folder: Path, num_jobs: int) -> None:
    """Remove the arks of an earlier run with more jobs."""
    for ark in folder.glob("*.ark"):
        match = re.fullmatch(r"(?:fbank|vad)\.(\d+)\.ark", ark.name)
        if match and int(match[1]) > num_jobs:
            ark.unlink()


def load_utterance(
    data: DataDir, utterance: str, sampling_rate: int, minimum_samples: int, allow_pipes: bool
) -> tuple[NDArray[np.float32], AudioInfo]:
    """Return the samples of an utterance of a data directory, (samples,), and the properties of the recording.

    Raises
    ------
    InputError
        It has no audio, fewer than ``minimum_samples``, or cannot be read.
    """
    segment = data.segment_of(utterance)
    if segment is None:
        raise InputError("is not in segments" if data.segments else "is not in wav.scp")
    location = data.wav_scp[segment.recording]
    bounds = (segment.start, segment.end) if data.segments else None
    samples, info = load_audio(location, sampling_rate, allow_pipes, bounds)
    if len(samples) < minimum_samples:
        raise InputError(f"{location}: has {len(samples)} samples, less than one frame")
    return samples, info


def _compute_features(
    data: DataDir, utterance: str, extractor: FbankExtractor, sampling_rate: int, vad: dict[str, Any], allow_pipes: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32], AudioInfo]:
    """Return the features, the VAD decisions, and the properties of the recording."""
    samples, info = load_utterance(data, utterance, sampling_rate, extractor.minimum_samples, allow_pipes)
    feats, log_energy = extractor(samples)
    _check_finite(feats)  # the squares of large samples overflow
    return feats, energy_vad(log_energy, **vad), info


def _read_features(data: DataDir, utterance: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the features and VAD decisions that came with the directory; without vad.scp, all frames are speech."""
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
    """Check the raw features; normalisation keeps finite features finite."""
    if not np.isfinite(feats).all():
        raise InputError("has features that are not finite numbers")
