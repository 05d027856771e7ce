"""Sections of stages 3 and 4: both trainings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from deepspeaker.config.section import Section, WarpFactor

Head = Literal["affine", "additive_margin", "additive_angular_margin"]
Negatives = Literal["hardest", "semi-hard", "random"]


class Optimizer(Section):
    """The optimizer and its learning rate schedule."""

    name: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with momentum."""
    learning_rate: float = Field(1e-3, gt=0)
    """Learning rate at the end of the warm-up, the highest of the training."""
    final_learning_rate: float = Field(0.0, ge=0)
    """Learning rate at the end of the training."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the learning rate falls after the warm-up: along half a cosine, or linearly."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises linearly from near 0."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Momentum of SGD; AdamW does not use it."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of matrices and kernels; biases and batch norms have none."""
    gradient_clip: float = Field(0.0, ge=0)
    """Maximum L2 norm of the gradient of all weights; a longer gradient is scaled down. 0 turns clipping off."""


class SpecAugment(Section):
    """Masks on training crops, with the names and the meaning that they have in Lhotse. Masked values become 0."""

    num_feature_masks: int = Field(0, ge=0)
    """Number of masks over bins."""
    features_mask_size: int = Field(8, gt=0)
    """Highest number of bins of a mask."""
    num_frame_masks: int = Field(0, ge=0)
    """Number of masks over frames."""
    frames_mask_size: int = Field(20, gt=0)
    """Highest number of frames of a mask."""


class _Training(Section):
    epochs: int = Field(10, ge=0)
    """Number of epochs."""
    steps_per_epoch: int = Field(1000, gt=0)
    """Optimizer steps of an epoch; an epoch is not a pass over the data."""
    patience: int = Field(0, ge=0)
    """Epochs without a lower development EER that end training early; 0: never, as the last epochs often gain most."""
    crop_frames: int = Field(160, gt=0)
    """Frames of each training crop; shorter utterances are repeated."""
    min_crop_frames: int = Field(0, ge=0)
    """If above 0, each batch has a random crop length from this to ``crop_frames``, in steps of 16 frames."""
    spec_augment: SpecAugment = SpecAugment()
    """SpecAugment."""
    bin_gain: float = Field(0.0, ge=0)
    """Standard deviation of a random offset of each bin of a crop, in units of the normalised features."""
    vtlp: list[WarpFactor] = Field([])
    """Warp factors of VTLP augmentation; each adds a copy of every training speaker as a new speaker."""
    optimizer: Optimizer = Optimizer()
    """Optimizer and learning rate."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the network; ``auto`` is bfloat16 where the hardware computes in it, else float32."""
    accumulate: int = Field(1, gt=0)
    """Batches per step (gradient accumulation)."""
    compile: bool = False
    """Whether to compile the network with ``torch.compile``."""

    @model_validator(mode="after")
    def _crops_have_a_range(self) -> _Training:
        if self.min_crop_frames > self.crop_frames:
            raise ValueError("min_crop_frames must not exceed crop_frames")
        return self


class Softmax(_Training):
    """Stage 3: softmax pre-training."""

    sampler: Literal["utterances", "speakers"] = "utterances"
    """Whether each pass has every utterance once, or every speaker once, with a random utterance."""
    batch_size: int = Field(64, gt=1)
    """Utterances per batch, over all processes."""
    head: Head = "affine"
    """The classifier: affine (the paper), AM-softmax (``additive_margin``) or ArcFace (``additive_angular_margin``)."""
    scale: float = Field(30.0, gt=0)
    """Factor of the cosines in the margin heads."""
    margin: float = Field(0.2, ge=0)
    """Margin of the margin heads: of the cosine in AM-softmax, in radians in ArcFace."""


class Triplet(_Training):
    """Stage 4: training with the triplet loss on cosine similarity."""

    sampler: Literal["speakers", "pairs"] = "speakers"
    """A batch: ``speakers_per_batch`` x ``utterances_per_speaker`` utterances, or ``pairs_per_batch`` pairs (paper)."""
    pairs_per_batch: int = Field(64, gt=1)
    """Anchors with a positive each, over all processes; a batch has twice as many utterances."""
    speakers_per_batch: int = Field(16, gt=1)
    """Speakers per batch, over all processes."""
    utterances_per_speaker: int = Field(4, gt=1)
    """Utterances per speaker in a batch."""
    margin: float = Field(0.1, gt=0)
    """Margin by which the positive's cosine should exceed the negative's."""
    negatives: Negatives = "hardest"
    """Which utterance of another speaker is the negative of an anchor-positive pair."""
    early_negatives: Negatives = "semi-hard"
    """The choice of negatives during the first ``early_steps`` steps."""
    early_steps: int = Field(0, ge=0)
    """Number of steps that use ``early_negatives``."""
    cross_batch_memory: int = Field(0, ge=0)
    """Number of embeddings of past batches that are further candidates for negatives; 0 turns the memory off."""
    collapse_patience: int = Field(500, ge=0)
    """Steps in a row with a collapsed network after which training stops; 0 checks only the end of the training."""
