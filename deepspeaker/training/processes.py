"""Start the processes of a training, connect them, and report how they end.

torch's elastic agent, the engine of torchrun, does the work.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, get_error_handler

from deepspeaker.errors import InputError

#: Seconds that a process waits for the others in a collective operation.
TIMEOUT = float(os.environ.get("DEEPSPEAKER_TIMEOUT", "300"))

#: Seconds that a process waits before it ends after losing another one, so that the agent sees the lost one first.
GRACE = min(5.0, TIMEOUT / 5)

#: Tells the processes that ``launch`` started them and prints their errors.
RUN_ID = "deepspeaker"

CONTINUE = "the same command continues from the last checkpoint"


class Interrupted(Exception):  # noqa: N818 - not an error
    """Training stopped because of SIGTERM or Ctrl-C, and has saved its state."""


@contextlib.contextmanager
def stop_signals() -> Iterator[list[signal.Signals]]:
    """Collect SIGTERM and Ctrl-C in the list that is yielded instead of ending the process; a second Ctrl-C ends it."""
    received: list[signal.Signals] = []

    def note(number: int, frame: object) -> None:
        if number == signal.SIGINT and signal.SIGINT in received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def local_device(device: torch.device) -> torch.device:
    """Return the GPU of this process if ``device`` is a GPU, else ``device``; each local rank has one GPU."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device.type == "cuda" else device


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that ``launch`` or torchrun started, by nccl on GPUs and gloo on CPUs.

    A single process does nothing. An error that ends this process is recorded for the agent, which reports the first
    one of all processes. Under ``launch`` an error that a user can fix becomes ``SystemExit``, so that only the agent
    prints it.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    try:
        with _connected(device):
            yield
    except Exception as error:
        get_error_handler().record_exception(error)
        agent_prints = os.environ.get("TORCHELASTIC_RUN_ID") == RUN_ID and "--debug" not in sys.argv[1:]
        if agent_prints and isinstance(error, InputError | Interrupted):
            if isinstance(error, Interrupted) and os.environ["RANK"] == "0":
                print(error, flush=True)  # an agent that forwards a signal does not read the record
            raise SystemExit(1) from error
        raise


@contextlib.contextmanager
def _connected(device: torch.device) -> Iterator[None]:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(seconds=TIMEOUT))
    except RuntimeError as error:
        raise InputError(f"cannot reach the other processes ({_one_line(error)})") from None
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in ("onnection", "imed out", "imeout", "peer", "gloo", "NCCL")):
            raise
        time.sleep(GRACE)
        raise InputError(f"lost another process ({_one_line(error)}); {CONTINUE}") from error
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def launch(arguments: Sequence[str], nproc: int, nnodes: int, rdzv_endpoint: str) -> None:
    """Run ``deepspeaker ARGUMENTS`` in several processes, as torchrun does.

    With several machines, run the same command on each.

    Parameters
    ----------
    arguments
        The command line after ``deepspeaker``.
    nproc
        Processes on each machine.
    nnodes
        Number of machines.
    rdzv_endpoint
        "host:port" of one of the machines. If empty, the environment variable PET_RDZV_ENDPOINT, as for torchrun.

    Raises
    ------
    InputError
        If a process fails, with its rank and the cause, or if the machines do not find each other.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    rdzv_endpoint = rdzv_endpoint or (os.environ.get("PET_RDZV_ENDPOINT", "") if nnodes > 1 else "")
    if nnodes > 1 and not rdzv_endpoint:
        raise InputError(f"--nnodes {nnodes} needs --rdzv-endpoint HOST:PORT too, one of the machines")
    # The processes of a machine share its cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // nproc)))
    logging.disable(logging.ERROR)  # the agent's reports; one line below replaces them
    settings = LaunchConfig(
        min_nodes=nnodes,
        max_nodes=nnodes,
        nproc_per_node=nproc,
        run_id=RUN_ID,
        rdzv_backend="c10d",
        rdzv_endpoint=rdzv_endpoint or "localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
    )
    try:
        elastic_launch(settings, sys.executable)("-m", "deepspeaker", *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise InputError(f"training stopped: rank {rank} of {nproc * nnodes}: {failure_cause(failure)}") from None
    except SignalException as error:
        raise InputError(f"training stopped by {error.sigval.name}; {CONTINUE}") from None
    except (RendezvousError, ValueError, RuntimeError) as error:
        where = f"no connection to the other machines at {rdzv_endpoint}"
        raise InputError(f"training stopped: {where} ({_one_line(error)}); {CONTINUE}") from None


def failure_cause(failure: ProcessFailure) -> str:
    """Return why a process failed, as the end of a line that begins with "rank 1 of 2: "."""
    if failure.exitcode < 0:
        return f"was killed by {failure.signal_name()}; {CONTINUE}"
    # record_exception wrote {"message": {"message": "InputError: what is wrong and how to fix it", ...}}.
    recorded = failure.error_file_data["message"]
    if not isinstance(recorded, dict):
        return f"ended with status {failure.exitcode}; {CONTINUE}"
    kind, _, text = recorded["message"].partition(": ")
    if kind in ("InputError", "CollapseError", "DivergedError"):
        return str(text)
    cause = text if kind == "Interrupted" else f"{kind}: {' '.join(text.split())[:160]} (its traceback is above)"
    return f"{cause}; {CONTINUE}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
