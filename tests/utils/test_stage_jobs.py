"""The number of jobs that the stage scripts start (``jobs_for`` in utils/stage.sh)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

STAGE = Path(__file__).resolve().parents[2] / "utils" / "stage.sh"
#: Defines the function as in a stage script, on a machine with 8 processors.
SCRIPT = f"""
set -euo pipefail
nproc() {{ echo 8; }}
eval "$(sed -n '/^jobs_for()/,/^}}/p' '{STAGE}')"
nj=$1
jobs=$(jobs_for "${{@:2}}")
echo "$jobs"
"""


@pytest.mark.parametrize(("nj", "minutes", "jobs"), [("", 0, 1), ("", 19, 1), ("", 41, 2), ("", 999, 8), ("9", 19, 9)])
def test_a_job_has_enough_speech(nj: str, minutes: int, jobs: int, tmp_path: Path) -> None:
    for part in "ab":  # half of the speech each
        (tmp_path / part).write_text("".join(f"{part}-{n} {minutes * 60 / 20:.2f}\n" for n in range(10)))
    arguments = [nj, "20", str(tmp_path / "a"), str(tmp_path / "b")]
    assert subprocess.check_output(["bash", "-c", SCRIPT, "bash", *arguments], text=True) == f"{jobs}\n"


def test_speech_of_unknown_length_uses_all_processors(tmp_path: Path) -> None:
    arguments = ["", "20", str(tmp_path / "nothing")]
    assert subprocess.check_output(["bash", "-c", SCRIPT, "bash", *arguments], text=True) == "8\n"
