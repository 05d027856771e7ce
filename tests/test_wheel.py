"""The wheel: what it contains, and that it is enough to use a model where there is nothing else, not even torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.kaldi import read_table, read_vector
from tests.recipe.tiny import EXP, PROJECT, Recipe


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the project, in which a build leaves its files."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PROJECT / "deepspeaker", folder / "deepspeaker", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "--wheel-dir", "dist", "."], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "dist").iterdir()
    return path


def test_the_wheel_contains_the_whole_package_and_nothing_else(wheel: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "deepspeaker"], cwd=PROJECT, capture_output=True, text=True)
    wanted = {name for name in listed.stdout.split() if (PROJECT / name).is_file()}
    assert {"deepspeaker/report/page.html.jinja", "deepspeaker/py.typed"} <= wanted
    wanted |= {f"deepspeaker/pretrained/{path.name}" for path in (PROJECT / "deepspeaker/pretrained").iterdir()}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}
        entry_points = archive.read(metadata["entry_points.txt"]).decode()
    assert wanted <= names
    assert all(name.startswith("deepspeaker/") for name in names)
    assert "deepspeaker = deepspeaker.cli:main" in entry_points
    assert any(name.endswith("LICENSE") for name in metadata)


@pytest.mark.slow  # installs from the package index
def test_a_model_works_in_an_environment_with_only_the_wheel(wheel: Path, finished: Recipe, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "-c", PROJECT / "constraints.txt", wheel], check=True)
    model = Path(shutil.copytree(finished.folder / EXP / "model", tmp_path / "the model"))
    wavs = read_table(finished.folder / "data/demo/test/wav.scp")
    (tmp_path / "wav.scp").write_text("".join(f"{name} {path}\n" for name, path in wavs.items()))
    one, other, *_, last = wavs.values()
    environment = {"PATH": os.environ["PATH"]}  # no PYTHONPATH to the project

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = list(map(str, arguments))
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    def deepspeaker(*arguments: object) -> subprocess.CompletedProcess[str]:
        return run(*alone, tmp_path / "env/bin/deepspeaker", *arguments)

    alone = ["unshare", "--map-root-user", "--net"]  # no network, where the system allows it
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []
    assert run(python, "-c", "import torch").returncode == 1
    verified = deepspeaker("verify", one, one)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.startswith("same speaker\n")
    assert "probability of the same speaker" in verified.stdout
    assert "Their voices: " in verified.stdout
    verified = deepspeaker("verify", model, one, one)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.startswith("same speaker\n")
    enrolled = deepspeaker("enrol", model, "voices.db", "anna", one, other)
    assert (enrolled.returncode, enrolled.stderr) == (0, "")
    identified = deepspeaker("identify", model, "voices.db", one, "--json")
    assert identified.returncode == 0
    assert json.loads(identified.stdout)["candidates"][0]["name"] == "anna"
    assert deepspeaker("identify", model, "voices.db", last, "--segment", 1.5).stdout.startswith("anna: ")
    assert deepspeaker("voices", "list", model, "voices.db").stdout == "anna  2 files\n"
    for output in ("folder", "arrays.npz"):
        embedded = deepspeaker("embed", model, "wav.scp", output, "--nj", 2)
        assert (embedded.stdout, embedded.stderr) == (f"{output}: {len(wavs)} embeddings\n", "")
    assert len(read_table(tmp_path / "folder/xvector.scp")) == len(wavs)

    recordings = tmp_path / "recordings"
    recordings.mkdir()
    shutil.copy(tmp_path / "wav.scp", recordings)
    first, second, *_ = wavs
    (tmp_path / "pairs").write_text(f"{first} {second}\n")
    scored = deepspeaker("evaluate", model, recordings, "--trials", "pairs")
    assert (scored.returncode, scored.stderr) == (0, "")
    assert (tmp_path / "evaluation_recordings/scores_pairs").read_text().startswith(f"{first} {second} ")

    script = f"""
import deepspeaker
model = deepspeaker.load({str(model)!r})
embedding = model.embed({one!r})
embedding.tofile("embedding")
verdict = model.verify({one!r}, {other!r})
voice = model.voice([model.analyse({one!r}), model.analyse({other!r})])
print(verdict.cosine, model.verify(voice, {other!r}).same)
"""
    lines = run(python, "-c", script)
    assert lines.returncode == 0, lines.stderr
    own = read_table(finished.folder / EXP / "triplet/embeddings_test/xvector.scp")
    embedding, second_one = np.fromfile(tmp_path / "embedding", dtype=np.float32), read_vector(own[second])
    assert embedding @ read_vector(own[first]) > 0.9999
    assert float(lines.stdout.split()[0]) == pytest.approx(float(embedding @ second_one), abs=1e-3)

    (recordings / "utt2spk").write_text("".join(f"{name} {name.split('-')[0]}\n" for name in wavs))
    evaluated = deepspeaker("evaluate", model, recordings, "--output", "labelled")
    assert evaluated.returncode == 1
    assert evaluated.stderr.count("\n") == 1
    assert "pip install" in evaluated.stderr
