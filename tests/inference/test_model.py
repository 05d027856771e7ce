"""Exported models of the tiny demo: embeddings, decisions, bad input."""

from __future__ import annotations

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import deepspeaker
from benchmarks import nonspeech
from deepspeaker.audio import read_audio
from deepspeaker.errors import InputError
from deepspeaker.files import sha256_of
from deepspeaker.inference import Cohort, SpeakerModel, StoredCalibration, Voice
from deepspeaker.kaldi import read_table, read_vector
from tests.recipe.tiny import EXP, Recipe

Samples = NDArray[np.floating]
CORPORA = Path(__file__).resolve().parents[2].parent / "shared" / "corpora"


@pytest.fixture(scope="session")
def files(finished: Recipe) -> list[str]:
    """Two utterances of a test speaker, then one of each of two others."""
    wavs = read_table(finished.folder / "data/demo/test/wav.scp")
    speakers: dict[str, list[str]] = {}
    for utterance, path in wavs.items():
        speakers.setdefault(utterance.split("-")[0], []).append(path)
    first, second, third, *_ = speakers.values()
    return [first[0], first[1], second[0], third[0]]


@pytest.fixture(scope="session")
def exported(finished: Recipe) -> Path:
    return finished.folder / EXP / "model"


@pytest.fixture
def changed(exported: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "a model $(x)"))


def edit(folder: Path, **values: Any) -> None:
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content | values))


def calibrated(folder: Path) -> SpeakerModel:
    """A model whose log-likelihood ratio is 10 times the cosine, minus 5, without effect of the durations."""
    edit(folder, calibration={"weights": [10, 0, 0], "offset": -5, "speakers": 9, "utterances": 99})
    content = json.loads((folder / "model.json").read_text())
    for threshold in content["thresholds"]:
        threshold["value"] = 0.0
    edit(folder, thresholds=content["thresholds"])
    return deepspeaker.load(folder)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_embeddings_equal_those_of_stage_5(engine: str, exported: Path, finished: Recipe) -> None:
    model = deepspeaker.load(exported, engine)
    wavs = read_table(finished.folder / "data/demo/test/wav.scp")
    xvectors = read_table(finished.folder / EXP / "triplet/embeddings_test/xvector.scp")
    for utterance in list(xvectors)[::9]:
        embedding = model.embed(wavs[utterance])
        assert embedding @ read_vector(xvectors[utterance]) > 0.9999
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)


def test_the_same_features_give_the_bytes_of_stage_5(exported: Path, finished: Recipe) -> None:
    import torch

    from deepspeaker.embedding import embed_features
    from deepspeaker.features import FeatureIndex

    engine: Any = deepspeaker.load(exported, "torch").engine
    index = FeatureIndex(finished.folder / "data/demo/test_nosil")
    xvectors = read_table(finished.folder / EXP / "triplet/embeddings_test/xvector.scp")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for number in range(0, len(index), 13):
        found = embed_features(engine._network, index.read(number))
        assert found.tobytes() == read_vector(xvectors[index.utterance_id(number)]).tobytes()
    torch.set_num_threads(before)


def test_lists_samples_rates_and_threads_give_the_same_embedding(exported: Path, files: list[str]) -> None:
    model = deepspeaker.load(exported)
    one_by_one = np.stack([model.embed(file) for file in files])
    np.testing.assert_array_equal(model.embed(files), one_by_one)
    np.testing.assert_array_equal(model.embed(read_audio(files[0]), 16000), one_by_one[0])
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(np.stack(list(pool.map(model.embed, files * 5))), np.tile(one_by_one, (5, 1)))
    halved = read_audio(files[0], 8000)
    assert model.analyse(halved, 8000).problems[0].code == "low_rate"
    with pytest.raises(InputError, match="sampling_rate"):
        model.embed(halved)
    with pytest.raises(InputError, match="one dimension"):
        model.embed(np.zeros((2, 3)), 16000)
    with pytest.raises(InputError, match="not finite"):
        model.embed(np.full(16000, np.nan), 16000)


