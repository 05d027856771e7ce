"""Speech from the eSpeak NG library of ``espeakng-loader``, which runs in a separate process."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError

TIMEOUT_SECONDS = 30.0  # an utterance takes about 10 ms; even a busy machine must not reach this limit
_FIX = "install the extra: pip install 'deepspeaker[demo]'"


@dataclasses.dataclass(frozen=True)
class Voice:
    """A voice of eSpeak NG.

    Attributes
    ----------
    accent
        The name of a voice, for example ``en-us``.
    variant
        The name of a file in ``voices/!v``, for example ``f1``.
    rate
        Words per minute, 80 to 450.
    pitch, pitch_range
        0 to 99; 50 is the default of the variant.
    """

    accent: str
    variant: str
    rate: int
    pitch: int
    pitch_range: int

    def __str__(self) -> str:
        return f"{self.accent}+{self.variant} rate {self.rate} pitch {self.pitch} range {self.pitch_range}"


def library_paths() -> tuple[Path, Path]:
    """Return the paths of the shared library and its data folder.

    Raises
    ------
    InputError
        ``espeakng-loader`` is not installed, or incomplete.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise InputError(f"the demo corpus needs espeakng-loader, which is not installed; {_FIX}") from None
    paths = Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    for path in paths:
        if not path.exists():
            raise InputError(f"the file {path} of espeakng-loader is missing; {_FIX}")
    return paths


class Synthesiser:
    """A process that synthesises speech, as a context manager. Two threads must not share it.

    Attributes
    ----------
    sample_rate
        The rate of the samples that ``speak`` returns, in Hz.
    version
        The versions of eSpeak NG and the loader.

    Raises
    ------
    InputError
        The library is missing or does not start.
    """

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        library, data = library_paths()
        program = Path(__file__).with_name("espeak_program.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(program), str(library), str(data), str(timeout_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        greeting = self._answer()
        if "error" in greeting:
            self.close()
            raise InputError(f"eSpeak NG's library {library} does not start: {greeting['error']}; {_FIX}")
        self.sample_rate = int(greeting["sample_rate"])
        loader = importlib.metadata.version("espeakng-loader")
        self.version = f"eSpeak NG {greeting['version']} (espeakng-loader {loader})"

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        return answer

    def speak(self, voice: Voice, text: str) -> NDArray[np.int16]:
        """Return the samples of a sentence, (samples,), spoken by a fresh copy of the library.

        Raises
        ------
        InputError
            The voice is unknown, or the library crashed, hung or stayed silent. The message names the voice and the
            sentence.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {
            "voice": f"{voice.accent}+{voice.variant}",
            "rate": voice.rate,
            "pitch": voice.pitch,
            "range": voice.pitch_range,
            "text": text,
        }
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._answer()
        except BrokenPipeError:
            answer = {"error": "its process ended"}
        samples = self._process.stdout.read(2 * answer.get("samples", 0))
        if "error" in answer or len(samples) < 2 * answer["samples"]:
            reason = answer.get("error", "its process ended")
            raise InputError(f'eSpeak NG cannot speak "{text}" with the voice {voice}: {reason}; {_FIX}')
        return np.frombuffer(samples, np.int16)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:  # an unsent request is no longer needed
                continue

    def __enter__(self) -> Synthesiser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
