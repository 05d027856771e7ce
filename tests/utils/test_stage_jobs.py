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


@pytest.mark.parametrize(
    ("nj", "unit", "seconds", "jobs"),
    [
        ("", 1, 0, 1),
        ("", 1, 599, 1),
        ("", 1, 1300, 2),
        ("", 0.01, 1300, 2),
        ("", 1, 100_000, 8),
        ("32", 1, 599, 32),
    ],
)
def test_a_job_has_ten_minutes_of_speech(nj: str, unit: float, seconds: int, jobs: int, tmp_path: Path) -> None:
    for part in "ab":  # half of the speech each
        lines = [f"{part}-{n} {seconds / unit / 20:.2f}\n" for n in range(10)]
        (tmp_path / part).write_text("".join(lines))
    arguments = [nj, str(unit), str(tmp_path / "a"), str(tmp_path / "b")]
    assert subprocess.check_output(["bash", "-c", SCRIPT, "bash", *arguments], text=True) == f"{jobs}\n"


def test_speech_of_unknown_length_uses_all_processors(tmp_path: Path) -> None:
    arguments = ["", "1", str(tmp_path / "nothing")]
    assert subprocess.check_output(["bash", "-c", SCRIPT, "bash", *arguments], text=True) == "8\n"