def test_decisions_follow_score_threshold_and_prior(changed: Path, files: list[str]) -> None:
    model = calibrated(changed)
    verdict = model.verify(files[0], files[2], prior=0.1)
    cosine = float(model.embed(files[0]) @ model.embed(files[2]))
    assert verdict.cosine == pytest.approx(cosine, abs=1e-6)
    assert verdict.llr == pytest.approx(10 * cosine - 5, abs=1e-5)
    assert verdict.same == (10 * cosine >= 5)
    odds = np.exp(10 * cosine - 5) * 0.1 / 0.9
    assert verdict.probability == pytest.approx(odds / (1 + odds), abs=1e-5)
    same = model.verify(files[0], files[0])
    assert same.same is True
    assert same.llr == pytest.approx(5, abs=1e-4)
    with pytest.raises(InputError, match="prior"):
        model.verify(files[0], files[1], prior=1.0)


def test_several_enrolment_files_count_as_their_mean(changed: Path, files: list[str]) -> None:
    model = calibrated(changed)
    mean = model.embed(files[:2]).mean(axis=0)
    expected = float(mean @ model.embed(files[2])) / np.linalg.norm(mean)
    assert model.verify(files[:2], files[2]).cosine == pytest.approx(expected, abs=1e-6)
    voice = model.voice([model.analyse(file) for file in files[:2]])
    assert voice.files == 2
    assert model.verify(voice, files[2]).cosine == pytest.approx(expected, abs=1e-6)


def test_a_cohort_normalises_the_cosine(changed: Path, files: list[str]) -> None:
    members, top = np.random.default_rng(5).normal(size=(12, 512)), 4
    members /= np.linalg.norm(members, axis=1, keepdims=True)
    path = changed / "cohort.safetensors"
    path.write_bytes(Cohort(members.astype(np.float32), top).to_bytes())
    hashes = json.loads((changed / "model.json").read_text())["files"] | {path.name: sha256_of(path)}
    edit(changed, files=hashes, cohort={"speakers": 12, "top": top})
    model = calibrated(changed)
    one, other = (model.embed(file).astype(np.float64) for file in (files[0], files[2]))
    cosine, normalised = one @ other, 0.0
    for side in (one, other):  # s-norm by its definition
        nearest = sorted(members @ side)[-top:]
        normalised += (cosine - np.mean(nearest)) / np.std(nearest, ddof=1) / 2
    verdict = model.verify(files[0], files[2])
    assert verdict.cosine == pytest.approx(cosine, abs=1e-6)
    assert verdict.llr == pytest.approx(10 * normalised - 5, rel=1e-4)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match="checksum"):
        deepspeaker.load(changed)
    path.write_bytes(pickle.dumps(Malice()))
    edit(changed, files=hashes | {path.name: sha256_of(path)})
    with pytest.raises(InputError, match="not the cohort"):
        deepspeaker.load(changed)
    path.write_bytes(content)
    edit(changed, files=hashes, cohort={"speakers": 13, "top": top})
    with pytest.raises(InputError, match="has shape"):
        deepspeaker.load(changed)


def test_without_calibration_the_cosine_decides(exported: Path, files: list[str]) -> None:
    verdict = deepspeaker.load(exported).verify(files[0], files[1])
    assert verdict.llr is None
    assert verdict.probability is None
    assert verdict.cosine is not None
    assert verdict.same == (verdict.cosine >= verdict.threshold.value)


