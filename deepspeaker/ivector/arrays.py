"""Models and statistics are dataclasses of arrays: their sums over shards, and their files."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Arrays = TypeVar("Arrays", bound=DataclassInstance)
else:
    Arrays = TypeVar("Arrays")


def add(first: Arrays, *others: Arrays) -> Arrays:
    """Return the sum of the statistics of several shards.

    Raises
    ------
    InputError
        The shards belong to models of different sizes.
    """
    sums: list[Any] = [getattr(first, field.name) for field in dataclasses.fields(first)]
    for other in others:
        for index, field in enumerate(dataclasses.fields(first)):
            value = getattr(other, field.name)
            if value.shape != sums[index].shape:
                raise InputError(
                    f"statistics of shape {value.shape} cannot be added to statistics of shape {sums[index].shape}; "
                    "they are of different models; compute all shards again"
                )
            sums[index] = sums[index] + value
    return type(first)(*sums)


def save_arrays(path: str | Path, value: DataclassInstance) -> None:
    """Write a model or statistics as an npz file, one array for each field."""
    arrays = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def load_arrays(path: str | Path, kind: type[Arrays]) -> Arrays:
    """Read what `save_arrays` wrote.

    Raises
    ------
    InputError
        The file is missing, damaged, or holds something else.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if isinstance(arrays, np.lib.npyio.NpzFile) and sorted(arrays.files) == sorted(names):
                return kind(*(arrays[name] for name in names))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(f"{path}: {error}; recreate it") from None
    raise InputError(f"{path}: is no file of {kind.__name__}; recreate it")
