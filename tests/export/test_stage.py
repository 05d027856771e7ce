"""Stage 8: what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import deepspeaker
from deepspeaker.errors import InputError
from deepspeaker.export import Embedded, calibrate, export_model, scored_pairs, thresholds
from deepspeaker.kaldi import read_table
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
    description = export_model(
        data, experiment, tmp_path / "both", fuse=other, licence="mit", sources=["us"], int8=True, say=lambda line: None
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
    assert "license: mit" in card
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
