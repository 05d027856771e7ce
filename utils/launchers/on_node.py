"""One job of a Slurm job array, on its node: run as run.py runs it, with requeueing and several nodes."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import time

from launchers.jobs import Job, make_job
from launchers.local import Launcher
from launchers.messages import print_message, write_all
from launchers.options import Options
from launchers.sbatch import number_of_nodes, run_command


class NodeLauncher(Launcher):
    """Runs the job of one task of the array."""

    grace = 86400.0  # Slurm decides how long a job may take to end (KillWait)
    kill_at_second_signal = False

    def __init__(self, options: Options) -> None:
        job = make_job(options, options.first)
        self.nodes = number_of_nodes(options)
        if self.nodes > 1:
            os.environ["PET_RDZV_ENDPOINT"] = f"{socket.gethostname()}:{free_port()}"
            step = ["srun", "--kill-on-bad-exit=1", f"--nodes={self.nodes}", f"--ntasks={self.nodes}"]
            step += [f"--cpus-per-task={options.threads}", "bash", "-c"]
            job.command = f"{shlex.join(step)} {shlex.quote(job.command)}"
        self.append = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
        super().__init__(options, [job], [], [None])
        self.stop.listen(signal.SIGUSR1)

    def finish(self, job: Job, sent: int = 0) -> None:
        """Write the end of the job's log; code 0 after a request to stop counts as ended by SIGTERM."""
        if not sent and job.process and job.process.returncode == 0:
            time.sleep(0.1)  # Slurm signals all processes of a job, but this one perhaps a little later
        super().finish(job, sent or (signal.SIGTERM if self.stop.signals else 0))

    def interrupt(self, reason: str) -> int:
        """End the job after a request to stop; after SIGUSR1 (the time limit is near), requeue it."""
        if self.stop.signals[:1] != [signal.SIGUSR1]:
            return super().interrupt(reason)
        ids = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        task = "_".join(filter(None, ids)) or os.environ["SLURM_JOB_ID"]
        for job in self.running:
            write_all(job.descriptor, b"# Stopping before the time limit; Slurm will requeue the job\n")
        if self.nodes > 1:  # srun would have its tasks killed at SIGTERM, so send it to the tasks themselves
            run_command("scancel", "--signal=TERM", os.environ["SLURM_JOB_ID"])
            while any(not job.poll() for job in self.running):
                self._wait(0.1)
        self._end_jobs()
        answer = run_command("scontrol", "requeue", task)
        if answer.returncode != 0:
            print_message(f"cannot requeue job {task}: {answer.stderr.strip()}")
        return self.stop.status


def free_port() -> int:
    """Return a TCP port that is free on this node."""
    with socket.create_server(("", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def run_on_node(options: Options) -> int:
    """Run the only job of a command line on this node and return the exit status."""
    return NodeLauncher(options).launch()
