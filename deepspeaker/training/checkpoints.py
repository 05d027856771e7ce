"""The checkpoints of a training: what they hold, and to which training they belong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from deepspeaker.errors import InputError
from deepspeaker.models import save_checkpoint
from deepspeaker.training.collapse import DivergedError, all_finite
from deepspeaker.training.distributed import rank

_ABSENT = object()


class Checkpoints:
    """``checkpoint_last.pt``, ``checkpoint_best.pt`` and ``checkpoint_average.pt`` of the training in ``folder``.

    Parameters
    ----------
    about : dict
        What each checkpoint holds beside the weights: "config", the complete configuration with the values in use;
        "stage", the section that is trained by; "seed", "feature_dim" and "speakers" of the training data; "origin",
        the ``digest_of_weights`` that training began with, empty for fresh ones, which the seed decides.
    begun : dict, optional
        What ``checkpoint_last.pt`` holds of a training that was begun in the folder.

    Raises
    ------
    InputError
        If the training that was begun is another one, naming what differs. Nothing is written before.
    """

    def __init__(self, folder: Path, about: dict[str, Any], begun: dict[str, Any] | None = None) -> None:
        self.folder, self.last, self.about, self.begun = folder, folder / "checkpoint_last.pt", about, begun
        if begun is not None:
            self._check(begun)

    def _check(self, begun: dict[str, Any]) -> None:
        if not {"optimiser", "watch"} <= begun.keys():
            raise InputError(f"{self.last}: holds no training to continue; remove {self.folder} to start anew")
        ours, theirs = _identity(self.about), _identity(begun)
        differences = []
        for key in dict.fromkeys([*ours, *theirs]):
            was, now = theirs.get(key, _ABSENT), ours.get(key, _ABSENT)
            if was == now:
                continue
            if key == "speakers":
                differences.append(f"its {len(begun['speakers'])} speakers are not these {len(self.about['speakers'])}")
            elif key == "origin":
                differences.append("it began with other weights")
            elif _ABSENT in (was, now):
                differences.append(f"{key} is {'new' if was is _ABSENT else 'gone'}")
            else:
                differences.append(f"{key} was {was}, now it is {now}")
        if differences:
            more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
            raise InputError(
                f"{self.last}: is of another training: {', '.join(differences[:3])}{more}; remove {self.folder} to "
                "start anew, or continue with what it was begun with"
            )

    def save(self, which: str, weights: dict[str, Tensor], **more: Any) -> None:
        """Writes ``checkpoint_WHICH.pt`` with the network's weights and ``more``; rank 0 does.

        Raises ``DivergedError`` in all ranks, and leaves the file as it was, if weights are not finite.
        """
        if not all_finite([*weights.values(), *more.get("objective", {}).values()]):
            raise self.diverged("the weights are not finite numbers any more")
        if rank() == 0:
            network = {name: tensor.detach().cpu() for name, tensor in weights.items()}
            save_checkpoint(self.folder / f"checkpoint_{which}.pt", {**self.about, "network": network, **more})

    def diverged(self, what: str) -> DivergedError:
        """The error for what has gone wrong: how to prevent it, and which checkpoint is left."""
        section = self.about["stage"]
        return DivergedError(
            f"{self.folder}: {what}; lower {section}.optimiser.learning_rate or set "
            f"{section}.optimiser.gradient_clip ({self.kept()})"
        )

    def kept(self) -> str:
        """Which checkpoint there is, in words."""
        return f"{self.last} is kept as it was before" if self.last.is_file() else "no checkpoint was saved yet"


def _identity(about: dict[str, Any]) -> dict[str, object]:
    """What must be the same for a training to continue: the model, its section, data, seed and initial weights."""
    config, section = about["config"], about["stage"]
    # Compiled or not, the same is computed.
    options = {key: value for key, value in config[section].items() if key != "compile"}
    settings = {"model": config["model"], section: options}
    if options["vtlp"]:
        settings["features"] = {key: config["features"][key] for key in ("low_freq", "high_freq")}
    return flattened(settings) | {key: about[key] for key in ("seed", "feature_dim", "speakers", "origin")}


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested settings as ``section.key`` -> value."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def digest_of_weights(weights: dict[str, Tensor]) -> str:
    """The SHA-256 of names and values: it tells given initial weights from others."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
