"""Compare the start of commands with the import of torch.

    python -m benchmarks.startup [RECIPE]

RECIPE is the folder of a finished demo run (default: recipes/librispeech). On a copy of it, jobs run without speech,
and stages find that they have finished. Each round runs all commands, and the medians are printed. The ratio is that of
processor times, which other jobs on the machine disturb less.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
CONFIG = "--config conf/demo.yaml"
EXP = "--data-dir data/demo --exp-dir exp/demo_demo"
SHARD = "--job 9999 --num-jobs 9999"
STAGE = "stage --if-needed true -- deepspeaker"
COMMANDS = {
    "check-run": "check-run --from . --cmd true",
    "stage 1": f"{STAGE} prepare {CONFIG} --corpus demo --corpus-dir data/demo/corpus --name demo data/demo",
    "stage 6": f"{STAGE} score {CONFIG} {EXP}",
    "stage 7": f"{STAGE} report {EXP}",
    "fbank": f"fbank {CONFIG} {SHARD} data/demo/test",
    "parts-to-embed": f"parts-to-embed {CONFIG}",
    "embed-systems": f"embed-systems {CONFIG} {SHARD} {EXP}",
    "summary": "summary exp/demo_demo",
}


def seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command; return its wall time and its processor time."""
    before, begin = os.times(), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    wall, after = time.perf_counter() - begin, os.times()
    return wall, after[2] - before[2] + after[3] - before[3]


def main() -> None:
    """Measure all commands in alternating rounds."""
    recipe = Path(sys.argv[1] if len(sys.argv) > 1 else "recipes/librispeech").resolve()
    commands = {"import torch": [sys.executable, "-c", "import torch"]}
    for name, words in COMMANDS.items():
        commands[name] = [sys.executable, "-m", "deepspeaker", *words.split()]
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        for name in ("conf", "data/demo", "exp/demo_demo"):
            shutil.copytree(recipe / name, copy / name)
        rounds = [{name: seconds(words, copy) for name, words in commands.items()} for _ in range(ROUNDS)]
    torch_seconds = statistics.median(measured["import torch"][1] for measured in rounds)
    for name in commands:
        wall, processor = (statistics.median(measured[name][part] for measured in rounds) for part in (0, 1))
        print(f"{name:16s} {wall:5.2f} s wall, {processor:5.2f} s processor, {processor / torch_seconds:5.2f} x torch")


if __name__ == "__main__":
    main()
