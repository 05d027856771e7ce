from __future__ import annotations

from pathlib import Path

import kaldi_native_io
import kaldiio
import numpy as np
import pytest
import torch

from deepspeaker.config import Config, ResCNNModel
from deepspeaker.embedding import (
    CHOOSING_SPEAKERS,
    SYSTEMS,
    choose_checkpoint,
    collect_embeddings,
    embed_shard,
    embed_systems,
    embed_utterances,
    embeddings_dir,
    read_network,
    systems_of,
)
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex, mean_variance_normalised
from deepspeaker.kaldi import ArkWriter, read_table, read_vector, write_table
from deepspeaker.models import build_model, load_checkpoint, network_of, save_checkpoint

OPTIONS = ResCNNModel(channels=[4, 6], blocks=1, embedding_dim=7).model_dump()


def write_checkpoint(path: Path, bins: int = 9) -> Path:
    torch.manual_seed(0)
    network = build_model(bins, **OPTIONS)
    network(torch.randn(8, 20, bins) * 2 + 1)
    known = {"config": {"model": OPTIONS}, "stage": path.parent.name, "speakers": ["a"], "feature_dim": bins}
    save_checkpoint(path, known | {"network": network.state_dict()})
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "softmax" / "checkpoint_last.pt")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder, generator = tmp_path / "test_nosil", np.random.default_rng(0)
    names = [f"s{speaker}-{which:02d}" for speaker, count in enumerate((4, 1, 6)) for which in range(count)]
    lengths = generator.integers(1, 80, len(names)).tolist()
    with ArkWriter(folder / "feats.ark", folder / "feats.scp", compression="one-byte") as writer:
        for name, length in zip(names, lengths, strict=True):
            writer.write(name, mean_variance_normalised(generator.normal(size=(length, 9)).astype(np.float32)))
    write_table(folder / "utt2spk", {name: name[:2] for name in names})
    write_table(folder / "utt2num_frames", dict(zip(names, map(str, lengths), strict=True)))
    return folder


def embed(data_dir: Path, checkpoint: Path, output: Path, jobs: int) -> str:
    for job in range(1, jobs + 1):
        embed_shard(data_dir, checkpoint, output, job, jobs, "cpu")
    return collect_embeddings(data_dir, output, jobs)


def arks_of(output: Path, jobs: int) -> bytes:
    return b"".join((output / f"xvector.{job}.ark").read_bytes() for job in range(1, jobs + 1))


def test_number_of_jobs_and_threads_does_not_change_the_bytes(data_dir: Path, checkpoint: Path, tmp_path: Path) -> None:
    for jobs in (1, 3, 11):
        torch.set_num_threads(2 if jobs == 3 else 1)
        embed(data_dir, checkpoint, tmp_path / f"jobs_{jobs}", jobs)
    for jobs in (3, 11):
        assert arks_of(tmp_path / f"jobs_{jobs}", jobs) == arks_of(tmp_path / "jobs_1", 1)
        for name in ("spk_xvector.ark", "num_utts.ark"):
            assert (tmp_path / f"jobs_{jobs}" / name).read_bytes() == (tmp_path / "jobs_1" / name).read_bytes()