def test_identification_ranks_and_knows_the_unknown(changed: Path, files: list[str]) -> None:
    model = calibrated(changed)
    voices = {name: model.voice([model.analyse(file)]) for name, file in zip("abc", files[1:], strict=True)}
    found = model.identify(files[2], voices, prior=0.5)
    assert found.name == "b"
    assert [one.cosine for one in found.candidates] == sorted((one.cosine for one in found.candidates), reverse=True)
    odds = [np.exp(one.llr or 0) / 3 * 0.5 for one in found.candidates]
    expected = [one / (sum(odds) + 0.5) for one in odds]
    assert [one.probability for one in found.candidates] == pytest.approx(expected, abs=1e-6)
    opposite = {"b": Voice(-voices["b"].embedding, 300)}
    assert model.identify(files[2], opposite).name is None
    with pytest.raises(InputError, match="enrol one first"):
        model.identify(files[2], {})


def test_windows_tell_when_a_voice_speaks(changed: Path, files: list[str]) -> None:
    model = calibrated(changed)
    one, other = read_audio(files[0]), read_audio(files[2])
    silence = np.zeros(32000, dtype=np.float32)
    sound = np.concatenate([one, silence, other])
    windows = model.windows(sound, {"one": model.voice([model.analyse(files[0])])}, 1.5, sampling_rate=16000)
    assert windows[0].start == 0
    assert windows[0].scores
    pause = len(one) / 16000
    assert any(not window.scores for window in windows if window.start >= pause - 0.75 and window.end <= pause + 2.75)
    with pytest.raises(InputError, match="too short"):
        model.windows(sound, {}, 0.5, sampling_rate=16000)


def silences(generator: np.random.Generator, count: int) -> Samples:
    """Digital silence, dither of one bit, or an offset."""
    kind = generator.integers(3)
    return [np.zeros(count), generator.integers(-1, 2, count) / 32768, np.full(count, 0.1)][kind]


def white_noise(generator: np.random.Generator, count: int) -> Samples:
    """White noise from -80 dB to 0 dB."""
    return np.clip(10 ** generator.uniform(-4, 0) * generator.normal(size=count), -1, 1)


def music(generator: np.random.Generator, count: int) -> Samples:
    kinds = (nonspeech.chords, nonspeech.melody, nonspeech.drums, nonspeech.band_music, nonspeech.plucked)
    sound = kinds[generator.integers(len(kinds))](generator, count)
    return 10 ** generator.uniform(-1.5, 0) * sound / (np.abs(sound).max() + 1e-9)


