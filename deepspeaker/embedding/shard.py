"""Stage 5 in shards: each job embeds some utterances, then the shards are collected."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepspeaker.corpora import DEV_REMEDY
from deepspeaker.embedding.extractor import embed_features, evenly_spaced, speaker_means
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex, check_normalised, join_tables, shard_of
from deepspeaker.files import atomic_write, remove_folder
from deepspeaker.kaldi import ArkWriter, read_table, read_vector, write_table, write_vector

_SHARDS = ".shards"
_NETWORK = "network.json"

#: ``embedding.checkpoint: auto`` is "best" from this number of development speakers on, because fewer choose by chance.
#: Against the last epoch, the choice of 5 speakers costs 0.5 % points of EER on average over six trainings, that of 10
#: costs 0.13, that of 20 0.04 (docs/explanation/training.md).
CHOOSING_SPEAKERS = 20

#: The networks that stage 5 embeds with, by the names of their folders.
SYSTEMS = ("untrained", "softmax", "triplet")


def systems_of(exp_dir: Path) -> list[str]:
    """Return the systems of an experiment: all of ``SYSTEMS``, but "softmax" only if it has such a network."""
    pretrained = (exp_dir / "softmax" / "checkpoint_last.pt").is_file()
    return [system for system in SYSTEMS if system != "softmax" or pretrained]


def embeddings_dir(exp_dir: Path, system: str, part: str) -> Path:
    """Return the folder of a part's embeddings by a system."""
    return exp_dir / system / f"embeddings_{part}"


def embed_systems(
    data_dir: Path,
    exp_dir: Path,
    parts: Sequence[str],
    job: int,
    num_jobs: int,
    *,
    device: str = "auto",
    which: str = "auto",
    training_utterances: int | None = None,
) -> None:
    """Embed one shard of each part with each system. Shards that an interrupted job finished are kept.

    Parameters
    ----------
    data_dir, exp_dir
        The folders of ``PART_nosil``, and of the systems with their checkpoints.
    parts
        The parts, for example ``["test", "train"]``.
    job, num_jobs
        The number of this shard, from 1, and the number of shards.
    device
        See ``deepspeaker.models.choose_device``.
    which
        See ``choose_checkpoint``.
    training_utterances
        How many utterances of each ``train`` speaker to embed at most.

    Raises
    ------
    InputError
        A part or a checkpoint is missing, or an input of ``embed_shard`` is wrong.
    """
    for part in parts:
        if not (data_dir / f"{part}_nosil").is_dir():
            remedy = f"; {DEV_REMEDY}" if part == "dev" else ""
            raise InputError(f"{data_dir}/{part}_nosil: no such part, but scoring.backends train on it{remedy}")
    for system in systems_of(exp_dir):
        checkpoint, reason = choose_checkpoint(exp_dir / system, which)
        if job == 1:
            record_network(checkpoint, reason)
        for part in parts:
            output = embeddings_dir(exp_dir, system, part)
            if not (output / _SHARDS / f"xvector.{job}").is_file():
                limit = training_utterances if part == "train" else None
                embed_shard(data_dir / f"{part}_nosil", checkpoint, output, job, num_jobs, device, limit)


def choose_checkpoint(system_dir: Path, which: str) -> tuple[Path, str]:
    """Return the path of a system's "last", "best" (by development EER) or "average" checkpoint, and why it is used.

    "auto" is "best" if there were ``CHOOSING_SPEAKERS`` development speakers, else "last". The untrained network has a
    "last" one only.
    """
    reason = f"embedding.checkpoint is {which}"
    if system_dir.name == "untrained":
        which, reason = "last", "the only one"
    elif which == "auto":
        from deepspeaker.models import load_checkpoint

        speakers = load_checkpoint(system_dir / "checkpoint_best.pt").get("dev_speakers", 0)
        which = "best" if speakers >= CHOOSING_SPEAKERS else "last"
        reason = f"{speakers} development speakers {'chose it' if which == 'best' else 'are too few to choose'}"
    return system_dir / f"checkpoint_{which}.pt", reason


def record_network(checkpoint: Path, reason: str) -> None:
    """Write what the scoring needs to know of the network that embeds, and why it was chosen, beside its checkpoint.

    Without this file, stage 6 would have to import torch, which takes seconds.
    """
    from deepspeaker.models import load_checkpoint, network_of, parameter_count

    content = load_checkpoint(checkpoint)
    network = {"checkpoint": checkpoint.name, "reason": reason, "parameters": parameter_count(network_of(content))}
    network |= {key: content[key] for key in ("stage", "config", "speakers")}
    atomic_write(checkpoint.with_name(_NETWORK), json.dumps(network, indent=1) + "\n")


