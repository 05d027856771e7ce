"""Sections of stages 5 and 6: embeddings, i-vectors and scoring."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from deepspeaker.config.section import Section

BackEnd = Literal[
    "cosine",
    "mean-subtracted",
    "plda",
    "plda-adapted",
    "z-norm",
    "t-norm",
    "s-norm",
    "as-norm",
    "calibrated",
    "fused",
    "embedding-sum",
    "score-sum",
]


class Embedding(Section):
    """Stage 5: embeddings."""

    checkpoint: Literal["auto", "best", "last", "average"] = "auto"
    """Lowest development EER, last epoch, average of the last ones; ``auto``: best if 20 or more speakers chose it."""


class Mfcc(Section):
    """The features of the i-vector system: MFCCs with delta and acceleration of the speech frames."""

    num_ceps: int = Field(20, gt=0)
    """Number of coefficients, with the log-energy as the first."""
    num_bins: int = Field(30, gt=0)
    """Number of mel bins that the coefficients are computed from; ``features`` has their band."""
    cmvn: Literal["sliding", "utterance", "none"] = "sliding"
    """Subtract the mean of a window (``sliding``), or give each utterance zero mean and unit variance."""
    cmvn_window: int = Field(300, gt=0)
    """Length of the window, in frames."""

    @model_validator(mode="after")
    def _bins_suffice(self) -> Mfcc:
        if self.num_ceps > self.num_bins:
            raise ValueError("num_ceps must not exceed num_bins")
        return self


class IVector(Section):
    """Stage 5: the i-vector baseline (``--ivector true``)."""

    mfcc: Mfcc = Mfcc()
    """Features."""
    components: int = Field(512, gt=0)
    """Components of the UBM; the paper has 1024. Posteriors from elsewhere (``--posteriors``) decide it themselves."""
    full_covariance: bool = False
    """Whether the components have full covariances; four iterations then follow those with diagonal ones."""
    ubm_iterations: int = Field(10, gt=0)
    """Iterations of EM for the UBM, after k-means."""
    variance_floor: float = Field(1e-3, gt=0, lt=1)
    """Minimum variance of a component, relative to that of all frames."""
    dim: int = Field(200, gt=0)
    """Dimension of the i-vectors; the paper has 400."""
    iterations: int = Field(10, gt=0)
    """Iterations of EM for the total variability matrix."""
    backends: list[BackEnd] = Field(["plda"], min_length=1)
    """The back ends that score i-vectors, in the place of ``scoring.backends``."""
    lda_dim: int = Field(100, gt=0)
    """Dimension that LDA keeps before PLDA, in the place of ``scoring.lda_dim``; fewer if speakers are too few."""

    @model_validator(mode="after")
    def _dim_fits(self) -> IVector:
        if self.dim > 3 * self.mfcc.num_ceps * self.components:
            raise ValueError("dim must not exceed 3 * mfcc.num_ceps * components")
        return self


class Scoring(Section):
    """Stage 6: scoring and evaluation."""

    backends: list[BackEnd] = Field(["cosine"], min_length=1)
    """The back ends that score every trial list."""
    lda_dim: int = Field(64, gt=0)
    """Dimension that LDA keeps before PLDA."""
    cohort_top: int = Field(50, gt=1)
    """Nearest cohort speakers that adaptive s-norm uses for each side of a trial."""
    calibration_prior: float = Field(0.05, gt=0, lt=1)
    """Prior probability of a target for training calibration and fusion."""
    training_utterances: int = Field(20, gt=0)
    """Maximum number of utterances per training speaker to embed for the back ends."""
    bootstrap: int = Field(1000, ge=0)
    """Bootstrap draws of speakers for confidence intervals; 0 turns the intervals off."""
    plda_enrolment: Literal["average", "exact"] = "average"
    """PLDA with several enrolment utterances: average their embeddings, or use the exact likelihood of all."""
    fuse_with: str = ""
    """Folder of another experiment, whose embeddings are concatenated with this one's; empty for none."""
    plda_adapt_within: float = Field(0.3, ge=0)
    """Share of the excess covariance that ``plda-adapted`` adds within speakers, as ivector-adapt-plda does."""
    plda_adapt_between: float = Field(0.7, ge=0)
    """Share of the excess covariance that ``plda-adapted`` adds between speakers."""
    hard_nontargets: int = Field(20, ge=0)
    """Non-target trials per utterance in ``trials_hard``: the nearest of other speakers; 0 omits the list."""
    duration_buckets: list[Annotated[float, Field(gt=0)]] = Field([2.0, 4.0, 8.0])
    """Ascending bounds in seconds between the duration groups of the breakdown."""
    false_acceptance: list[Annotated[float, Field(gt=0, lt=1)]] = Field([0.01, 0.001])
    """False acceptance rates at which an operating point is reported."""

    @model_validator(mode="after")
    def _buckets_ascend(self) -> Scoring:
        if any(one >= other for one, other in pairwise(self.duration_buckets)):
            raise ValueError("duration_buckets must ascend, such as [2, 4, 8] seconds")
        return self