def test_no_silence_noise_music_or_bit_of_speech_ever_matches(
    changed: Path, files: list[str], tmp_path: Path
) -> None:
    """200 files against an enrolled voice, some against another of them, by a model that accepts almost all."""
    model, generator = calibrated(changed), np.random.default_rng(7)
    speech = np.concatenate([read_audio(file) for file in files])

    def bit_of_speech(generator: np.random.Generator, count: int) -> Samples:
        """0.3 s of speech, alone or with silence around it."""
        start = generator.integers(len(speech) - 4800)
        return np.pad(speech[start : start + 4800], generator.choice([0, count // 2]))

    paths = []
    for make in (silences, white_noise, music, bit_of_speech):
        for number in range(50):
            sound = make(generator, int(generator.uniform(0.1, 2.5) * 16000))
            paths.append(tmp_path / f"{make.__name__}{number}.wav")
            soundfile.write(paths[-1], sound, 16000)
    assert len(paths) == 200
    enrolled = model.voice([model.analyse(file) for file in files[:2]])
    assert all(model.verify(enrolled, file).same for file in files)
    pairs = [(enrolled, one) for one in paths] + list(zip(paths[::10], generator.permutation(paths), strict=False))
    for one, other in pairs:
        verdict = model.verify(one, other)
        assert verdict.same is None, (one, other)
        assert (verdict.cosine, verdict.llr, verdict.probability) == (None, None, None)
        assert verdict.reason.startswith(str(other if one is enrolled else one))
    with pytest.raises(InputError, match="cannot be enrolled"):
        model.voice([model.analyse(paths[60])])


def demo_speech(folder: Path) -> dict[str, list[str]]:
    """Return the test files of each synthetic voice."""
    speakers: dict[str, list[str]] = {}
    for utterance, path in read_table(folder / "data/demo/test/wav.scp").items():
        speakers.setdefault(utterance.split("-")[0], []).append(path)
    return speakers


def real_speech() -> dict[str, list[str]]:
    """Return the test files of each reader of LibriSpeech."""
    if not CORPORA.is_dir():
        pytest.skip("no real speech in ../shared/corpora")
    speakers: dict[str, list[str]] = {}
    for path in sorted((CORPORA / "libri/test/audio").iterdir()):
        speakers.setdefault(path.name.split("-")[0], []).append(str(path))
    return speakers


@pytest.mark.parametrize("kind", ["demo", "real"])
def test_two_voices_in_a_file_are_noticed_before_one_is_split(kind: str, exported: Path, finished: Recipe) -> None:
    """The network is hardly trained, so this compares files at many strictnesses."""
    model, speakers = deepspeaker.load(exported), demo_speech(finished.folder) if kind == "demo" else real_speech()
    # Of the first voices, take the two that sound least alike to this network.
    voices = {name: model.embed(files[:3]).mean(axis=0) for name, files in list(speakers.items())[:8]}
    one, other = min(combinations(voices, 2), key=lambda pair: float(voices[pair[0]] @ voices[pair[1]]))
    seconds = 10 * 16000
    first, second = (np.concatenate([read_audio(file) for file in speakers[name][:4]]) for name in (one, other))
    alone, mixed = first[:seconds], np.concatenate([first[: seconds // 2], second[: seconds // 2]])
    noticed = []
    for threshold in np.linspace(0.9, 1.0, 21):
        calibration = StoredCalibration(weights=(1000, 0, 0), offset=-1000 * threshold, speakers=9, utterances=99)
        model.description = model.description.model_copy(update={"calibration": calibration})
        found = [[problem.code for problem in model.analyse(samples, 16000).problems] for samples in (alone, mixed)]
        noticed.append(["several_voices" in codes for codes in found])
    assert any(in_mixed and not in_alone for in_alone, in_mixed in noticed)
    assert all(in_mixed or not in_alone for in_alone, in_mixed in noticed)


def test_an_experiment_stands_for_its_model(exported: Path) -> None:
    assert deepspeaker.load(exported.parent).fingerprint == deepspeaker.load(exported).fingerprint


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_damaged_models_are_refused_in_one_line(engine: str, changed: Path) -> None:
    weights = changed / ("network.safetensors" if engine == "torch" else "model.onnx")
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="checksum"):
        deepspeaker.load(changed, engine)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="checksum"):
        deepspeaker.load(changed, engine)
    weights.unlink()
    with pytest.raises(InputError, match=f"has no {weights.name}, which the engine {engine} needs"):
        deepspeaker.load(changed, engine)


class Malice:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


def test_a_pickle_is_not_read(changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = changed / "network.safetensors"
    weights.write_bytes(pickle.dumps(Malice()))
    files = json.loads((changed / "model.json").read_text())["files"]
    edit(changed, files=files | {"network.safetensors": sha256_of(weights)})
    with pytest.raises(InputError, match="not the weights"):
        deepspeaker.load(changed, "torch")
    assert "executed" not in capsys.readouterr().out


def test_other_folders_versions_and_engines_are_refused(changed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model"):
        deepspeaker.load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not an exported model"):
        deepspeaker.load(tmp_path / "empty")
    with pytest.raises(InputError, match="engine tpu"):
        deepspeaker.load(changed, "tpu")
    with pytest.raises(InputError, match=r"has no model_int8\.onnx"):
        deepspeaker.load(changed, "int8")
    edit(changed, format=99)
    with pytest.raises(InputError, match="newer one"):
        deepspeaker.load(changed)
    edit(changed, format=1, thresholds="none")
    with pytest.raises(InputError, match="key thresholds"):
        deepspeaker.load(changed)
    (changed / "model.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        deepspeaker.load(changed)