def read_network(system_dir: Path) -> dict[str, Any]:
    """Return what ``record_network`` wrote.

    The keys are ``checkpoint``, ``reason`` (why this checkpoint), ``parameters``, ``stage``, ``config`` and
    ``speakers``, the training speakers.

    Raises
    ------
    InputError
        There is no such file.
    """
    path = system_dir / _NETWORK
    if not path.is_file():
        raise InputError(f"{path}: no such file; run stage 5 again")
    network: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return network


def embed_shard(
    data_dir: Path,
    checkpoint: Path,
    output: Path,
    job: int,
    num_jobs: int,
    device: str = "auto",
    per_speaker: int | None = None,
) -> None:
    """Write the unit-length embeddings of one shard of a data directory to ``xvector.JOB.ark``.

    Each utterance is computed alone, in float32 and on one thread. So the bytes do not depend on the number of jobs or
    on other utterances.

    Parameters
    ----------
    data_dir
        A ``_nosil`` directory.
    checkpoint, output
        The checkpoint of the network, and the folder of the embeddings.
    job, num_jobs
        The number of this shard, from 1, and the number of shards.
    device
        See ``deepspeaker.models.choose_device``.
    per_speaker
        How many utterances of each speaker to embed at most, evenly spaced over their sorted ids. Default: all.

    Raises
    ------
    InputError
        The features are not normalised or do not fit the network, or the checkpoint cannot be read.
    """
    import torch

    from deepspeaker.models import choose_device, folded, load_checkpoint, network_of

    network = network_of(load_checkpoint(checkpoint))
    index = FeatureIndex(data_dir)
    if index.feature_dim != network.feature_dim:
        raise InputError(
            f"{data_dir}/feats.scp: has {index.feature_dim} bins, but the network of {checkpoint} needs "
            f"{network.feature_dim}; use features of the same configuration"
        )
    torch.set_num_threads(1)
    network = folded(network).to(choose_device(device))
    chosen = np.sort(
        np.concatenate([evenly_spaced(utterances, per_speaker) for utterances in index.of_speaker])
    ).tolist()
    with ArkWriter(output / f"xvector.{job}.ark", output / _SHARDS / f"xvector.{job}") as writer:
        for utterance in shard_of(chosen, job, num_jobs):
            features = index.read(utterance)
            check_normalised(features, index.utterance_id(utterance), data_dir)
            writer.write(index.utterance_id(utterance), embed_features(network, features))


def collect_embeddings(data_dir: Path, output: Path, num_jobs: int) -> str:
    """Join the shards into ``xvector.scp``, and average the embeddings.

    The means of each speaker (``spk_xvector.ark``, ``spk_xvector.scp``, ``num_utts.ark``) and of all utterances
    (``mean.vec``) are the files that Kaldi's ``ivector-mean`` writes.

    Returns
    -------
    str
        A line for the user: the number of utterances and speakers.

    Raises
    ------
    InputError
        A shard is missing.
    """
    shards = output / _SHARDS
    locations = join_tables(shards, "xvector", num_jobs, stage=5)
    write_table(output / "xvector.scp", locations)
    utt2spk = read_table(data_dir / "utt2spk")
    speakers = sorted({utt2spk[utterance] for utterance in locations})
    number = {speaker: index for index, speaker in enumerate(speakers)}
    speaker_numbers = np.array([number[utt2spk[utterance]] for utterance in locations], dtype=np.int32)
    embeddings = np.stack([read_vector(location) for location in locations.values()])
    means, counts = speaker_means(embeddings, speaker_numbers, len(speakers))
    with ArkWriter(output / "spk_xvector.ark", output / "spk_xvector.scp") as writer:
        for speaker, mean in zip(speakers, means, strict=True):
            writer.write(speaker, mean)
    write_table(output / "num_utts.ark", {speaker: str(n) for speaker, n in zip(speakers, counts, strict=True)})
    write_vector(output / "mean.vec", embeddings.mean(axis=0, dtype=np.float64).astype(np.float32))
    for ark in output.glob("xvector.*.ark"):
        if ark.name.split(".")[1].isdigit() and int(ark.name.split(".")[1]) > num_jobs:
            ark.unlink()
    remove_folder(shards)
    return f"{output}: {len(locations)} utterances, {len(speakers)} speakers, dimension {embeddings.shape[1]}"
