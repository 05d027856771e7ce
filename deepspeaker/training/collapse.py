"""How training fails by itself: all embeddings coincide, or values are no longer finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from deepspeaker.errors import InputError

#: Embeddings coincide when the metric ``spread`` is below this.
SPREAD = 0.01
#: The loss is at the margin when it differs from it by less than this share, with nearly all triplets active.
NEAR_MARGIN, ALL_ACTIVE = 0.02, 0.99
#: Fewer bad steps in a row are no collapse while training continues, unless the patience is smaller.
LEAST_PATIENCE = 50
#: Training has collapsed if its last steps, this many of them, have coinciding embeddings, or a loss at the margin. The
#: loss can be at the margin by chance for a few steps, so that limit is higher.
COINCIDING_END, END_AT_MARGIN = 5, 20


class DivergedError(InputError):
    """Training has failed by itself; the last good checkpoint is kept."""


class CollapseError(DivergedError):
    """The network has collapsed; the last good checkpoint is kept."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether all values are finite, and small enough to be squared, as those of every healthy training are.

    Examples
    --------
    >>> all_finite([torch.ones(2)]), all_finite([torch.ones(2), torch.tensor([torch.nan])])
    (True, False)
    """
    squares = [tensor.detach().square().sum() for tensor in tensors if tensor.is_floating_point()]
    return not squares or bool(torch.stack([total.to(squares[0]) for total in squares]).isfinite().all())


class CollapseWatch:
    """Count the steps in a row on which embeddings coincide or the triplet loss is at the margin.

    More than ``patience`` such steps in a row are a collapse. So are more than a quarter of all steps, because too few
    would be left to recover. A fresh network begins in this state, so half of all steps are allowed before the first
    good one. Softmax training lacks these metrics and never collapses.

    Parameters
    ----------
    margin
        The margin of the triplet loss.
    patience
        Allowed steps in a row. With 0, only the end of the training is judged.
    steps
        All steps of the training.
    """

    def __init__(self, margin: float, patience: int, steps: int) -> None:
        self.margin, self.patience, self.all_steps = margin, patience, steps
        self.bad_steps = 0  # in a row, up to now
        self.begun = False  # whether there was a good step
        self._problem, self._bad_end = "all embeddings coincided or the loss sat at the margin", END_AT_MARGIN

    @property
    def doubtful(self) -> bool:
        """Whether a network that was good may be collapsing; it must then not replace a good checkpoint."""
        return self.begun and self.bad_steps > 0

    def state_dict(self) -> dict[str, int | bool]:
        """Return what a resumed training needs."""
        return {"steps": self.bad_steps, "begun": self.begun}

    def load_state_dict(self, state: Mapping[str, int | bool]) -> None:
        """Restore what ``state_dict`` returned."""
        self.bad_steps, self.begun = int(state["steps"]), bool(state["begun"])

    def see(self, metrics: Mapping[str, float]) -> None:
        """Judge the metrics of a step.

        Raises
        ------
        CollapseError
            If there were too many bad steps in a row.
        """
        if "spread" not in metrics:
            return
        coincide = metrics["spread"] < SPREAD
        near = abs(metrics["loss"] - self.margin) < NEAR_MARGIN * self.margin
        if not coincide and not (near and metrics["active_triplets"] > ALL_ACTIVE):
            self.bad_steps, self.begun = 0, True
            return
        self.bad_steps += 1
        self._bad_end = COINCIDING_END if coincide else END_AT_MARGIN
        self._problem = (
            f"{'all embeddings coincided' if coincide else 'the loss sat at the margin'} (loss {metrics['loss']:.4f}, "
            f"cosine {metrics['positive_cosine']:.4f} positive {metrics['negative_cosine']:.4f} negative, spread "
            f"{metrics['spread']:.5f})"
        )
        allowed = min(self.patience, max(self.all_steps // (4 if self.begun else 2), LEAST_PATIENCE))
        if self.patience and self.bad_steps > allowed:
            raise self._error(f"for {self.bad_steps} steps")

    def end(self) -> None:
        """Judge the end of the training.

        Raises
        ------
        CollapseError
            If it ends with a collapsed network.
        """
        if self.bad_steps >= (self._bad_end if self.begun else LEAST_PATIENCE):
            raise self._error(f"for its last {self.bad_steps} steps")

    def _error(self, duration: str) -> CollapseError:
        return CollapseError(
            f"triplet training collapsed: {duration} {self._problem}; lower triplet.optimizer.learning_rate, choose "
            "triplet.early_negatives with triplet.early_steps, or pre-train longer (softmax.epochs)"
        )
