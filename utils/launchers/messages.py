"""Errors and messages of the launchers."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from pathlib import Path

PROGRAM = Path(sys.argv[0]).name  # begins each message, as in Kaldi's launchers


class LauncherError(Exception):
    """A problem that the user can fix. ``status`` is the exit status; 2 means wrong usage."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``, also to a descriptor that another process made non-blocking."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # noqa: PERF203
            select.select([], [descriptor], [])


def print_line(line: str) -> None:
    """Print a line on stderr, unless stderr is gone (a closed terminal)."""
    with contextlib.suppress(OSError):
        write_all(2, os.fsencode(line + "\n"))


def print_message(message: str) -> None:
    """Print a message on stderr, after the name of the program."""
    print_line(f"{PROGRAM}: {message}")
