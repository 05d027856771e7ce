"""Embed many files with several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepspeaker.audio import load_audio
from deepspeaker.errors import InputError
from deepspeaker.inference.model import SpeakerModel


class Source(NamedTuple):
    """Audio to embed."""

    location: str
    """An entry of ``wav.scp``, see ``deepspeaker.audio.load_audio``."""
    segment: tuple[float, float | None] | None = None
    """Start and end in seconds; None for all of it."""


class FileEmbedding(NamedTuple):
    """The embedding of a source."""

    embedding: NDArray[np.float32]
    """(dim,), of unit length."""
    speech_frames: int


_model: list[SpeakerModel] = []  # of a worker process


def embed_files(
    path: str | Path, sources: Mapping[str, Source], engine: str = "auto", jobs: int = 1, allow_pipes: bool = False
) -> Iterator[tuple[str, FileEmbedding | str]]:
    """Yield the id of each source with its embedding, or with the reason why it has none.

    Parameters
    ----------
    path
        The exported model, see ``SpeakerModel``.
    sources
        What to embed, by id.
    engine
        See ``SpeakerModel``.
    jobs
        Number of processes. They do not change the result.
    allow_pipes
        Whether locations may run commands.
    """
    items = [(name, source, allow_pipes) for name, source in sources.items()]
    if jobs == 1:
        _start(path, engine)
        yield from map(_embed, items)
        return
    with ProcessPoolExecutor(jobs, initializer=_start, initargs=(path, engine)) as pool:
        yield from pool.map(_embed, items, chunksize=8)


def _start(path: str | Path, engine: str) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _model[:] = [SpeakerModel(path, engine)]


def _embed(item: tuple[str, Source, bool]) -> tuple[str, FileEmbedding | str]:
    name, source, allow_pipes = item
    model = _model[0]
    try:
        samples, _ = load_audio(source.location, model.sampling_rate, allow_pipes, source.segment)
        analysis = model.engine.analyse(samples)
        if not (analysis.speech > 0).any():
            return name, f"{source.location}: has no speech frame"
        return name, FileEmbedding(analysis.embedding, int((analysis.speech > 0).sum()))
    except InputError as error:
        return name, str(error)
