"""Commands start fast: they import no library that they do not use."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recipe.tiny import Recipe

#: Run a command in this process, then print what it has imported.
SCRIPT = """
import sys
from deepspeaker.cli import main
status = 0
try:
    main()
except SystemExit as end:
    status = end.code
print("modules:", *sys.modules)
sys.exit(status)
"""

DATA = ("--config", "conf/demo.yaml")
EXP = ("--data-dir", "data/demo", "--exp-dir", "exp/demo_demo")
HEAVY = ("torch", "lhotse", "sklearn", "scipy.stats", "matplotlib", "tensorboard", "jinja2")
TRAINING = ("torch.distributed.elastic", "tensorboard", "deepspeaker.training", "matplotlib", "sklearn")

#: Sub-command -> its arguments and the modules that it must not import.
COMMANDS = {
    "check-run": (("--from", ".", "--cmd", "utils/run.py"), (*HEAVY, "scipy", "polars", "kaldiio", "soundfile")),
    "stage": (
        ("--if-needed", "true", "--", "deepspeaker", "report", *EXP),
        (*HEAVY, "scipy", "numpy", "polars", "pydantic"),
    ),
    "look": (("--corpus", "librispeech", "data/demo/corpus"), (*HEAVY, "scipy")),
    "prepare": (
        (*DATA, "--corpus", "demo", "--corpus-dir", "data/demo/corpus", "--name", "demo", "data/again"),
        (*HEAVY, "scipy"),
    ),
    "fbank": ((*DATA, "--job", "1", "--num-jobs", "2", "data/demo/dev"), TRAINING),
    "collect-fbank": ((*DATA, "--num-jobs", "1", "data/demo/dev"), (*HEAVY, "scipy")),
    "embed-systems": ((*DATA, "--job", "1", "--num-jobs", "1", "--parts", "test", *EXP), (*TRAINING, "lhotse")),
    "collect-systems": (("--num-jobs", "1", "--parts", "test", *EXP), (*HEAVY, "scipy")),
    "score": ((*DATA, *EXP), HEAVY),
    "report": (EXP, ("torch", "lhotse", "tensorboard")),
    "summary": (("exp/demo_demo",), (*HEAVY, "scipy")),
}


@pytest.fixture(scope="module")
def folder(finished: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished recipe, which the commands change."""
    copy = tmp_path_factory.mktemp("imports") / "recipes" / "librispeech"
    shutil.copytree(finished.folder, copy, ignore=shutil.ignore_patterns("local", "utils", "conf"))
    for name in ("local", "utils", "conf"):
        (copy / name).symlink_to(finished.folder / name)
    return copy


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_imports_only_what_it_uses(command: str, folder: Path) -> None:
    arguments, forbidden = COMMANDS[command]
    if command == "collect-fbank":  # joins the shards of a job
        job = [sys.executable, "-m", "deepspeaker", "fbank", *DATA, "--job", "1", "--num-jobs", "1", "data/demo/dev"]
        subprocess.run(job, cwd=folder, check=True, capture_output=True)
    if command == "collect-systems":
        job = [sys.executable, "-m", "deepspeaker", "embed-systems", *COMMANDS["embed-systems"][0]]
        subprocess.run(job, cwd=folder, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, command, *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    modules = done.stdout.rpartition("modules:")[2].split()
    assert "click" in modules
    assert not set(forbidden) & set(modules)
