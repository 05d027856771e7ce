"""Commands start fast: they import no library that they do not use."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Callable
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
FBANK = ("fbank", *DATA, "--job", "1", "--num-jobs", "1", "data/demo/dev")
EMBED = ("embed-systems", *DATA, "--job", "1", "--num-jobs", "1", "--parts", "test", *EXP)
PREPARE = ("prepare", *DATA, "--corpus", "demo", "--corpus-dir", "data/demo/corpus", "--name", "demo")

HEAVY = ("torch", "lhotse", "sklearn", "scipy.stats", "matplotlib", "tensorboard", "jinja2")
TABLES = (*HEAVY, "scipy", "polars")
TRAINING = ("torch.distributed.elastic", "tensorboard", "deepspeaker.training", "matplotlib", "sklearn", "scipy")

#: Each command with the modules that it must not import.
COMMANDS = [
    (("check-run", "--from", ".", "--cmd", "utils/run.py"), (*TABLES, "numpy", "kaldiio", "soundfile")),
    (("stage", "--if-needed", "true", "--", "deepspeaker", "report", *EXP), (*TABLES, "numpy", "pydantic")),
    (("stage", "--if-needed", "true", "--", "deepspeaker", "score", *DATA, *EXP), (*TABLES, "numpy")),
    (("stage", "--if-needed", "true", "--", "deepspeaker", *PREPARE, "data/demo"), TABLES),
    (("look", "--corpus", "librispeech", "data/demo/corpus"), TABLES),
    ((*PREPARE, "data/again"), TABLES),
    (FBANK, TRAINING),
    (("collect-fbank", *DATA, "--num-jobs", "1", "data/demo/dev"), TABLES),
    (("parts-to-embed", *DATA), (*HEAVY, "scipy.linalg", "polars")),
    (EMBED, (*TRAINING, "lhotse")),
    (("collect-systems", "--num-jobs", "1", "--parts", "test", *EXP), TABLES),
    (("ivector", "check", *DATA, "--set", "ivector.dim=5", "data/demo"), (*HEAVY, "polars")),
    (("score", *DATA, *EXP), HEAVY),
    (("report", *EXP), ("torch", "lhotse", "tensorboard")),
    (("summary", "exp/demo_demo"), TABLES),
]


@pytest.fixture(scope="module")
def folder(finished: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished recipe, which the commands change."""
    copy = tmp_path_factory.mktemp("imports") / "recipes" / "librispeech"
    shutil.copytree(finished.folder, copy, ignore=shutil.ignore_patterns("local", "utils", "conf"))
    for name in ("local", "utils", "conf"):
        (copy / name).symlink_to(finished.folder / name)
    return copy


@pytest.fixture(scope="module")
def modules_of(folder: Path) -> Callable[[tuple[str, ...]], set[str]]:
    """A function that runs a command once and returns the modules that it imports."""

    @functools.cache
    def run(command: tuple[str, ...]) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *command], cwd=folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return set(done.stdout.rpartition("modules:")[2].split())

    return run


@pytest.mark.parametrize(("command", "forbidden"), COMMANDS, ids=[command[0] for command, _ in COMMANDS])
def test_a_command_imports_only_what_it_uses(
    command: tuple[str, ...], forbidden: tuple[str, ...], modules_of: Callable[[tuple[str, ...]], set[str]]
) -> None:
    shards = {"collect-fbank": FBANK, "collect-systems": EMBED}.get(command[0])
    if shards:
        modules_of(shards)
    assert "click" in modules_of(command)
    assert sorted(modules_of(command) & set(forbidden)) == []
