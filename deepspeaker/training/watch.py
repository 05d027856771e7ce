"""Who was lost: the processes of a training give signs of life, and the first that is missed ends them all.

Each process has a thread that writes a sign of life a second, for the other processes into the store where
torch.distributed's processes meet, for the agent that started it (``launch``) into a file. A process that was killed
writes no more, nor does one that hangs as a whole (stopped, or its machine is gone); one that computes for long does.
Who misses another one first puts its name into the store, so that all processes tell the same story.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write

#: How long a process waits for the others in a step, in seconds; the times below are parts of it.
TIMEOUT = float(os.environ.get("DEEPSPEAKER_TIMEOUT", "50"))

#: Seconds between two signs of life. What is missed is counted in signs of one's own, not in seconds: when all were
#: suspended together (a job scheduler does that), nobody is missed.
BEAT = 1.0

#: So many signs of life missed: the agent ends its process; the other processes stop; they do so after an error.
AGENT_MISSES, MISSES, MISSES_AFTER_ERROR = max(3, round(0.3 * TIMEOUT)), max(4, round(0.4 * TIMEOUT)), 4

#: A process that knows of the loss and still waits for the others is ended after so many seconds.
GRACE = 0.2 * TIMEOUT

#: Where the agent that started a process looks for its files.
AGENT_FOLDER = "DEEPSPEAKER_AGENT"

GO_ON = "the same command goes on from the last checkpoint"


class Watch:
    """The thread of one process; torch.distributed must be initialised."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.host = os.environ["MASTER_ADDR"]
        self._prefix = f"deepspeaker/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        self._agent = Path(os.environ[AGENT_FOLDER]) if AGENT_FOLDER in os.environ else None
        self._ending, self._alarmed = "", False
        self._story = ""  # who was lost or failed first, once it is known
        self._known, self._stop = threading.Event(), threading.Event()
        # A connection of its own: the process group's own may be waiting for something.
        self._store = dist.TCPStore(  # type: ignore[attr-defined]
            self.host, int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=TIMEOUT)
        )
        self._store.set(f"{self._prefix}/host/{self.rank}", socket.gethostname())
        self._sign(0)
        self._hosts = [self._store.get(f"{self._prefix}/host/{rank}").decode() for rank in range(self.count)]
        self._store.wait([self._key(rank) for rank in range(self.count)])
        self._store.set_timeout(timedelta(seconds=GRACE))
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _key(self, rank: int) -> str:
        return f"{self._prefix}/sign/{rank}"

    def _sign(self, number: int) -> None:
        self._for_agent(f"sign.{self.rank}", f"{os.getpid()} {self.rank} {number}")
        self._store.set(self._key(self.rank), self._ending or str(number))

    def _for_agent(self, name: str, text: str) -> None:
        if self._agent:
            with contextlib.suppress(OSError):  # its disk is full: worth no training
                atomic_write(self._agent / name, text)

    def _run(self) -> None:
        seen, missed = [b""] * self.count, [0] * self.count
        number = 0
        while not self._stop.wait(BEAT) and not self._known.is_set():
            number += 1
            try:
                self._sign(number)
                signs = self._store.multi_get([self._key(rank) for rank in range(self.count)])
                if self._store.check([f"{self._prefix}/story"]):
                    self.claim("")
            except RuntimeError:
                self._tell(f"process 0 of {self.count} or its machine ({self.host}) was lost; {GO_ON}")
                break
            for rank, sign in enumerate(signs):
                missed[rank] = missed[rank] + 1 if sign == seen[rank] and not sign.startswith(b"ended") else 0
            seen = list(signs)
            most = MISSES_AFTER_ERROR if self._alarmed else MISSES
            lost = [rank for rank in range(self.count) if missed[rank] >= most]
            failed = [rank for rank in range(self.count) if self._alarmed and signs[rank].startswith(b"ended by")]
            if lost:
                names = ", ".join(f"{rank} (on {self._hosts[rank]})" for rank in lost[:8])
                gone = "processes" if len(lost) > 1 else "process"
                self.claim(f"{gone} {names} of {self.count} gave no more sign of life; {GO_ON}")
            elif failed:
                self.claim(f"process {failed[0]} of {self.count} {signs[failed[0]].decode()}; its own lines say why")
        # Known: who still waits for the lost one would wait until torch.distributed's own timeout, or for ever.
        for beat in range(max(1, round(GRACE / BEAT))):
            if self._stop.wait(BEAT):
                return
            self._for_agent(f"sign.{self.rank}", f"{os.getpid()} {self.rank} known {beat}")
        if not self._agent:
            print(f"deepspeaker: {self._story}", file=sys.stderr, flush=True)
        os._exit(1)

    def claim(self, story: str) -> str:
        """Tells the others why training stops; returns what it stops by, which another may have told before."""
        with contextlib.suppress(RuntimeError):  # the store is gone
            told = self._store.compare_set(f"{self._prefix}/story", "", story)
            story = told.decode() or story
        return self._tell(story)

    def _tell(self, story: str) -> str:
        if story and not self._known.is_set():
            self._story = story
            self._for_agent("story", story)
            self._known.set()
        return self._story

    def story_after_error(self) -> str:
        """Why a message to the others failed; waits until it is known, at most for some seconds."""
        self._alarmed = True
        if not self._known.wait((MISSES_AFTER_ERROR + 4) * BEAT):
            self.claim(f"process {self.rank} of {self.count}: another process was lost; its own lines say why; {GO_ON}")
        return self._story

    def ending(self, how: str) -> None:
        """From now on this process is not missed: it "ended" or "ended by" an error.

        Process 0 has the store where no agent has it, and waits some seconds: the others shall find there why they end.
        """
        self._ending = how
        keys = [self._key(rank) for rank in range(self.count)]
        until = time.monotonic() + min(MISSES_AFTER_ERROR * BEAT, GRACE / 2)
        with contextlib.suppress(RuntimeError):
            self._store.set(keys[self.rank], how)
            while self.rank == 0 and not self._agent and time.monotonic() < until:
                if all(sign.startswith(b"ended") for sign in self._store.multi_get(keys)):
                    break
                time.sleep(BEAT / 10)

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(2 * BEAT)
        if self._agent:
            (self._agent / f"sign.{self.rank}").unlink(missing_ok=True)


def stopped(story: str) -> BaseException:
    """What ends a process when its agent will print ``story``, else what makes the process print it."""
    return SystemExit(1) if AGENT_FOLDER in os.environ and "--debug" not in sys.argv[1:] else InputError(story)


class AgentWatch:
    """Of the agent: ends a process of its own that gives no more sign of life in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hung: dict[int, int] = {}  # process -> its rank
        self._seen: dict[Path, tuple[str, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(BEAT):
            for path in self.folder.glob("sign.*"):
                with contextlib.suppress(OSError):
                    self._look(path, path.read_text(encoding="utf-8"))

    def _look(self, path: Path, sign: str) -> None:
        before, missed = self._seen.get(path, ("", 0))
        self._seen[path] = sign, missed + 1 if sign == before else 0
        if missed + 1 == AGENT_MISSES and sign == before:
            pid, rank = map(int, sign.split()[:2])
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # an OSError when it is not ours
            self.hung[pid] = rank
            os.kill(pid, signal.SIGKILL)

    def met(self) -> bool:
        """Whether a process of this machine has met the others."""
        return bool(self._seen)

    def story(self) -> str:
        """What the processes of this machine know, or nothing."""
        path = self.folder / "story"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(2 * BEAT)
