"""Checkpoint files: plain values and tensors, written atomically and read without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path
from deepspeaker.models.build import build_model
from deepspeaker.models.network import Network

_FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path
        The file to write.
    content
        Numbers, strings, lists, dictionaries and tensors.

    Raises
    ------
    InputError
        The disk is full.
    """
    # torch stores the file's name, and the temporary name differs between runs. An open stream has no name.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save({"format": _FORMAT, **content}, stream)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises
    ------
    InputError
        The file is missing, broken, or not a checkpoint of this program.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; run the training stage that writes it")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on broken bytes, torch's unpickler raises nearly anything
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path}: cannot be read as a checkpoint ({reason}); train again or remove it") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"{path}: is not a checkpoint of this version of deepspeaker (format {_FORMAT})")
    return content


def network_of(checkpoint: dict[str, Any]) -> Network:
    """Return the network of a checkpoint with its trained weights, in evaluation mode."""
    network = build_model(checkpoint["feature_dim"], **checkpoint["config"]["model"])
    network.load_state_dict(checkpoint["network"])
    return network.eval()
