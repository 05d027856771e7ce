"""verify, enrol, identify, voices and embed, as a user calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from deepspeaker.kaldi import read_table, read_vector
from tests.recipe.tiny import EXP, Recipe


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deepspeaker", *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, timeout=120)


@pytest.fixture(scope="session")
def model(finished: Recipe) -> Path:
    return finished.folder / EXP / "model"


@pytest.fixture(scope="session")
def wavs(finished: Recipe) -> dict[str, str]:
    return read_table(finished.folder / "data/demo/test/wav.scp")


@pytest.fixture
def silence(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "si lence.wav", np.zeros(32000), 16000)
    return tmp_path / "si lence.wav"


def test_verify_answers_like_grep(model: Path, wavs: dict[str, str], silence: Path) -> None:
    one, *_, other = wavs.values()
    same = run("verify", model, one, one)
    assert same.returncode == 0, same.stderr
    assert same.stdout.splitlines()[0] == "same speaker"
    assert "of different speakers accepted" in same.stdout
    record = json.loads(run("verify", model, one, other, "--json").stdout)
    assert run("verify", model, one, other).returncode == (0 if record["same"] else 1)
    assert record["threshold"]["goal"] == 0.01
    nothing = run("verify", model, one, silence)
    assert nothing.returncode == 2
    assert nothing.stdout.splitlines()[0] == "cannot say"
    assert json.loads(run("verify", model, one, silence, "--json").stdout)["same"] is None


@pytest.mark.parametrize("problem", ["no file", "no audio", "no model"])
def test_errors_are_one_line_with_status_2(problem: str, model: Path, wavs: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("text")
    other = {"no file": tmp_path / "none.wav", "no audio": tmp_path / "text.wav"}.get(problem, "x")
    done = run("verify", tmp_path if problem == "no model" else model, next(iter(wavs.values())), other)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_enrol_identify_and_manage(model: Path, wavs: dict[str, str], silence: Path, tmp_path: Path) -> None:
    voices = tmp_path / "voices $(x).db"
    files = list(wavs.values())
    done = run("enrol", model, voices, "anna", *files[:2])
    assert done.returncode == 0, done.stderr
    assert "enrolled anna from 2 files" in done.stdout
    assert run("enrol", model, voices, "berta", files[-1]).returncode == 0
    assert "already" in run("enrol", model, voices, "berta", files[-1]).stderr
    assert run("enrol", model, voices, "nobody", silence).returncode == 1
    found = json.loads(run("identify", model, voices, files[-1], "--json").stdout)
    assert found["candidates"][0]["name"] == "berta"
    shown = run("identify", model, voices, files[-1])
    assert shown.returncode in (0, 1)
    assert shown.stdout.splitlines()[0] in ("berta", "unknown")
    assert run("identify", model, voices, silence).returncode == 2
    spoken = run("identify", model, voices, files[-1], "--segment", "1.5", "--name", "berta")
    assert spoken.stdout.startswith("berta: ")
    assert run("voices", "rename", model, voices, "berta", "clara").returncode == 0
    assert run("voices", "remove", model, voices, "anna").returncode == 0
    assert run("voices", "list", model, voices).stdout == "clara  1 file\n"


def test_embed_writes_arks_arrays_and_cuts(model: Path, wavs: dict[str, str], finished: Recipe, tmp_path: Path) -> None:
    test = finished.folder / "data/demo/test"
    done = run("embed", model, test, tmp_path / "emb", "--nj", "2")
    assert done.returncode == 0, done.stderr
    found = read_table(tmp_path / "emb/xvector.scp")
    expected = read_table(finished.folder / EXP / "triplet/embeddings_test/xvector.scp")
    assert found.keys() == expected.keys()
    name = sorted(found)[5]
    assert read_vector(found[name]) @ read_vector(expected[name]) > 0.9999
    two = list(wavs.values())[:2]
    assert run("embed", model, *two, tmp_path / "e.npz").returncode == 0
    arrays = np.load(tmp_path / "e.npz")
    assert [*arrays["ids"]] == [Path(one).stem for one in two]
    assert arrays["embeddings"].shape == (2, 512)
    cuts = finished.folder / "data/demo/manifests/test_cuts.jsonl.gz"
    assert run("embed", model, cuts, tmp_path / "with.jsonl.gz").returncode == 0
    from lhotse import CutSet

    for cut in CutSet.from_file(tmp_path / "with.jsonl.gz"):
        np.testing.assert_allclose(cut.load_xvector()[0], read_vector(found[cut.id]), atol=1e-5)
    assert "no such file" in run("embed", model, tmp_path / "none", tmp_path / "x").stderr


def test_commands_run_without_torch(model: Path, wavs: dict[str, str], tmp_path: Path) -> None:
    one, other = list(wavs.values())[:2]
    code = (
        "import sys; sys.modules.update(torch=None, lhotse=None, polars=None, sklearn=None, onnx=None)\n"
        "from deepspeaker.cli import main\nmain()"
    )
    for arguments in (
        ("verify", model, one, other),
        ("enrol", model, tmp_path / "v.db", "anna", one),
        ("identify", model, tmp_path / "v.db", one),
        ("embed", model, one, tmp_path / "e.npz"),
        ("embed", model, one, tmp_path / "e"),
    ):
        done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], text=True, capture_output=True)
        assert done.returncode in (0, 1), done.stderr
        assert done.stderr == ""


def test_evaluate_tests_a_model_on_other_recordings(model: Path, finished: Recipe, tmp_path: Path) -> None:
    test = finished.folder / "data/demo/test"
    done = run("evaluate", model, test, "--output", tmp_path / "e $(x)", "--nj", "2")
    assert done.returncode == 0, done.stderr
    expected = json.loads((finished.folder / EXP / "results.json").read_text())
    found = json.loads((tmp_path / "e $(x)/results.json").read_text())
    rates = [
        next(one for one in results["systems"] if (one["name"], one["trials"]) == ("triplet", "trials_all"))["eer"]
        for results in (found, expected)
    ]
    assert rates[0] == pytest.approx(rates[1], abs=0.01)
    assert (tmp_path / "e $(x)/report.html").is_file()
    thresholds = json.loads((tmp_path / "e $(x)/thresholds.json").read_text())["thresholds"]
    for one in thresholds:  # these speakers chose the thresholds
        assert one["here"]["p_fa"] == pytest.approx(one["stated"]["test"]["p_fa"], abs=0.005)
        assert one["inside"]


def test_evaluate_takes_folders_and_unlabelled_recordings(
    model: Path, wavs: dict[str, str], finished: Recipe, tmp_path: Path
) -> None:
    for utterance, path in list(wavs.items())[:33]:
        speaker = tmp_path / "people" / utterance.split("-")[0]
        speaker.mkdir(parents=True, exist_ok=True)
        (speaker / Path(path).name).symlink_to(path)
    done = run("evaluate", model, tmp_path / "people", "--output", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    assert "trials_all: 165 target" in done.stdout
    unlabelled = tmp_path / "unlabelled"
    unlabelled.mkdir()
    names = list(wavs)[:3]
    (unlabelled / "wav.scp").write_text("".join(f"{name} {wavs[name]}\n" for name in names))
    (tmp_path / "pairs").write_text(f"{names[0]} {names[1]}\n{names[0]} {names[2]}\n")
    assert "--trials" in run("evaluate", model, unlabelled, "--output", tmp_path / "u").stderr
    done = run("evaluate", model, unlabelled, "--output", tmp_path / "u", "--trials", tmp_path / "pairs")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "u/scores_pairs").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [[names[0], names[1]], [names[0], names[2]]]
