"""The steps of a training on disk, against the library's functions on all data at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.ivector import (
    Extractor,
    IVectorTraining,
    Ubm,
    accumulate_extractor,
    accumulate_ubm,
    check_data,
    frame_posteriors,
    initial_extractor,
    initial_ubm,
    ivectors,
    load_arrays,
    save_arrays,
    update_extractor,
    update_ubm,
    utterance_statistics,
)
from deepspeaker.kaldi import ArkWriter, DataDir, read_table, read_vector, write_table
from tests.ivector.made_up import Floats, draw, random_ubm

SPEAKERS, UTTERANCES, DIM = 8, 4, 3


@pytest.fixture
def training(tmp_path: Path) -> IVectorTraining:
    """A training on made-up features that stand in the place of MFCCs."""
    world = random_ubm(0, components=3, dim=DIM)
    generator = np.random.default_rng(1)
    for part, speakers in (("train", SPEAKERS), ("test", 2)):
        feats, frames, utt2spk = tmp_path / "data" / f"{part}_mfcc", {}, {}
        with ArkWriter(feats / "mfcc.1.ark", tmp_path / "scp") as writer:
            for number in range(speakers * UTTERANCES):
                utterance = f"{part}{number // UTTERANCES}-{number % UTTERANCES}"
                length = int(generator.integers(60, 120))
                shift = 0.5 * np.random.default_rng(number // UTTERANCES + 100 * len(part)).normal(size=DIM)
                writer.write(utterance, (draw(world, length, number) + shift).astype(np.float32))
                frames[utterance], utt2spk[utterance] = str(length), utterance.partition("-")[0]
        table = read_table(tmp_path / "scp")
        data = DataDir(utt2spk, feats_scp=table, utt2num_frames=frames)
        data.write(feats)
        data.write(tmp_path / "data" / f"{part}_nosil")
        write_table(tmp_path / "data" / part / "wav.scp", dict.fromkeys(utt2spk, "x.wav"))
    return IVectorTraining(
        tmp_path / "data",
        tmp_path / "exp" / "ivector",
        None,
        components=3,
        dim=4,
        full_covariance=False,
        ubm_iterations=2,
        iterations=3,
        variance_floor=1e-3,
        seed=5,
    )


def run(training: IVectorTraining, num_jobs: int, only: int | None = None) -> list[str]:
    """Run all steps, or the first ones only, as local/5_ivector.sh does; return their lines."""
    lines: list[str] = []
    jobs = range(1, num_jobs + 1)

    def update(model: str, iteration: int) -> None:
        lines.append(training.update(model, iteration, num_jobs))  # type: ignore[arg-type]

    steps = [lambda: update("ubm", 0)]
    for model, iterations in (("ubm", training.all_ubm_iterations), ("extractor", training.iterations)):
        for i in range(1, iterations + 1):
            steps.append(lambda m=model, i=i: [training.accumulate(m, i, job, num_jobs) for job in jobs])  # type: ignore[misc]
            steps.append(lambda m=model, i=i: update(m, i))  # type: ignore[misc]
        if model == "ubm":
            steps.append(lambda: [training.statistics(job, num_jobs) for job in jobs])  # type: ignore[arg-type, return-value]
    steps.append(lambda: [training.extract(job) for job in jobs])  # type: ignore[arg-type, return-value]
    steps.append(lambda: lines.extend(training.collect(num_jobs, {"ivector": {"dim": training.dim}})))
    for step in steps[:only]:
        step()
    return lines


def features(training: IVectorTraining, part: str = "train") -> dict[str, Floats]:
    return dict(training._frames(part, 1, 1))


def vectors(training: IVectorTraining, part: str = "test") -> Floats:
    return np.stack([read_vector(at) for at in read_table(training.embeddings_dir(part) / "xvector.scp").values()])


def test_the_steps_are_the_functions_of_the_library(training: IVectorTraining) -> None:
    lines = run(training, 1)
    train, test = list(features(training).values()), list(features(training, "test").values())
    ubm = initial_ubm(np.concatenate(train), 3, seed=5)
    likelihoods = []
    for _ in range(2):
        ubm, likelihood = update_ubm(accumulate_ubm(ubm, train))
        likelihoods.append(likelihood)
    extractor = initial_extractor(ubm, 4, seed=5)
    statistics = utterance_statistics(ubm, train)
    for _ in range(3):
        extractor, likelihood = update_extractor(extractor, accumulate_extractor(extractor, statistics))
        likelihoods.append(likelihood)
    expected = ivectors(extractor, utterance_statistics(ubm, test))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(vectors(training), expected, atol=1e-5)
    assert np.allclose(load_arrays(training.folder / "ubm.npz", Ubm).means, ubm.means)
    found = load_arrays(training.folder / "extractor.npz", Extractor)
    assert np.allclose(found.loadings, extractor.loadings, atol=1e-4)
    shown = [float(line.split()[-3]) for line in lines if "log-likelihood" in line]
    assert shown == pytest.approx(likelihoods, abs=2e-4)
    assert shown[2:] == sorted(shown[2:])
    size = 3 + 2 * 3 * DIM + 3 * DIM * 4  # weights, means and variances, T
    assert lines[-1].endswith(f"ivector: {size} parameters")
    assert not (training.folder / ".work").exists()


@pytest.mark.parametrize("full", [False, True])
def test_the_number_of_jobs_changes_results_by_rounding_only(training: IVectorTraining, full: bool) -> None:
    one = replace(training, full_covariance=full)
    other = replace(one, folder=training.folder.with_name("other"))
    run(one, 1)
    run(other, 9)  # more jobs than test utterances
    for part in ("train", "test"):
        assert np.allclose(vectors(one, part), vectors(other, part), atol=2e-4)
    ubms = [load_arrays(t.folder / "ubm.npz", Ubm) for t in (one, other)]
    assert ubms[0].is_full == full
    assert np.allclose(ubms[0].covariances, ubms[1].covariances, rtol=1e-4)
    assert [read_table(t.embeddings_dir("train") / "num_utts.ark") for t in (one, other)] == [
        {f"train{n}": "4" for n in range(SPEAKERS)}
    ] * 2


def test_a_training_continues_after_any_step(training: IVectorTraining) -> None:
    run(training, 2)
    whole = replace(training, folder=training.folder.with_name("whole"))
    for only in range(1, 14):
        run(whole, 2, only)
    assert not list(whole.folder.glob(".work/*_statistics.*"))  # summed and removed
    assert run(whole, 2)[-1].endswith("parameters")
    for name in ("ubm.npz", "extractor.npz", "embeddings_test/xvector.2.ark", "embeddings_train/xvector.1.ark"):
        assert (training.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert run(whole, 2) == [""] * 6  # nothing is left to do


def test_a_missing_shard_is_named(training: IVectorTraining) -> None:
    run(training, 2, 2)
    (training.folder / ".work" / "ubm_statistics.1.2.npz").unlink()
    with pytest.raises(InputError, match=r"ubm_statistics\.1\.2\.npz: shard 2 of 2 is missing; run stage 5 again"):
        training.update("ubm", 1, 2)


@pytest.mark.parametrize("speech_only", [True, False])
def test_the_posteriors_of_a_ubm_given_as_an_ark_serve_like_the_ubm(
    training: IVectorTraining, speech_only: bool, tmp_path: Path
) -> None:
    """The classes are the components of a UBM after its last update, so one more update follows."""
    run(training, 1)
    ubm = load_arrays(training.folder / "ubm.npz", Ubm)
    with ArkWriter(tmp_path / "posteriors.ark", tmp_path / "posteriors.scp") as writer:
        for part in ("test", "train"):
            speech = {}
            for utterance, frames in features(training, part).items():
                rows = frame_posteriors(ubm, frames).astype(np.float32)
                if not speech_only:  # the first frame is no speech
                    rows = np.concatenate([np.full((1, 3), 1 / 3, dtype=np.float32), rows])
                writer.write(utterance, rows)
                speech[utterance] = np.arange(len(frames) + 1, dtype=np.float32).clip(max=1)
            folder = training.data_dir / part
            with ArkWriter(folder / "vad.ark", folder / "vad.scp") as vad:
                for utterance, decisions in speech.items():
                    vad.write(utterance, decisions)
    given = replace(
        training, folder=tmp_path / "given" / "ivector", posteriors=tmp_path / "posteriors.scp", components=512
    )
    check_data(given)
    lines = run(given, 2)
    assert f"the 3 classes of {given.posteriors}" in lines[1]
    expected, _ = update_ubm(accumulate_ubm(ubm, features(training).values()))
    found = load_arrays(given.folder / "ubm.npz", Ubm)
    assert np.allclose(found.means, expected.means, atol=1e-4)
    assert np.allclose(found.covariances, expected.covariances, rtol=1e-3)
    assert vectors(given).shape == vectors(training).shape


def test_too_little_data_is_one_line_before_anything_is_computed(training: IVectorTraining, tmp_path: Path) -> None:
    check_data(training)
    frames = sum(map(int, read_table(training.data_dir / "train_nosil" / "utt2num_frames").values()))
    write_table(tmp_path / "posteriors.scp", {"x": "y"})
    for wrong, message in (
        (replace(training, components=1000), f"ivector.components 1000 needs 10000 frames of speech, .* has {frames}"),
        (replace(training, dim=32), "ivector.dim 32 needs more than 32 training utterances, .* has 32; use fewer"),
        (replace(training, posteriors=tmp_path / "posteriors.scp"), "posteriors.scp: has no posteriors of train0-0"),
        (replace(training, data_dir=tmp_path), "has no train_nosil or no test_nosil; run stage 2 first"),
    ):
        with pytest.raises(InputError, match=message):
            check_data(wrong)
    table = training.data_dir / "train_nosil" / "utt2spk"
    write_table(table, {utterance: utterance for utterance in read_table(table)})
    with pytest.raises(InputError, match="a speaker of two utterances"):
        check_data(training)
    (training.data_dir / "test" / "wav.scp").unlink()
    with pytest.raises(InputError, match=r"data/test/wav.scp: no such file, but MFCCs are computed from audio"):
        check_data(training)
    assert not training.folder.exists()


def test_an_empty_component_is_one_line(training: IVectorTraining) -> None:
    run(training, 1, 1)
    path = training.folder / ".work" / "ubm.0.npz"
    ubm = load_arrays(path, Ubm)
    far = Ubm(ubm.weights, ubm.means + np.array([[0.0], [0.0], [1e4]]), ubm.covariances)
    save_arrays(path, far)
    training.accumulate("ubm", 1, 1, 1)
    with pytest.raises(InputError, match=r"component 2 of 3 has 0 of \d+ frames, it is empty; use fewer components"):
        training.update("ubm", 1, 1)
