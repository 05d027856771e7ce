"""The checkpoints of a training: what they hold, and of which training they are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor

from deepspeaker.errors import InputError
from deepspeaker.marks import flattened
from deepspeaker.models import load_checkpoint, save_checkpoint
from deepspeaker.training.collapse import DivergedError, all_finite
from deepspeaker.training.distributed import process_rank

_ABSENT = object()


class Checkpoints:
    """``checkpoint_last.pt``, ``checkpoint_best.pt`` and ``checkpoint_average.pt`` of the training in ``folder``.

    Each holds the configuration ``config`` and whose ``section`` is trained by, seed, feature dimension and speakers of
    the training data, ``origin`` (the ``digest_of_weights`` that it began with, empty for fresh ones, which the seed
    decides) and ``precision_measured``, whether the section's precision comes from a measurement.

    ``begun`` is what ``checkpoint_last.pt`` holds of a training that was begun here, else None. Raises ``InputError``
    when that is a training of another configuration, and names what differs; nothing is written before.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: dict[str, Any],
        section: str,
        seed: int,
        feature_dim: int,
        speakers: list[str],
        origin: str = "",
        precision_measured: bool = False,
    ) -> None:
        self.folder, self.last = folder, folder / "checkpoint_last.pt"
        self.about: dict[str, Any] = {
            "config": config,
            "stage": section,
            "seed": seed,
            "feature_dim": feature_dim,
            "speakers": speakers,
            "origin": origin,
            "precision_measured": precision_measured,
        }
        self.begun = load_checkpoint(self.last) if self.last.is_file() else None
        if self.begun is not None:
            self._check(self.begun)

    def _check(self, begun: dict[str, Any]) -> None:
        if not {"optimiser", "watch"} <= begun.keys():
            raise InputError(f"{self.last}: holds no training to go on with; remove {self.folder} to start anew")
        ours, theirs = _identity(self.about), _identity({"origin": self.about["origin"], **begun})
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
                "start anew, or go on with what it was begun with"
            )

    def save(self, which: str, weights: dict[str, Tensor], **more: Any) -> None:
        """Writes ``checkpoint_WHICH.pt`` with the network's weights and ``more``; process 0 does.

        Raises ``DivergedError`` in all processes, and leaves the file as it was, when weights are not finite.
        """
        if not all_finite([*weights.values(), *more.get("objective", {}).values()]):
            raise self.diverged("the weights are not finite numbers any more")
        if process_rank() == 0:
            network = {name: tensor.detach().cpu() for name, tensor in weights.items()}
            save_checkpoint(self.folder / f"checkpoint_{which}.pt", {**self.about, "network": network, **more})

    def diverged(self, what: str) -> DivergedError:
        """The error that says so, what to change, and what is left."""
        section = self.about["stage"]
        return DivergedError(
            f"{self.folder}: {what}; lower {section}.optimiser.learning_rate or set "
            f"{section}.optimiser.gradient_clip ({self.kept()})"
        )

    def kept(self) -> str:
        """What is there to go on with, in words."""
        return f"{self.last} is kept as it was before" if self.last.is_file() else "no checkpoint was saved yet"


def digest_of_weights(weights: dict[str, Tensor]) -> str:
    """What tells given initial weights from others: the SHA-256 of names and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _identity(about: dict[str, Any]) -> dict[str, object]:
    """What must be the same for a training to go on."""
    config, section = about["config"], about["stage"]
    # Compiled or not, the same is computed.
    options = {key: value for key, value in config[section].items() if key != "compile"}
    settings = {"model": config["model"], section: options}
    if config[section]["vtlp"]:
        settings["features"] = {key: config["features"][key] for key in ("low_freq", "high_freq")}
    return flattened(settings) | {key: about[key] for key in ("seed", "feature_dim", "speakers", "origin")}
