"""Stage 8: what it writes, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import deepspeaker
from deepspeaker.backends import Calibration, cosine_scores, duration_measures, train_calibration
from deepspeaker.errors import InputError
from deepspeaker.export import (
    Embedded,
    Scorer,
    calibrate,
    export_model,
    rates_by_seconds,
    scored_pairs,
    thresholds,
)
from deepspeaker.inference import Cohort
from deepspeaker.kaldi import read_table
from deepspeaker.models import load_checkpoint, network_of
from deepspeaker.results import Results
from tests.recipe.tiny import EXP, Recipe


def made_up(speakers: int, each: int, seed: int) -> Embedded:
    generator = np.random.default_rng(seed)
    speaker = np.repeat(np.arange(speakers), each)
    vectors = generator.normal(size=(speakers, 16))[speaker] + 0.8 * generator.normal(size=(len(speaker), 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embedded(vectors.astype(np.float32), generator.integers(100, 900, len(speaker)), speaker)


def test_thresholds_hold_their_goal_and_state_the_rates_of_new_speakers() -> None:
    development, test = made_up(40, 6, 0), made_up(60, 6, 1)
    scorer = calibrate(development, made_up(40, 6, 0))
    assert scorer.calibration is not None
    found = thresholds(scorer, development, test)
    assert [threshold.goal for threshold in found] == [0.05, 0.02, 0.01, 0.005, 0.002, 0.001]
    for threshold in found:
        for part, rates in ((development, threshold.development), (test, threshold.test)):
            assert rates is not None
            first, second = np.triu_indices(len(part.speaker), 1)
            cosine = (part.vectors[first] * part.vectors[second]).sum(axis=1)
            frames = np.sort(np.log(part.frames[[first, second]]), axis=0)
            scores = scorer.calibration(np.column_stack([cosine, *frames]))
            accepted, same = scores >= threshold.value, part.speaker[first] == part.speaker[second]
            assert rates.p_fa == pytest.approx(accepted[~same].mean(), abs=1e-4)
            assert rates.p_miss == pytest.approx((~accepted[same]).mean(), abs=4e-3)  # the trial at the threshold
        assert threshold.development is not None
        assert threshold.development.p_fa <= threshold.goal
        assert threshold.test is not None
        assert threshold.development.p_fa_ci95 is not None
        low, high = threshold.development.p_fa_ci95
        assert low <= threshold.test.p_fa <= high


def test_normalised_scores_hold_their_rates_too() -> None:
    generator = np.random.default_rng(2)
    members = generator.normal(size=(30, 16))
    cohort = Cohort((members / np.linalg.norm(members, axis=1, keepdims=True)).astype(np.float32), top=10)
    development, test = made_up(40, 6, 0), made_up(60, 6, 1)
    scorer = calibrate(development, made_up(40, 6, 0), cohort)
    assert scorer.calibration is not None
    first, second = np.array([0, 7]), np.array([3, 100])
    vectors, expected = test.vectors.astype(np.float64), []
    for one, other in zip(first, second, strict=True):  # s-norm by its definition
        cosine, sides = vectors[one] @ vectors[other], []
        for side in (one, other):
            nearest = sorted(cohort.embeddings @ vectors[side])[-10:]
            sides.append((cosine - np.mean(nearest)) / np.std(nearest, ddof=1))
        durations = sorted(np.log([test.frames[one], test.frames[other]]))
        expected.append(scorer.calibration.weights @ [np.mean(sides), *durations] + scorer.calibration.offset)
    assert scorer(test, first, second) == pytest.approx(np.array(expected), rel=1e-4)
    for threshold in thresholds(scorer, development, test):
        assert threshold.development is not None
        assert threshold.development.p_fa <= threshold.goal
        assert threshold.test is not None
        assert threshold.development.p_fa_ci95 is not None
        low, high = threshold.development.p_fa_ci95
        assert low <= threshold.test.p_fa <= high


def test_rates_by_seconds_are_those_of_crops_of_that_length(finished: Recipe) -> None:
    experiment, data = finished.folder / EXP, finished.folder / "data/demo"
    network = network_of(load_checkpoint(experiment / "triplet/checkpoint_last.pt"))
    by_duration = Scorer(Calibration(np.array([0.0, 1.0, 0.0]), 0.0))  # the score is the log of the frames
    found = rates_by_seconds(network, data / "test_nosil", by_duration, np.log(150), 0.01)
    assert [one.seconds for one in found[:2]] == [1.0, 2.0]
    assert [(one.p_miss, one.p_fa) for one in found[:2]] == [(1.0, 0.0), (0.0, 1.0)]


def test_a_cohort_is_exported_with_the_calibration(
    finished: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, data, said = finished.folder / EXP, finished.folder / "data/demo", list[str]()
    without = export_model(data, experiment, tmp_path / "without", cohort=4, say=said.append)
    assert without.cohort is None
    assert "no calibration and no cohort" in said[0]
    monkeypatch.setattr("deepspeaker.export.stage.CALIBRATION_SPEAKERS", 2)
    description = export_model(data, experiment, tmp_path / "with", cohort=4, say=said.append)
    assert description.cohort is not None
    assert description.cohort.speakers == 4
    wavs = list(read_table(data / "test/wav.scp").values())
    verdicts = [deepspeaker.load(tmp_path / "with", engine).verify(wavs[0], wavs[20]) for engine in ("onnx", "torch")]
    assert verdicts[0].llr == pytest.approx(verdicts[1].llr, abs=0.01)
    card = (tmp_path / "with/README.md").read_text()
    assert "normalised by 4 training speakers" in card
    rates = description.threshold(0.01).by_seconds
    assert [one.seconds for one in rates[:2]] == [1.0, 2.0]
    assert verdicts[0].speech_seconds is not None
    told = verdicts[0].threshold.rates_for(verdicts[0].speech_seconds)
    assert told is not None
    assert told.seconds <= verdicts[0].speech_seconds
    assert all(f"| {one.seconds:g} | 10 | {100 * one.p_fa:.2f}" in card for one in rates)


def test_run_sh_passes_licence_and_sources_to_the_card(copied: Recipe) -> None:
    words = ("--licence", "cc-by-4.0", "--source", "voices of $(eSpeak), CC0", "--source=a=b")
    done = copied.run("--stage", "8", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    card = (copied.folder / EXP / "model/README.md").read_text()
    for line in ("license: cc-by-4.0", "- **Source**: voices of $(eSpeak), CC0", "- **Source**: a=b"):
        assert line in card.splitlines()


def test_pairs_of_two_corpora_do_not_count() -> None:
    whole, crops = (replace(made_up(20, 3, 0), corpus=np.repeat(["read", "phone"], [24, 36])) for _ in range(2))
    scorer = calibrate(whole, crops)
    pairs = scored_pairs(whole, scorer)
    assert len(pairs.scores) == math.comb(24, 2) + math.comb(36, 2)
    assert int(pairs.is_target.sum()) == 20 * math.comb(3, 2)
    assert not ((pairs.first < 24) & (pairs.second >= 24)).any()
    # Learn again from pairs that a plain loop lists: those of one corpus, but no utterance with its own crop.
    in_phone, speaker = (np.arange(120) % 60 >= 24), np.tile(whole.speaker, 2)
    listed = [(a, b) for a in range(120) for b in range(a + 1, 120) if in_phone[a] == in_phone[b] and b - a != 60]
    first, second = np.array(listed).T
    vectors, frames = np.tile(whole.vectors, (2, 1)), np.concatenate([whole.frames, crops.frames])
    measures = [cosine_scores(vectors, first, second), duration_measures(frames, first, second)]
    expected = train_calibration(np.column_stack(measures), speaker[first] == speaker[second], 0.05)
    assert scorer.calibration is not None
    np.testing.assert_allclose(scorer.calibration.weights, expected.weights, rtol=1e-6)
    assert scorer.calibration.offset == pytest.approx(expected.offset, rel=1e-6)


def test_a_crop_is_not_compared_with_its_own_utterance() -> None:
    whole = made_up(20, 2, 0)
    copies = Embedded(whole.vectors, whole.frames, whole.speaker)
    leaked = Embedded(
        np.concatenate([whole.vectors, copies.vectors]),
        np.concatenate([whole.frames, copies.frames]),
        np.concatenate([whole.speaker, copies.speaker]),
    )
    scores = scored_pairs(leaked, calibrate(whole, copies))
    is_copy = scores.second - scores.first == len(whole.speaker)
    assert scores.scores[is_copy].min() > scores.scores[~is_copy].max() - 1e-4
    assert np.isfinite(scores.scores).all()


def test_the_folder_is_complete_and_its_card_true(finished: Recipe) -> None:
    folder = finished.folder / EXP / "model"
    names = {"README.md", "model.json", "model.onnx", "network.onnx", "network.safetensors"}
    assert {path.name for path in folder.iterdir()} == names
    description = json.loads((folder / "model.json").read_text())
    results = Results.read(finished.folder / EXP / "results.json")
    main = next(one for one in results.systems if (one.name, one.trials) == ("triplet", "trials_all"))
    assert description["results"]["eer"] == main.eer
    assert description["calibration"] is None  # two development speakers
    assert description["synthetic"] is True
    _, header, text = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "deepspeaker"
    assert f"{100 * main.eer:.2f}" in text
    assert "**synthetic** speech" in text
    assert "must not be used" in text


def test_two_networks_become_one_with_the_mean_of_their_cosines(finished: Recipe, tmp_path: Path) -> None:
    experiment, data = finished.folder / EXP, finished.folder / "data/demo"
    wavs = list(read_table(data / "test/wav.scp").values())
    export_model(data, experiment, tmp_path / "softmax", system="softmax", say=lambda line: None)
    other = Path(shutil.copytree(experiment, tmp_path / "other"))
    shutil.rmtree(other / "triplet")
    shutil.copytree(other / "softmax", other / "triplet")
    told = {"licence": "mit", "sources": ["us"], "voices": "ours and yours", "command": "run.sh --seed 3"}
    description = export_model(
        data, experiment, tmp_path / "both", fuse=other, int8=True, say=lambda line: None, **told
    )
    assert description.embedding_dim == 1024
    assert {"eer", "eer_int8"} <= description.results.keys()
    models = [deepspeaker.load(folder) for folder in (experiment, tmp_path / "softmax", tmp_path / "both")]
    cosines = [float(model.embed(wavs[0]) @ model.embed(wavs[20])) for model in models]
    assert cosines[2] == pytest.approx(np.mean(cosines[:2]), abs=1e-5)
    torch_model = deepspeaker.load(tmp_path / "both", "torch")
    assert torch_model.embed(wavs[0]) @ models[2].embed(wavs[0]) == pytest.approx(1, abs=1e-5)
    assert deepspeaker.load(tmp_path / "both", "int8").embed(wavs[0]) @ models[2].embed(wavs[0]) > 0.9
    card = (tmp_path / "both/README.md").read_text()
    for line in (
        "license: mit",
        "- **Source**: us",
        "Whose voices: ours and yours",
        "- **Command**: `run.sh --seed 3`",
    ):
        assert line in card.splitlines()
    assert (description.voices, description.command) == ("ours and yours", "run.sh --seed 3")
    assert "eight-bit" in card


def test_networks_of_other_features_cannot_be_fused(finished: Recipe, tmp_path: Path) -> None:
    experiment, data = finished.folder / EXP, finished.folder / "data/demo"
    other = Path(shutil.copytree(experiment, tmp_path / "other"))
    record = other / "triplet/network.json"
    network = json.loads(record.read_text())
    network["config"]["features"]["low_freq"] = 50.0
    record.write_text(json.dumps(network))
    with pytest.raises(InputError, match=r"features\.low_freq"):
        export_model(data, experiment, tmp_path / "both", fuse=other, say=lambda line: None)
    assert not (tmp_path / "both").exists()
