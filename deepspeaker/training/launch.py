"""Starts a command as several processes by torchrun's agent, with errors in one line."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

from deepspeaker.errors import InputError


def launch(arguments: Sequence[str], nproc: int, nnodes: int, rdzv_endpoint: str) -> None:
    """Runs ``deepspeaker ARGUMENTS`` in ``nproc`` processes on each of ``nnodes`` machines, as torchrun would.

    On several machines the same command runs on each, ``rdzv_endpoint`` ("host:port") naming one of them; where it is
    empty, the environment's PET_RDZV_ENDPOINT counts, as for torchrun. On one machine the processes share its
    processors.

    Raises ``InputError`` that names the first process that failed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    rdzv_endpoint = rdzv_endpoint or (os.environ.get("PET_RDZV_ENDPOINT", "") if nnodes > 1 else "")
    if nnodes > 1 and not rdzv_endpoint:
        raise InputError(f"--nnodes {nnodes}: --rdzv-endpoint HOST:PORT is wanted too, one of the machines")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // nproc)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
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
    try:
        elastic_launch(settings, sys.executable)("-m", "deepspeaker", *arguments)
    except ChildFailedError as error:
        # Who was killed, before those who only noticed.
        rank, failure = min(error.failures.items(), key=lambda item: (item[1].exitcode > 0, item[1].timestamp))
        code = failure.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        raise InputError(
            f"training stopped: process {rank} of {nproc * nnodes} {how}; the same command goes on from the last "
            "checkpoint"
        ) from None
    except (RendezvousError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"--rdzv-endpoint {rdzv_endpoint}: the processes do not meet there ({reason})") from None
    except SignalException as error:
        raise InputError(f"training stopped by {error.sigval.name}; the same command goes on from there") from None