def test_tables_hold_every_embedding_and_speaker(data_dir: Path, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "embeddings"
    assert embed(data_dir, checkpoint, output, 3) == f"{output}: 11 utterances, 3 speakers, dimension 7"
    index = FeatureIndex(data_dir)
    locations = read_table(output / "xvector.scp")
    assert list(locations) == index.utterances
    embeddings = np.stack([read_vector(location) for location in locations.values()])
    network = network_of(load_checkpoint(checkpoint))
    np.testing.assert_allclose(embeddings, embed_utterances(network, index, range(len(index))), rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=0, atol=1e-6)
    means = {speaker: read_vector(place) for speaker, place in read_table(output / "spk_xvector.scp").items()}
    assert list(means) == ["s0", "s1", "s2"]
    for speaker, mean in means.items():
        rows = [row for row, utterance in enumerate(index.utterances) if utterance.startswith(speaker)]
        np.testing.assert_allclose(mean, embeddings[rows].mean(axis=0), rtol=0, atol=1e-6)
    assert read_table(output / "num_utts.ark") == {"s0": "4", "s1": "1", "s2": "6"}
    assert {path.name for path in output.iterdir()} == {
        *(f"xvector.{job}.ark" for job in (1, 2, 3)),
        "xvector.scp",
        "spk_xvector.ark",
        "spk_xvector.scp",
        "num_utts.ark",
        "mean.vec",
    }
    mean = embeddings.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(read_vector(str(output / "mean.vec")), mean, rtol=0, atol=1e-7)


def test_kaldi_native_io_reads_the_arks(data_dir: Path, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "embeddings"
    embed(data_dir, checkpoint, output, 2)
    for name in ("xvector", "spk_xvector"):
        ours = {key: read_vector(location) for key, location in read_table(output / f"{name}.scp").items()}
        with kaldi_native_io.SequentialFloatVectorReader(f"scp:{output}/{name}.scp") as reader:
            theirs = {key: np.array(value) for key, value in reader}
        assert list(theirs) == list(ours)
        assert all(np.array_equal(theirs[key], ours[key]) for key in ours)
    with kaldi_native_io.SequentialInt32Reader(f"ark:{output}/num_utts.ark") as reader:
        assert dict(reader) == {"s0": 4, "s1": 1, "s2": 6}
    mean = np.array(kaldi_native_io.FloatVector.read(f"{output}/mean.vec"))
    assert np.array_equal(mean, read_vector(str(output / "mean.vec")))
    assert np.array_equal(mean, kaldiio.load_mat(str(output / "mean.vec")))


def test_arks_of_an_earlier_run_with_more_jobs_are_removed(data_dir: Path, checkpoint: Path, tmp_path: Path) -> None:
    embed(data_dir, checkpoint, tmp_path / "embeddings", 5)
    embed(data_dir, checkpoint, tmp_path / "embeddings", 2)
    arks = {path.name for path in (tmp_path / "embeddings").glob("xvector.*.ark")}
    assert arks == {"xvector.1.ark", "xvector.2.ark"}


def test_a_missing_shard_is_an_error(data_dir: Path, checkpoint: Path, tmp_path: Path) -> None:
    for job in (1, 3):
        embed_shard(data_dir, checkpoint, tmp_path / "embeddings", job, 3, "cpu")
    with pytest.raises(InputError, match="shard 2 of 3 is missing; run stage 5 again"):
        collect_embeddings(data_dir, tmp_path / "embeddings", 3)
    assert not (tmp_path / "embeddings" / "xvector.scp").exists()


def test_features_of_another_dimension_are_refused(data_dir: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other.pt", bins=12)
    with pytest.raises(InputError, match=r"feats\.scp: has 9 bins, but the network of .*other\.pt needs 12"):
        embed_shard(data_dir, other, tmp_path / "embeddings", 1, 1, "cpu")
    assert not (tmp_path / "embeddings").exists()


def test_a_broken_checkpoint_leaves_no_embeddings(data_dir: Path, checkpoint: Path, tmp_path: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        embed_shard(data_dir, checkpoint, tmp_path / "embeddings", 1, 1, "cpu")
    assert not (tmp_path / "embeddings").exists()


def test_the_checkpoint_of_a_system_is_the_one_asked_for(tmp_path: Path) -> None:
    assert choose_checkpoint(tmp_path / "triplet", "best")[0] == tmp_path / "triplet" / "checkpoint_best.pt"
    assert choose_checkpoint(tmp_path / "triplet", "last")[0] == tmp_path / "triplet" / "checkpoint_last.pt"
    for which in ("best", "auto"):
        assert choose_checkpoint(tmp_path / "untrained", which)[0] == tmp_path / "untrained" / "checkpoint_last.pt"


def test_enough_development_speakers_choose_the_checkpoint(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "triplet" / "checkpoint_best.pt")
    content = load_checkpoint(path)
    last = tmp_path / "triplet" / "checkpoint_last.pt"
    # A checkpoint of an earlier version does not tell their number.
    assert choose_checkpoint(path.parent, "auto") == (last, "0 development speakers are too few to choose")
    for speakers, chosen in ((CHOOSING_SPEAKERS - 1, last), (CHOOSING_SPEAKERS, path)):
        save_checkpoint(path, content | {"dev_speakers": speakers})
        found, reason = choose_checkpoint(path.parent, "auto")
        assert found == chosen
        assert reason.startswith(f"{speakers} development speakers ")


def test_features_that_are_not_normalised_are_refused(data_dir: Path, checkpoint: Path, tmp_path: Path) -> None:
    raw = tmp_path / "test"
    index = FeatureIndex(data_dir)
    raw.mkdir()
    with ArkWriter(raw / "feats.ark", raw / "feats.scp", compression="one-byte") as writer:
        for utterance, name in enumerate(index.utterances):
            writer.write(name, 12 + 3 * index.read(utterance))  # as log-mel energies are
    for table in ("utt2spk", "utt2num_frames"):
        (raw / table).write_bytes((data_dir / table).read_bytes())
    message = f"^{raw}: the features of s0-00 are not normalised .*; embed {data_dir}, which"
    with pytest.raises(InputError, match=message):
        embed_shard(raw, checkpoint, tmp_path / "out", 1, 1, "cpu")
    assert not list((tmp_path / "out").glob("*.ark"))


def test_an_interrupted_job_keeps_finished_shards(tmp_path: Path, data_dir: Path) -> None:
    for system in SYSTEMS:
        for which in ("last", "best"):
            write_checkpoint(tmp_path / "exp" / system / f"checkpoint_{which}.pt")
    embed_systems(tmp_path, tmp_path / "exp", ["test"], 1, 2, device="cpu")
    shards = [embeddings_dir(tmp_path / "exp", system, "test") / ".shards/xvector.1" for system in SYSTEMS]
    times = [shard.stat().st_mtime_ns for shard in shards]
    shards[1].unlink()
    embed_systems(tmp_path, tmp_path / "exp", ["test"], 1, 2, device="cpu")
    assert [shard.stat().st_mtime_ns == old for shard, old in zip(shards, times, strict=True)] == [True, False, True]
    with pytest.raises(InputError, match=r"dev_nosil: no such part, but scoring\.backends train.*; .* speakers"):
        embed_systems(tmp_path, tmp_path / "exp", ["dev"], 1, 2, device="cpu")


def test_an_experiment_without_pre_training_has_no_softmax_system(tmp_path: Path, data_dir: Path) -> None:
    for system in ("untrained", "triplet"):
        for which in ("last", "best"):
            write_checkpoint(tmp_path / "exp" / system / f"checkpoint_{which}.pt")
    (tmp_path / "exp" / "softmax" / "log").mkdir(parents=True)
    embed_systems(tmp_path, tmp_path / "exp", ["test"], 1, 1, device="cpu")
    assert systems_of(tmp_path / "exp") == ["untrained", "triplet"]
    assert sorted(path.parent.name for path in (tmp_path / "exp").glob("*/embeddings_test")) == ["triplet", "untrained"]


def test_the_averaged_checkpoint_can_be_embedded(tmp_path: Path, data_dir: Path) -> None:
    which = Config.model_validate({"embedding": {"checkpoint": "average"}}).embedding.checkpoint
    write_checkpoint(tmp_path / "exp" / "untrained" / "checkpoint_last.pt")
    for system in ("softmax", "triplet"):
        average = load_checkpoint(write_checkpoint(tmp_path / "exp" / system / "checkpoint_last.pt"))
        average["network"]["affine.weight"] *= -1
        save_checkpoint(tmp_path / "exp" / system / "checkpoint_average.pt", average)
    embed_systems(tmp_path, tmp_path / "exp", ["test"], 1, 1, device="cpu", which=which)
    arks = [(embeddings_dir(tmp_path / "exp", system, "test") / "xvector.1.ark").read_bytes() for system in SYSTEMS]
    assert arks[0] != arks[1] == arks[2]
    network = read_network(tmp_path / "exp" / "triplet")
    assert (network["checkpoint"], network["reason"]) == ("checkpoint_average.pt", "embedding.checkpoint is average")
    assert network["parameters"] == sum(
        value.numel() for name, value in average["network"].items() if "running" not in name and "num_" not in name
    )
    (tmp_path / "exp" / "triplet" / "checkpoint_average.pt").unlink()
    with pytest.raises(InputError, match=r"triplet/checkpoint_average\.pt: no such checkpoint"):
        embed_systems(tmp_path, tmp_path / "exp", ["test"], 2, 2, device="cpu", which=which)
