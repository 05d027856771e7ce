"""A real Slurm for the tests of this folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

START = Path(__file__).with_name("start_cluster.sh")
SKIPPED = 77  # status of start_cluster.sh where Slurm cannot run


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start two nodes of two processors on this machine, and yield the environment for Slurm's commands."""
    folder = tmp_path_factory.mktemp("slurm")
    command = [START, "--while", str(os.getpid()), folder]
    started = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if started.returncode == SKIPPED:
        pytest.skip(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    kept = {k: v for k, v in os.environ.items() if k != "DEEPSPEAKER_RUN_PID" and not k.startswith("SLURM")}
    yield kept | {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run([START, "--stop", folder], check=True, timeout=60)
