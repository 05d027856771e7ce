"""How training fails by itself: all embeddings coincide, or numbers are no longer finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from deepspeaker.errors import InputError

#: Embeddings coincide when 1 - the squared length of their mean is below this.
SPREAD = 0.01
#: The loss sits at the margin when it is this near, as a share of the margin, with nearly all triplets active.
NEAR_MARGIN, ALL_ACTIVE = 0.02, 0.99
#: Fewer such steps in a row are no collapse while training goes on, unless the patience is smaller.
LEAST_PATIENCE = 50
#: A training has collapsed if its last steps, at least this many, were such: for embeddings that coincide, and for a
#: loss at the margin, which chance can bring about for some steps.
COINCIDING_END, END_AT_MARGIN = 5, 20


class DivergedError(InputError):
    """Training has gone wrong by itself; the last good checkpoint is kept."""


class CollapseError(DivergedError):
    """The network has collapsed; the last good checkpoint is kept."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all values are finite, and small enough to be squared, as those of every healthy training are."""
    squares = [tensor.detach().square().sum() for tensor in tensors if tensor.is_floating_point()]
    return not squares or bool(torch.stack([total.to(squares[0]) for total in squares]).isfinite().all())


class CollapseWatch:
    """Counts the steps in a row on which all embeddings coincide or the triplet loss sits at the margin.

    More than ``patience`` such steps are a collapse, and so are more than a quarter of the training's ``steps``, since
    the rest would not be enough to recover. A fresh network begins like that: until the first good step, half of the
    steps are allowed. With a patience of 0, only the end of the training is judged. Softmax training has no such
    figures and never collapses.
    """

    def __init__(self, margin: float, patience: int, steps: int) -> None:
        self.margin, self.patience, self.all_steps = margin, patience, steps
        self.steps = 0  # in a row, up to now
        self.begun = False  # whether there was a good step
        self._what, self._bad_end = "all embeddings coincided or the loss sat at the margin", END_AT_MARGIN

    @property
    def doubtful(self) -> bool:
        """Whether a network that was good may be collapsing: then it must not replace a good checkpoint."""
        return self.begun and self.steps > 0

    def state_dict(self) -> dict[str, int | bool]:
        """What a resumed training needs."""
        return {"steps": self.steps, "begun": self.begun}

    def load_state_dict(self, state: Mapping[str, int | bool]) -> None:
        """Takes what ``state_dict`` gave."""
        self.steps, self.begun = int(state["steps"]), bool(state["begun"])

    def see(self, figures: Mapping[str, float]) -> None:
        """Takes the figures of a step; raises ``CollapseError`` if there were too many bad ones in a row."""
        if "spread" not in figures:
            return
        coincide = figures["spread"] < SPREAD
        near = abs(figures["loss"] - self.margin) < NEAR_MARGIN * self.margin
        if not coincide and not (near and figures["active_triplets"] > ALL_ACTIVE):
            self.steps, self.begun = 0, True
            return
        self.steps += 1
        self._bad_end = COINCIDING_END if coincide else END_AT_MARGIN
        self._what = (
            f"{'all embeddings coincided' if coincide else 'the loss sat at the margin'} (loss {figures['loss']:.4f}, "
            f"cosine {figures['positive_cosine']:.4f} positive {figures['negative_cosine']:.4f} negative, spread "
            f"{figures['spread']:.5f})"
        )
        allowed = min(self.patience, max(self.all_steps // (4 if self.begun else 2), LEAST_PATIENCE))
        if self.patience and self.steps > allowed:
            raise self._error(f"for {self.steps} steps")

    def end(self) -> None:
        """Raises ``CollapseError`` if the training, which ends here, ends with a collapsed network."""
        if self.steps >= (self._bad_end if self.begun else LEAST_PATIENCE):
            raise self._error(f"for its last {self.steps} steps")

    def _error(self, since: str) -> CollapseError:
        return CollapseError(
            f"triplet training collapsed: {since} {self._what}; lower triplet.optimiser.learning_rate, choose "
            "triplet.early_negatives with triplet.early_steps, or pre-train longer (softmax.epochs)"
        )
