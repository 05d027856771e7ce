"""How training goes wrong by itself: all embeddings coincide, or values are no finite numbers any more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from deepspeaker.errors import InputError

#: Embeddings coincide when 1 - the squared length of their mean is below this.
SPREAD = 0.01
#: The loss sits at the margin when it is so near, as a share of the margin, with nearly all triplets active.
NEAR_MARGIN, ALL_ACTIVE = 0.02, 0.99
#: Fewer steps in a row than this are never a collapse while training goes on, unless the patience is smaller.
LEAST_PATIENCE = 50
#: A training that ends has collapsed when on so many steps in a row, the last ones, embeddings coincided, or when the
#: loss sat at the margin, which chance can bring about for some steps.
COINCIDING_END, END_AT_MARGIN = 5, 20


class DivergedError(InputError):
    """Training has gone wrong by itself: to go on from where it is would be of no use."""


class CollapseError(DivergedError):
    """Training has collapsed; the last good checkpoint is kept."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all values are finite; those whose squares overflow are not (no training gets there in good health)."""
    squares = [tensor.detach().square().sum() for tensor in tensors if tensor.is_floating_point()]
    return not squares or bool(torch.stack([total.to(squares[0]) for total in squares]).isfinite().all())


class CollapseWatch:
    """Counts the steps in a row on which all embeddings coincide or the triplet loss sits at the margin.

    More than ``patience`` such steps are a collapse, and more than a quarter of the training's ``steps``: with fewer
    left, nothing would come of it anyway. A network with fresh weights begins like that; until the first step that is
    otherwise, half of the steps are allowed.
    """

    def __init__(self, margin: float, patience: int, steps: int) -> None:
        self.margin = margin
        self._patience = min(patience, max(steps // 4, LEAST_PATIENCE))
        self._patience_at_first = min(patience, max(steps // 2, LEAST_PATIENCE))
        self.steps = 0  # in a row, up to now
        self.begun = False  # whether a step was otherwise
        self._what, self._bad_end = "all embeddings coincided or the loss sat at the margin", END_AT_MARGIN

    @property
    def doubtful(self) -> bool:
        """Whether the network, once good, may be collapsing: it takes no good one's place."""
        return self.begun and self.steps > 0

    def state_dict(self) -> dict[str, int | bool]:
        """What a resumed training goes on counting from."""
        return {"steps": self.steps, "begun": self.begun}

    def load_state_dict(self, state: Mapping[str, int | bool]) -> None:
        """Takes what ``state_dict`` gave."""
        self.steps, self.begun = int(state["steps"]), bool(state["begun"])

    def see(self, figures: Mapping[str, float]) -> None:
        """Takes the figures of a step; raises ``CollapseError`` when it was one too many."""
        if "spread" not in figures:
            return
        at_margin = abs(figures["loss"] - self.margin) < NEAR_MARGIN * self.margin
        stuck = at_margin and figures["active_triplets"] > ALL_ACTIVE
        if not (figures["spread"] < SPREAD or stuck):
            self.steps, self.begun = 0, True
            return
        self.steps += 1
        coincide = figures["spread"] < SPREAD
        self._bad_end = COINCIDING_END if coincide else END_AT_MARGIN
        what = "all embeddings coincided" if coincide else "the loss sat at the margin"
        self._what = (
            f"{what} (loss {figures['loss']:.4f}, cosine {figures['positive_cosine']:.4f} positive "
            f"{figures['negative_cosine']:.4f} negative, spread {figures['spread']:.5f})"
        )
        if self.steps > (self._patience if self.begun else self._patience_at_first):
            raise self._collapsed(f"for {self.steps} steps")

    def end(self) -> None:
        """Training ends here; raises ``CollapseError`` when the network has collapsed on the last steps."""
        if self.steps >= (self._bad_end if self.begun else LEAST_PATIENCE):
            raise self._collapsed(f"for its last {self.steps} steps")

    def _collapsed(self, since: str) -> CollapseError:
        return CollapseError(
            f"triplet training collapsed: {since} {self._what}; lower triplet.optimiser.learning_rate, choose "
            "triplet.early_negatives with triplet.early_steps, or pre-train longer (softmax.epochs)"
        )
