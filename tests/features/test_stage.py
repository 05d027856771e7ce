"""Stage 2 on several data directories at once, by the real commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deepspeaker.files import sha256_of
from tests.features.small import make_audio

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data(tmp_path: Path) -> list[Path]:
    """Three data directories."""
    return [make_audio(tmp_path / name, utterances).rename(tmp_path / f"{name}.data") for name, utterances in PARTS]


PARTS = (("train", 7), ("dev", 2), ("test", 3))


def stage(*data: Path, jobs: int = 1) -> list[str]:
    """Run stage 2 if it is needed and return what it prints, without the figures."""
    shared, folders = ["--config", ROOT / "conf" / "demo.yaml", "--num-jobs", jobs], list(data)
    launcher = [ROOT / "utils" / "run.py", "--pick", "failed", f"JOB=1:{jobs}", data[0] / "log" / "fbank.JOB.log"]
    words = [*launcher, "deepspeaker", "fbank", "--job", "JOB", *shared, *folders]
    words += ["--", "deepspeaker", "collect-fbank", *shared, *folders]
    program = [ROOT / "utils" / "deepspeaker", "stage", "--if-needed", "true", "--", *words]
    path = f"{ROOT / 'utils'}:/usr/bin:/bin"
    environment = {"PATH": path, "DEEPSPEAKER_PYTHON": sys.executable}
    done = subprocess.run(list(map(str, program)), capture_output=True, text=True, env=environment, timeout=120)
    said = done.stdout.replace(str(data[0].parent), "").splitlines() + done.stderr.splitlines()
    return [line.partition(" in ")[0] for line in said if line.startswith("stage 2")]


def test_one_array_of_jobs_works_on_all_directories_that_need_it(data: list[Path]) -> None:
    train, dev, test = data
    assert stage(dev, test) == [
        "stage 2 (/dev.data): starts",
        "stage 2 (/test.data): starts",
        "stage 2 (/dev.data): finished",
        "stage 2 (/test.data): finished",
    ]
    before = sha256_of(dev / "fbank.1.ark")
    (test / ".done.2").unlink()
    assert stage(dev, train, test, jobs=2) == [
        "stage 2 (/dev.data): finished already, skipped",
        "stage 2 (/train.data): starts",
        "stage 2 (/test.data): starts",
        "stage 2 (/train.data): finished",
        "stage 2 (/test.data): finished",
    ]
    assert sorted(path.name for path in (dev / "log").iterdir()) == ["fbank.1.log", "fbank.2.log"]
    assert f" {train} {test}\n" in (dev / "log" / "fbank.2.log").read_text()  # the earlier logs do not count
    assert sha256_of(dev / "fbank.1.ark") == before
    for folder, (_, utterances) in zip(data, PARTS, strict=True):
        assert len((folder / "feats.scp").read_text().splitlines()) == utterances


def test_a_directory_that_cannot_be_joined_does_not_harm_the_others(data: list[Path]) -> None:
    for audio in (data[1].parent / "dev" / "audio").iterdir():
        audio.write_bytes(b"broken")
    assert stage(*data)[3:] == ["stage 2 (/train.data): finished"]
    said = stage(*data)
    assert said[:3] == [
        "stage 2 (/train.data): finished already, skipped",
        "stage 2 (/dev.data): starts",
        "stage 2 (/test.data): starts: it did not finish",
    ]
