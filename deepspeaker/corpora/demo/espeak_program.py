"""A small process that speaks: it reads requests from stdin and writes samples to stdout.

It is run by path, isolated (``python -I -S espeak_program.py LIBRARY DATA TIMEOUT``). So it loads only the standard
library, runs no threads, and can fork safely. eSpeak NG keeps state between utterances, so a fresh fork speaks each of
them: the parent initialises the library but never speaks.

The first line of output is JSON with ``sample_rate`` and ``version``. A request is a JSON line with ``voice``,
``rate``, ``pitch``, ``range`` and ``text``. The answer is a JSON line with ``samples`` or ``error``, followed by the
samples: 16 bit, in the machine's byte order.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from typing import Any, BinaryIO

# From speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4

_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def _start(library_path: str, data_path: str) -> tuple[ctypes.CDLL, dict[str, Any]]:
    """Load and initialise the library; return it and the first line of output."""
    library = ctypes.CDLL(library_path)
    # The library copies the folder's name into a buffer of 160 characters. A relative name always fits.
    os.chdir(data_path)
    sample_rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, b".", _INITIALIZE_DONT_EXIT)
    if sample_rate <= 0:
        raise OSError(f"it cannot read its data in {data_path}")
    library.espeak_Info.restype = ctypes.c_char_p
    version = library.espeak_Info(None).decode()
    return library, {"sample_rate": sample_rate, "version": version}


def _speak(library: ctypes.CDLL, request: dict[str, Any]) -> bytes:
    """Speak the request in this process and return the samples."""
    blocks: list[bytes] = []

    def keep(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            blocks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _SynthCallback(keep)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        raise ValueError("the library does not know this voice")
    for parameter, key in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "range")):
        if library.espeak_SetParameter(parameter, request[key], 0) != 0:
            raise ValueError(f"the library refuses {key} {request[key]}")
    text = request["text"].encode() + b"\0"
    if library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 1, 0, _CHARS_UTF8, None, None) != 0:
        raise ValueError("the library refuses this text")
    library.espeak_Synchronize()
    return b"".join(blocks)


def _speak_in_fork(library: ctypes.CDLL, request: dict[str, Any], timeout: float) -> tuple[bytes, str]:
    """Speak the request in a fork; return the samples and the error, one of which is empty."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            try:
                answer = _speak(library, request)
                status = 0
            except Exception as error:
                answer = str(error).encode()
            with os.fdopen(writing, "wb") as stream:
                stream.write(answer)
        finally:
            os._exit(status)  # never return to the loop of the parent
    os.close(writing)
    deadline = time.monotonic() + timeout
    blocks = []
    hangs = False
    with os.fdopen(reading, "rb", buffering=0) as stream:
        while not hangs:
            if not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
                hangs = True
                os.kill(child, signal.SIGKILL)
            elif block := stream.read(1 << 16):
                blocks.append(block)
            else:
                break
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    answer = b"".join(blocks)
    if hangs:
        return b"", f"no answer within {timeout:g} s"
    if status < 0:
        return b"", f"the library was killed by signal {-status}"
    if status > 0:
        return b"", answer.decode(errors="replace") or f"the library ended with status {status}"
    return answer, "" if answer else "the library stayed silent"


def _send(stream: BinaryIO, header: dict[str, Any], samples: bytes = b"") -> None:
    stream.write(json.dumps(header).encode() + b"\n" + samples)
    stream.flush()


def _main(library_path: str, data_path: str, timeout: float) -> None:
    # Ctrl-C reaches the whole process group. This process ends with its stdin, when its parent is gone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = sys.stdout.buffer
    try:
        library, greeting = _start(library_path, data_path)
    except OSError as error:
        _send(answers, {"error": str(error)})
        return
    _send(answers, greeting)
    for line in sys.stdin.buffer:
        samples, error_text = _speak_in_fork(library, json.loads(line), timeout)
        _send(answers, {"error": error_text} if error_text else {"samples": len(samples) // 2}, samples)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
