from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deepspeaker.kaldi import write_table
from deepspeaker.trials import write_trials_1p99, write_trials_all
from tests.evaluation.made_up import NOISE, SPEAKERS, UTTERANCES, write_system


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data`` and ``exp`` with everything that scoring reads; only copies of it are written to."""
    root = tmp_path_factory.mktemp("experiment")
    utt2spk = {f"r{s:02d}-{u:02d}": f"r{s:02d}" for s in range(SPEAKERS) for u in range(UTTERANCES)}
    test = root / "data" / "test"
    write_table(test / "utt2spk", utt2spk)
    write_trials_all(test / "trials_all", utt2spk, 0)
    write_trials_1p99(test / "trials_1p99", utt2spk, 0)
    (root / "data" / "corpus.json").write_text('{"corpus": "made-up", "synthetic": true}', encoding="utf-8")
    for name in NOISE:
        write_system(root / "exp", name, utt2spk)
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path
