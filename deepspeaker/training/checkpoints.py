"""The checkpoints of a training: what they contain, and to which training they belong."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor

from deepspeaker.errors import InputError
from deepspeaker.models import save_checkpoint
from deepspeaker.stages import flattened, with_defaults
from deepspeaker.training.collapse import DivergedError, all_finite
from deepspeaker.training.distributed import rank

_ABSENT = object()


class Checkpoints:
    """``checkpoint_last.pt``, ``checkpoint_best.pt`` and ``checkpoint_average.pt`` of the training in ``folder``.

    Parameters
    ----------
    folder
        The folder of the training.
    about
        What each checkpoint contains besides the weights. "config" is the complete configuration with the values in
        use. "stage" is the section that is trained. "seed" is the seed; "feature_dim" and "speakers" describe the
        training data. "dev_speakers" is the number of development speakers with two utterances or more. "origin" is the
        ``digest_of_weights`` of given initial weights, empty for fresh ones.
    begun
        The content of ``checkpoint_last.pt`` if a training has begun in the folder.

    Raises
    ------
    InputError
        If ``begun`` belongs to another training. The line names what differs.
    """

    def __init__(self, folder: Path, about: dict[str, Any], begun: dict[str, Any] | None = None) -> None:
        self.folder, self.last, self.about, self.begun = folder, folder / "checkpoint_last.pt", about, begun
        if begun is not None:
            self._check(begun)

    def _check(self, begun: dict[str, Any]) -> None:
        if not {"optimizer", "watch"} <= begun.keys():
            raise InputError(f"{self.last}: holds no training to continue; remove {self.folder} to start anew")
        ours = _identity(self.about)
        theirs = with_defaults(_identity(begun), ours)
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
                f"{self.last}: belongs to another training: {', '.join(differences[:3])}{more}; remove {self.folder} "
                "to start anew, or continue with the settings it was begun with"
            )

    def save(self, which: str, weights: dict[str, Tensor], **more: Any) -> None:
        """Write ``checkpoint_WHICH.pt`` with the network's weights and ``more``; only rank 0 writes.

        Raises
        ------
        DivergedError
            In all ranks, if weights are not finite. The file then stays as it was.
        """
        if not all_finite([*weights.values(), *more.get("objective", {}).values()]):
            raise self.divergence("the weights are no longer finite numbers")
        if rank() == 0:
            network = {name: tensor.detach().cpu() for name, tensor in weights.items()}
            save_checkpoint(self.folder / f"checkpoint_{which}.pt", {**self.about, "network": network, **more})

    def divergence(self, problem: str) -> DivergedError:
        """Return the error for a problem, with the cure and the checkpoint that remains."""
        optimizer = f"{self.about['stage']}.optimizer"
        return DivergedError(
            f"{self.folder}: {problem}; lower {optimizer}.learning_rate or set {optimizer}.gradient_clip "
            f"({self.remaining()})"
        )

    def remaining(self) -> str:
        """Say which checkpoint remains."""
        return f"{self.last} is kept as it was before" if self.last.is_file() else "no checkpoint was saved yet"


def _identity(about: dict[str, Any]) -> dict[str, object]:
    """Return what must be equal for a training to continue: model, section, data, seed and initial weights."""
    config, section = about["config"], about["stage"]
    # torch.compile does not change the result.
    options = {key: value for key, value in config[section].items() if key != "compile"}
    settings = {"model": config["model"], section: options}
    if options["vtlp"]:
        settings["features"] = {key: config["features"][key] for key in ("low_freq", "high_freq")}
    if config.get("augment", {}).get("copies"):
        settings["augment"] = config["augment"]
    return flattened(settings) | {key: about[key] for key in ("seed", "feature_dim", "speakers", "origin")}


def digest_of_weights(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes and values of weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
