"""Slurm's commands: the options of sbatch, and what squeue, scontrol and scancel answer."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from pathlib import Path

from launchers.messages import LauncherError
from launchers.options import Options, parse_number

CANCEL_TIMEOUT = 60.0  # seconds that cancelled jobs may take to end
LAUNCHER_OPTIONS = ("-tc", "--config", "--max-jobs-run", "--pick", "--follow")  # never passed to sbatch
GRID_ENGINE_OPTIONS = ("-l", "-pe", "-sync")
SHIPPED = Path(__file__).resolve().parents[2] / "conf" / "slurm.conf"


def sbatch_command(options: Options) -> list[str]:
    """Return sbatch with the options that the configuration file and the command line ask for.

    Raises
    ------
    LauncherError
        The configuration file (--config) cannot be read, or a line of it is wrong.
    """
    passed = [pair for pair in options.pairs if pair[0] not in LAUNCHER_OPTIONS + GRID_ENGINE_OPTIONS]
    values = {name[2:].replace("-", "_"): value for name, value in passed if name.startswith("--")}
    short = [word for pair in passed if not pair[0].startswith("--") for word in pair]
    named = [value for option, value in options.pairs if option == "--config"]
    path = Path(named[-1] if named else "conf/slurm.conf")
    if not named and not path.is_file():
        path = SHIPPED
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LauncherError(f"--config {path}: cannot be read ({error}); give another file", 1) from error
    command: list[str] = []
    defaults: dict[str, str] = {}
    meaning: dict[tuple[str, str], str] = {}
    for number, line in enumerate(lines, 1):
        text = re.sub(r"\s*#.*", "", line).strip()
        if match := re.fullmatch(r"command\s+(\S.*)", text):
            command = _split(path, number, match[1])
        elif match := re.fullmatch(r"option\s+([^=\s]+)=(\S+)\s*(.*)", text):
            meaning[match[1], match[2]] = match[3]
        elif match := re.fullmatch(r"default\s+([^=\s]+)=(\S+)", text):
            defaults[match[1]] = match[2]
        elif text:
            known = "command ..., option name=value ..., default name=value"
            raise LauncherError(f"{path}:{number}: '{text}': write one of: {known}", 1)
    if not command:
        raise LauncherError(f"{path}: add a line that begins with command, such as: command sbatch", 1)
    words: list[str] = []
    for name, value in (defaults | values).items():
        text = meaning.get((name, value), meaning.get((name, "*"), ""))
        words += [word.replace("$0", value) for word in _split(path, 0, text)]
    return [*command, *words, *short]


def _split(path: Path, number: int, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise LauncherError(f"{path}:{number}: '{text}': {error}", 1) from error


def number_of_nodes(options: Options) -> int:
    """Return the value of --nodes, by default 1."""
    values = [parse_number(name, value, 1) for name, value in options.pairs if name == "--nodes"]
    return values[-1] if values else 1


def run_command(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm. If it cannot run or gives no answer, the return code is 1."""
    try:
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def in_queue(job_id: int) -> bool:
    """Return whether tasks of a job wait, run or are ending. True also if Slurm does not answer."""
    answer = run_command("squeue", "--noheader", "--jobs", str(job_id), "--format", "%T")
    return bool(answer.stdout.strip()) if answer.returncode == 0 else "nvalid job id" not in answer.stderr


def task_fields(job_id: int) -> dict[int, dict[str, str]]:
    """Return what scontrol shows of each task of a job array, by task number (0 if the job is no array)."""
    tasks = {}
    for line in run_command("scontrol", "--oneliner", "show", "job", str(job_id)).stdout.splitlines():
        fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if re.fullmatch("[0-9]+", task := fields.get("ArrayTaskId", "0")):
            tasks[int(task)] = fields
    return tasks


def cancel(job_ids: set[int]) -> None:
    """Cancel jobs and wait until they have left the queue."""
    for job_id in job_ids:
        run_command("scancel", str(job_id))
    deadline = time.monotonic() + CANCEL_TIMEOUT
    while any(map(in_queue, job_ids)) and time.monotonic() < deadline:
        time.sleep(0.5)
