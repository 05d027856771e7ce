"""Stage 5 in shards: each job embeds a run of utterances, then their tables are collected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from deepspeaker.corpora import DEV_REMEDY
from deepspeaker.embedding.extractor import embed_utterances, evenly, speaker_means
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex, check_normalised, shard_of
from deepspeaker.files import remove_folder
from deepspeaker.kaldi import ArkWriter, read_table, read_vector, write_table, write_vector
from deepspeaker.models import choose_device, load_checkpoint, network_of

_SHARDS = ".shards"

#: The networks that stage 5 embeds, by the name of their folder.
SYSTEMS = ("untrained", "softmax", "triplet")


def embeddings_dir(exp_dir: Path, system: str, part: str) -> Path:
    """Where the embeddings of a part by a system lie."""
    return exp_dir / system / f"embeddings_{part}"


def embed_systems(
    data_dir: Path,
    exp_dir: Path,
    parts: Sequence[str],
    job: int,
    num_jobs: int,
    *,
    device: str = "auto",
    which: str = "last",
    training_utterances: int | None = None,
) -> None:
    """Embed one shard of each part by each system; a shard that an interrupted job has finished stays.

    Parameters
    ----------
    data_dir, exp_dir
        Hold ``PART_nosil`` and the systems' checkpoints.
    parts
        Such as ``["test", "train"]``.
    job, num_jobs
        The shard, from 1, and their number.
    device
        Where networks run, see ``choose_device``.
    which
        The checkpoint, see ``system_checkpoint``.
    training_utterances
        The most utterances of a speaker of ``train``.
    """
    for part in parts:
        if not (data_dir / f"{part}_nosil").is_dir():
            remedy = f"; {DEV_REMEDY}" if part == "dev" else ""
            raise InputError(f"{data_dir}/{part}_nosil: no such part, and scoring.backends learn from it{remedy}")
    for system in SYSTEMS:
        checkpoint = system_checkpoint(exp_dir / system, which)
        for part in parts:
            output = embeddings_dir(exp_dir, system, part)
            if not (output / _SHARDS / f"xvector.{job}").is_file():
                most = training_utterances if part == "train" else None
                embed_shard(data_dir / f"{part}_nosil", checkpoint, output, job, num_jobs, device, most)


def system_checkpoint(system_dir: Path, which: str) -> Path:
    """The checkpoint of a trained system: the "last", the "best" on development speakers, or the "average".

    The untrained network has only one.
    """
    return system_dir / f"checkpoint_{'last' if system_dir.name == 'untrained' else which}.pt"


def embed_shard(
    data_dir: Path,
    checkpoint: Path,
    output: Path,
    job: int,
    num_jobs: int,
    device: str = "auto",
    per_speaker: int | None = None,
) -> None:
    """Writes ``xvector.JOB.ark`` with the unit-length embeddings of one shard of a data directory.

    With ``per_speaker`` it takes so many utterances of each speaker at most, evenly spread over their sorted ids.

    Each utterance is computed alone, in float32 and on one thread, so that neither the number of jobs nor the
    company of other utterances changes a bit of it.
    """
    content = load_checkpoint(checkpoint)
    network = network_of(content)
    index = FeatureIndex(data_dir)
    if index.feature_dim != network.feature_dim:
        raise InputError(
            f"{data_dir}/feats.scp: has {index.feature_dim} bins, the network of {checkpoint} wants "
            f"{network.feature_dim}; take features of the same configuration"
        )
    torch.set_num_threads(1)
    network.to(choose_device(device))
    chosen = np.sort(np.concatenate([evenly(own, per_speaker) for own in index.of_speaker])).tolist()
    mine = shard_of(chosen, job, num_jobs)
    with ArkWriter(output / f"xvector.{job}.ark", output / _SHARDS / f"xvector.{job}") as writer:
        for utterance in mine:
            check_normalised(index.read(utterance), index.utterance_id(utterance), data_dir)
            writer.write(index.utterance_id(utterance), embed_utterances(network, index, [utterance])[0])


def collect_embeddings(data_dir: Path, output: Path, num_jobs: int) -> str:
    """Join the shards into ``xvector.scp``; write the mean embedding of each speaker and of all.

    These are ``spk_xvector.{ark,scp}``, ``num_utts.ark`` and ``mean.vec``, as Kaldi's ``ivector-mean`` has them.

    Returns
    -------
    str
        A line that says what is there now.

    Raises
    ------
    InputError
        A shard is missing.
    """
    line = _collected(data_dir, output, num_jobs)
    remove_folder(output / _SHARDS)
    return line


def _collected(data_dir: Path, output: Path, num_jobs: int) -> str:
    shards = output / _SHARDS
    locations: dict[str, str] = {}
    for job in range(1, num_jobs + 1):
        if not (shards / f"xvector.{job}").is_file():
            raise InputError(f"{shards}/xvector.{job}: shard {job} of {num_jobs} is missing; run stage 5 again")
        locations.update(read_table(shards / f"xvector.{job}"))
    write_table(output / "xvector.scp", locations)
    utt2spk = read_table(data_dir / "utt2spk")
    speakers = sorted({utt2spk[utterance] for utterance in locations})
    number = {speaker: index for index, speaker in enumerate(speakers)}
    owner = np.array([number[utt2spk[utterance]] for utterance in locations], dtype=np.int32)
    embeddings = np.stack([read_vector(location) for location in locations.values()])
    means, counts = speaker_means(embeddings, owner, len(speakers))
    with ArkWriter(output / "spk_xvector.ark", output / "spk_xvector.scp") as writer:
        for speaker, mean in zip(speakers, means, strict=True):
            writer.write(speaker, mean)
    write_table(output / "num_utts.ark", {speaker: str(n) for speaker, n in zip(speakers, counts, strict=True)})
    write_vector(output / "mean.vec", embeddings.mean(axis=0, dtype=np.float64).astype(np.float32))
    for ark in output.glob("xvector.*.ark"):
        if ark.name.split(".")[1].isdigit() and int(ark.name.split(".")[1]) > num_jobs:
            ark.unlink()
    return f"{output}: {len(locations)} utterances, {len(speakers)} speakers, dimension {embeddings.shape[1]}"
