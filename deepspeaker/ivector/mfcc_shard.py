"""The MFCCs of a data directory in shards: each job computes some utterances, then the shards are collected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.features import join_tables, load_utterance, nosil_dir, shard_of
from deepspeaker.files import remove_folder
from deepspeaker.ivector.mfcc import Cmvn, MfccExtractor, speech_features
from deepspeaker.kaldi import ArkWriter, DataDir, has_precomputed_features, read_table, read_vector, write_table
from deepspeaker.skipped import report_skipped

_SHARDS = ".shards"
#: One byte would be too coarse: the range is that of the whole matrix, and accelerations use only a small part of it.
_COMPRESSION = "two-byte"


def mfcc_dir(data_dir: Path) -> Path:
    """Return the directory that holds the MFCCs of the speech frames of a data directory."""
    return data_dir.with_name(data_dir.name + "_mfcc")


def has_audio(data_dir: Path) -> bool:
    """Return whether a data directory names audio."""
    return (data_dir / "wav.scp").is_file()


def compute_mfcc_shard(
    data_dir: Path,
    job: int,
    num_jobs: int,
    *,
    sampling_rate: int,
    mfcc: dict[str, Any],
    cmvn: Cmvn,
    window: int,
    vad: dict[str, Any],
    allow_pipes: bool,
) -> None:
    """Compute the MFCCs of one shard of a data directory, for the utterances that stage 2 kept.

    Writes ``mfcc.JOB.ark`` into the directory of `mfcc_dir`. The VAD decisions are those of stage 2. If the features of
    the directory came with it, their frames may be others, so that the decisions are made again.

    Parameters
    ----------
    data_dir
        A Kaldi data directory after stage 2.
    job, num_jobs
        The number of this shard, from 1, and the number of shards.
    sampling_rate
        Audio at another rate is resampled to this one, in Hz.
    mfcc
        Options of `MfccExtractor`.
    cmvn, window, vad
        See `speech_features`.
    allow_pipes
        Whether entries of wav.scp may run commands.

    Raises
    ------
    InputError
        The directory has no audio, or stage 2 has not run.
    """
    import torch  # for the mel filters

    torch.set_num_threads(1)  # the jobs share the machine
    data = DataDir.read(data_dir)
    if not has_audio(data_dir):
        raise InputError(f"{data_dir}/wav.scp: no such file, but MFCCs are computed from audio; add it")
    given = has_precomputed_features(data_dir)
    extractor = MfccExtractor(sampling_rate, **mfcc)
    output = mfcc_dir(data_dir)
    shards = output / _SHARDS
    frames: dict[str, str] = {}
    skipped: dict[str, str] = {}
    with ArkWriter(output / f"mfcc.{job}.ark", shards / f"feats.{job}", _COMPRESSION) as writer:
        for utterance in shard_of(sorted(read_table(nosil_dir(data_dir) / "utt2spk")), job, num_jobs):
            try:
                samples, _ = load_utterance(data, utterance, sampling_rate, extractor.minimum_samples, allow_pipes)
                speech = None if given else read_vector(data.vad_scp[utterance]) > 0
                features = speech_features(extractor(samples), speech, cmvn=cmvn, window=window, vad=vad)
            except InputError as error:
                skipped[utterance] = str(error)
                continue
            frames[utterance] = str(len(features))
            writer.write(utterance, np.ascontiguousarray(features))
    write_table(shards / f"skipped.{job}", skipped)
    write_table(shards / f"num_frames.{job}", frames)


def collect_mfcc_shards(data_dir: Path, num_jobs: int, max_skipped: float) -> str:
    """Join the shards of `compute_mfcc_shard` into the data directory of `mfcc_dir`.

    Parameters
    ----------
    data_dir
        The data directory that has the audio.
    num_jobs
        The number of shards.
    max_skipped
        How many utterances may be skipped, in percent. ``skipped`` in the directory lists them all.

    Returns
    -------
    str
        A line for the user.

    Raises
    ------
    InputError
        A shard is missing, or too many utterances were skipped. All shards must then be computed again.
    """
    output = mfcc_dir(data_dir)
    shards = output / _SHARDS
    utt2spk = read_table(nosil_dir(data_dir) / "utt2spk")
    try:
        feats, frames, skipped = (
            join_tables(shards, name, num_jobs, stage=5) for name in ("feats", "num_frames", "skipped")
        )
        report_skipped(output / "skipped", skipped, len(utt2spk), f"utterances of {data_dir}", max_skipped)
    except InputError:
        remove_folder(shards)
        raise
    kept = {utterance: utt2spk[utterance] for utterance in feats}
    DataDir(kept, feats_scp=feats, utt2num_frames=frames).write(output)
    for ark in output.glob("mfcc.*.ark"):
        if int(ark.name.split(".")[1]) > num_jobs:  # of an earlier run with more jobs
            ark.unlink()
    remove_folder(shards)
    return f"{output}: {len(feats)} utterances, {sum(map(int, frames.values()))} frames of MFCCs"
