"""Starts a command as several processes by torchrun's agent, with errors in one line."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.training.watch import AGENT_FOLDER, AGENT_MISSES, GO_ON, GRACE, AgentWatch


def launch(arguments: Sequence[str], nproc: int, nnodes: int, rdzv_endpoint: str) -> None:
    """Runs ``deepspeaker ARGUMENTS`` in ``nproc`` processes on each of ``nnodes`` machines, as torchrun would.

    On several machines the same command runs on each, ``rdzv_endpoint`` ("host:port") naming one of them; where it is
    empty, the environment's PET_RDZV_ENDPOINT counts, as for torchrun. On one machine the processes share its
    processors.

    Raises ``InputError`` that names the first process that failed, on whichever machine.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    rdzv_endpoint = rdzv_endpoint or (os.environ.get("PET_RDZV_ENDPOINT", "") if nnodes > 1 else "")
    if nnodes > 1 and not rdzv_endpoint:
        raise InputError(f"--nnodes {nnodes}: --rdzv-endpoint HOST:PORT is wanted too, one of the machines")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // nproc)))
    logging.disable(logging.ERROR)  # the agent's own: what it has to tell is told below
    settings = LaunchConfig(
        min_nodes=nnodes,
        max_nodes=nnodes,
        nproc_per_node=nproc,
        run_id="deepspeaker",
        rdzv_backend="c10d",
        rdzv_endpoint=rdzv_endpoint or "localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
    )
    with tempfile.TemporaryDirectory(prefix="deepspeaker.") as folder:
        os.environ[AGENT_FOLDER] = folder
        watch = AgentWatch(Path(folder))
        try:
            elastic_launch(settings, sys.executable)("-m", "deepspeaker", *arguments)
        except ChildFailedError as error:
            if nnodes > 1:
                # The store of all processes may be this agent's: those of other machines look there who was lost.
                time.sleep(GRACE)
            failures = {rank: (failure.pid, failure.exitcode) for rank, failure in error.failures.items()}
            raise InputError(f"training stopped: {first_failure(failures, watch, nproc * nnodes)}") from None
        except (RendezvousError, ValueError, RuntimeError) as error:
            if watch.met():
                lost = f"another machine's agent was lost; {GO_ON}"
                raise InputError(f"training stopped: {watch.story() or lost}") from None
            reason = " ".join(str(error).split())[:160]
            raise InputError(f"--rdzv-endpoint {rdzv_endpoint}: the processes do not meet there ({reason})") from None
        except SignalException as error:
            raise InputError(f"training stopped by {error.sigval.name}; the same command goes on from there") from None
        finally:
            watch.stop()


def first_failure(failures: dict[int, tuple[int, int]], watch: AgentWatch, count: int) -> str:
    """Who failed first and how; ``failures`` has the process and the status of each rank of this machine."""
    for rank, (pid, _) in failures.items():
        if pid in watch.hung:
            return f"process {rank} of {count} gave no sign of life for {AGENT_MISSES} s and was ended; {GO_ON}"
    # The agent ends the others by SIGTERM. An abort is how C++ ends by an error, such as that another process was lost.
    failures = {rank: failure for rank, failure in failures.items() if failure[1] != -signal.SIGTERM} or failures
    for rank, (_, code) in failures.items():
        if code < 0 and (code not in (-signal.SIGABRT, -signal.SIGTERM) or not watch.story()):
            return f"process {rank} of {count} was killed by {signal.Signals(-code).name}; {GO_ON}"
    if watch.story():
        return watch.story()
    rank, (_, code) = next(iter(failures.items()))
    return f"process {rank} of {count} ended with status {code}; {GO_ON}"
