"""verify, enrol, identify, voices and embed, as a user calls them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile

import deepspeaker
from deepspeaker.files import sha256_of
from deepspeaker.kaldi import read_table, read_vector
from deepspeaker.stages import Lock
from tests.recipe.tiny import EXP, PROJECT, Recipe


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


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("no file", "none.wav"),
        ("no audio", "text.wav"),
        ("no model", "no such model"),
        ("another folder", "not an exported model"),
        ("newer version", "install a newer one"),
        ("truncated", "checksum"),
        ("altered", "checksum"),
        ("pickle", "not the weights of this model"),
    ],
)
def test_errors_are_one_line_with_status_2(
    problem: str, told: str, model: Path, wavs: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "text.wav").write_text("text")
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    weights, description = copy / "network.safetensors", json.loads((copy / "model.json").read_text())
    content = weights.read_bytes()
    if problem == "truncated":
        weights.write_bytes(content[:-1])
    elif problem == "altered":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif problem == "pickle":
        weights.write_bytes(pickle.dumps({"weights": [1.0]}))
        description["files"][weights.name] = sha256_of(weights)
    elif problem == "newer version":
        description["format"] += 1
    (copy / "model.json").write_text(json.dumps(description))
    first = {"no model": tmp_path / "none", "another folder": PROJECT}.get(problem, copy)
    second = {"no file": tmp_path / "none.wav", "no audio": tmp_path / "text.wav"}.get(problem, "x.wav")
    done = run("verify", first, next(iter(wavs.values())), second, "--engine", "torch")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert told in done.stderr


def test_a_locked_file_of_voices_is_one_line(model: Path, wavs: dict[str, str], tmp_path: Path) -> None:
    voices = tmp_path / "v.db"
    assert run("enrol", model, voices, "anna", next(iter(wavs.values()))).returncode == 0
    other = sqlite3.connect(voices)
    other.execute("BEGIN EXCLUSIVE")
    done = run("voices", "list", model, voices)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("v.db: cannot be used as a file of voices (another program is writing it; try again)\n")
    assert done.stderr.count("\n") == 1


def test_what_cannot_be_evaluated_is_one_line_and_leaves_nothing(
    model: Path, wavs: dict[str, str], tmp_path: Path
) -> None:
    one, other, *_ = wavs
    alone = tmp_path / "people/anna"
    alone.mkdir(parents=True)
    (alone / "1.wav").symlink_to(wavs[one])
    unlabelled = tmp_path / "unlabelled"
    unlabelled.mkdir()
    (unlabelled / "wav.scp").write_text(f"{one} {wavs[one]}\n{other} {wavs[other]}\n")
    lists = {"latin1": f"{one} gr\xf6\xdfe\n".encode("latin-1"), "one": one.encode(), "empty": b"", "foreign": b"x y\n"}
    for name, content in lists.items():
        (tmp_path / name).write_bytes(content)
    output = tmp_path / "e"
    for words, told in (
        ((alone.parent,), "a single folder with audio"),
        ((unlabelled,), "--trials"),
        ((unlabelled, "--trials", tmp_path / "latin1"), r"latin1:1: gr\xf6\xdfe is no recording of the folder"),
        ((unlabelled, "--trials", tmp_path / "one"), "one:1: needs two recordings"),
        ((unlabelled, "--trials", tmp_path / "empty"), "empty: is empty"),
        ((unlabelled, "--trials", tmp_path / "foreign"), "foreign:1: x is no recording of the folder"),
    ):
        done = run("evaluate", model, *words, "--output", output)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert told in done.stderr
        assert not output.exists()


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
    (tmp_path / "text.wav").write_text("text")
    done = run("embed", model, *two, tmp_path / "text.wav", tmp_path / "j.npz", "--max-skipped", 50, "--json")
    record = json.loads(done.stdout)
    assert record["embeddings"] == 2
    assert list(record["skipped"]) == ["text"]
    assert record["output"] == str(tmp_path / "j.npz")


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
    assert (found["corpus"], found["synthetic"]) == ("test", True)  # as corpus.json of stage 1 says
    assert (tmp_path / "e $(x)/report.html").is_file()
    thresholds = json.loads((tmp_path / "e $(x)/thresholds.json").read_text())["thresholds"]
    for one in thresholds:  # these speakers chose the thresholds
        assert one["here"]["p_fa"] == pytest.approx(one["stated"]["test"]["p_fa"], abs=0.005)
        assert one["inside"]
    with closing(Lock(tmp_path / "e $(x)")) as lock:
        lock.take(True, "")
        refused = run("evaluate", model, test, "--output", tmp_path / "e $(x)")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert f"another run (process {os.getpid()}) is writing {tmp_path}/e $(x); wait for it" in refused.stderr


def test_evaluate_takes_folders_and_unlabelled_recordings(
    model: Path, wavs: dict[str, str], finished: Recipe, tmp_path: Path
) -> None:
    for utterance, path in list(wavs.items())[:33]:
        speaker = tmp_path / "people" / utterance.split("-")[0]
        speaker.mkdir(parents=True, exist_ok=True)
        (speaker / Path(path).name).symlink_to(path)
    softmax = Path(shutil.copytree(model, tmp_path / "softmax"))
    description = json.loads((softmax / "model.json").read_text())
    description["networks"][0]["system"] = "softmax"
    description["calibration"] = {"weights": [12.0, 0.5, 0.25], "offset": -3.0, "speakers": 2, "utterances": 22}
    (softmax / "model.json").write_text(json.dumps(description))
    done = run("evaluate", model, tmp_path / "people", "--output", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    assert "trials_all: 165 target" in done.stdout
    done = run("evaluate", softmax, tmp_path / "people", "--output", tmp_path / "e", "--json")
    record = json.loads(done.stdout)
    assert {one["name"] for one in record["results"]["systems"]} == {"softmax"}
    assert {one["backend"] for one in record["results"]["systems"]} == {"cosine", "model"}
    loaded, paths = deepspeaker.load(softmax), read_table(tmp_path / "e/data/test/wav.scp")
    for line in (tmp_path / "e/softmax/scores_trials_all_model").read_text().splitlines()[::100]:
        *sides, score = line.split()
        one, other = (paths[name] for name in sides)
        assert loaded.verify(one, other).llr == pytest.approx(float(score), abs=1e-3)
    assert record["results"]["synthetic"] is False  # nothing says what these recordings are
    (tmp_path / "training/softmax").mkdir(parents=True)
    (tmp_path / "training/softmax/checkpoint_last.pt").touch()
    done = run("evaluate", model, tmp_path / "people", "--output", tmp_path / "training")
    assert "give another --output" in done.stderr
    assert record["thresholds"] == json.loads((tmp_path / "e/thresholds.json").read_text())["thresholds"]
    unlabelled = tmp_path / "unlabelled"
    unlabelled.mkdir()
    names = list(wavs)[:3]
    (unlabelled / "wav.scp").write_text("".join(f"{name} {wavs[name]}\n" for name in names))
    (tmp_path / "pairs").write_text(f"{names[0]} {names[1]}\n{names[0]} {names[2]}\n")
    done = run("evaluate", model, unlabelled, "--output", tmp_path / "u", "--trials", tmp_path / "pairs")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "u/scores_pairs").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [[names[0], names[1]], [names[0], names[2]]]
