"""What becomes of a training that does not reach its end: signals, and failures that are not its own."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from deepspeaker.training.collapse import DivergedError
from deepspeaker.training.distributed import process_count


class Interrupted(Exception):  # noqa: N818 - not an error: all is saved
    """Training was asked to stop (SIGTERM, Ctrl-C) and has saved where it is."""


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C are noted in the list that this yields, instead of ending the process."""
    requests: list[int] = []

    def note(number: int, frame: object) -> None:
        requests.append(number)

    old = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield requests
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class WayBack:
    """From within a step to the end of the step before.

    Until the update only buffers change (statistics of batch norm, past embeddings). They are kept when there are
    several processes, since only waiting for another one is expected to fail there.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self._modules = modules
        self._kept: list[Tensor] | None = []

    def step_begins(self) -> None:
        """From here, before anything changes, to ``update_begins`` there is a way back."""
        several = process_count() > 1
        self._kept = [buffer.clone() for module in self._modules for buffer in module.buffers()] if several else None

    def update_begins(self) -> None:
        """From here to ``step_ends`` there is none."""
        self._kept = None

    def step_ends(self) -> None:
        """All is as it is to be after a step."""
        self._kept = []

    def taken(self) -> bool:
        """Goes back to the last whole step; False where there is no way."""
        if self._kept is None:
            return False
        if self._kept:
            buffers = [buffer for module in self._modules for buffer in module.buffers()]
            for buffer, kept in zip(buffers, self._kept, strict=True):
                buffer.copy_(kept)
        return True


@contextmanager
def saved_on_failure(way_back: WayBack, save: Callable[[], None]) -> Iterator[None]:
    """Saves the last whole step when the block fails: the reader, another process, anything but training itself."""
    try:
        yield
    except (DivergedError, Interrupted):
        raise
    except Exception:
        with contextlib.suppress(Exception):  # what comes out is why it failed
            if way_back.taken():
                save()
        raise
