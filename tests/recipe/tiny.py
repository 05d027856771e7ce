"""A copy of the project in which tests run the real shell scripts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
EXP = "exp/demo_demo"  # where the demo's results go

#: A corpus, network and training so small that most of a run is the start of its programs.
TINY = {
    "demo.train_speakers": 6,
    "demo.dev_speakers": 2,
    "demo.test_speakers": 10,
    "demo.utterances": 11,
    "model.channels": "[4,8]",
    "softmax.epochs": 2,
    "softmax.steps_per_epoch": 3,
    "softmax.batch_size": 8,
    "softmax.precision": "float32",  # "auto" depends on the processor
    "triplet.precision": "float32",
    "triplet.epochs": 2,
    "triplet.steps_per_epoch": 3,
    "triplet.speakers_per_batch": 4,
    "triplet.utterances_per_speaker": 2,
    "scoring.bootstrap": 20,
}


@dataclass
class Recipe:
    """A recipe's folder, and the configuration keys that its runs override."""

    folder: Path
    settings: dict[str, object] = field(default_factory=lambda: dict(TINY))

    def command(self, *options: str, script: str = "./run.sh") -> list[str]:
        overrides = [word for key, value in self.settings.items() for word in ("--set", f"{key}={value}")]
        return [script, *overrides, *options]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "DEEPSPEAKER_PYTHON": sys.executable}

    def run(self, *options: str, script: str = "./run.sh", timeout: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options, script=script),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *options: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start run.sh without waiting for it."""
        return subprocess.Popen(
            self.command(*options),
            cwd=self.folder,
            env=self.environment(),
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def kill(self, begun: Path, *options: str) -> None:
        """Start run.sh, and kill it when this path exists, whose last part may be a pattern."""
        running = self.start(*options)
        deadline = time.monotonic() + 300
        while not any(begun.parent.glob(begun.name)) and time.monotonic() < deadline and running.poll() is None:
            time.sleep(0.01)
        running.kill()
        assert running.wait() == -signal.SIGKILL and any(begun.parent.glob(begun.name)), begun


def make_recipe(folder: Path) -> Recipe:
    """Create a recipe's folder: the project's programs are links, the recipe's scripts copies."""
    for name in ("deepspeaker", "local", "utils", "conf", "constraints.txt", "setup.cfg"):
        (folder / name).symlink_to(PROJECT / name)
    recipe = folder / "recipes" / "librispeech"
    recipe.mkdir(parents=True)
    for name in ("run.sh", "path.sh", "cmd.sh"):
        shutil.copy(PROJECT / "recipes" / "librispeech" / name, recipe / name)
    for name in ("local", "utils", "conf"):
        (recipe / name).symlink_to(Path("..") / ".." / name)
    return Recipe(recipe)


def copy_audio_tables(finished: Recipe, recipe: Recipe) -> Path:
    """Give a recipe the data directory data/mine: the demo's development part as it is before stage 2."""
    data = recipe.folder / "data/mine"
    data.mkdir(parents=True)
    for name in ("wav.scp", "utt2spk", "spk2utt"):
        shutil.copy(finished.folder / "data/demo/dev" / name, data / name)
    return data


def networks(exp: Path) -> dict[str, bytes]:
    """Return the checkpoints of an experiment."""
    return {str(path.relative_to(exp)): path.read_bytes() for path in sorted(exp.glob("*/checkpoint_*.pt"))}


def train_ivectors(data: Path, folder: Path, num_jobs: int, sizes: dict[str, int]) -> None:
    """Train and extract i-vectors on the MFCCs of the data, without the shell."""
    from deepspeaker.ivector import IVectorTraining

    training = IVectorTraining(data, folder, None, **sizes, full_covariance=False, variance_floor=1e-3, seed=0)
    jobs = range(1, num_jobs + 1)
    training.update("ubm", 0, num_jobs)
    for model, iterations in (("ubm", sizes["ubm_iterations"]), ("extractor", sizes["iterations"])):
        for iteration in range(1, iterations + 1):
            for job in jobs:
                training.accumulate(model, iteration, job, num_jobs)  # type: ignore[arg-type]
            training.update(model, iteration, num_jobs)  # type: ignore[arg-type]
        if model == "ubm":
            for job in jobs:
                training.statistics(job, num_jobs)
    for job in jobs:
        training.extract(job)
    list(training.collect(num_jobs, {}))
