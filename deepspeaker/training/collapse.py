"""The classic failure of triplet training: all embeddings coincide."""

from __future__ import annotations

from collections.abc import Mapping

from deepspeaker.errors import InputError

#: Embeddings coincide when 1 - the squared length of their mean is below this.
SPREAD = 0.01
#: The loss sits at the margin when it is so near, as a share of the margin, with nearly all triplets active.
NEAR_MARGIN, ALL_ACTIVE = 0.02, 0.99


class CollapseError(InputError):
    """Training has collapsed; the last good checkpoint is kept."""


class CollapseWatch:
    """Counts the steps in a row on which all embeddings coincide or the triplet loss sits at the margin.

    A network with fresh weights begins like that, so only more than ``patience`` such steps are a collapse.
    """

    def __init__(self, margin: float, patience: int) -> None:
        self.margin, self.patience = margin, patience
        self.steps = 0

    def see(self, figures: Mapping[str, float]) -> None:
        """Takes the figures of a step; raises ``CollapseError`` when it was one too many."""
        if "spread" not in figures:
            return
        at_margin = abs(figures["loss"] - self.margin) < NEAR_MARGIN * self.margin
        stuck = at_margin and figures["active_triplets"] > ALL_ACTIVE
        self.steps = self.steps + 1 if figures["spread"] < SPREAD or stuck else 0
        if self.steps > self.patience:
            what = "all embeddings coincided" if figures["spread"] < SPREAD else "the loss sat at the margin"
            raise CollapseError(
                f"triplet training collapsed: for {self.steps} steps {what} (loss {figures['loss']:.4f}, cosine "
                f"{figures['positive_cosine']:.4f} positive {figures['negative_cosine']:.4f} negative, spread "
                f"{figures['spread']:.5f}); lower triplet.optimiser.learning_rate, choose triplet.early_negatives "
                "with triplet.early_steps, or pre-train longer (softmax.epochs)"
            )
