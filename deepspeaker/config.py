"""The schema of an experiment's YAML file.

Unknown keys are refused, and ``--set section.key=value`` overrides single keys. Every default is here; the files in
``conf/`` name only what they change. The string below a key is its description in the reference documentation. This is
a long module, so that one file shows all keys.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, PositiveInt, Tag, ValidationError, model_validator

from deepspeaker.errors import InputError

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
BatchNorm = Literal["channel", "sequence"]
Compression = Literal["none", "speech-feature", "two-byte", "one-byte"]
Head = Literal["affine", "additive_margin", "additive_angular_margin"]
Negatives = Literal["hardest", "semi-hard", "random"]
WarpFactor = Annotated[float, Field(ge=0.5, le=2.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Demo(_Section):
    """Stage 0: the synthetic demo corpus."""

    train_speakers: int = Field(100, ge=2)
    """Number of training speakers."""
    dev_speakers: int = Field(12, ge=1)
    """Number of development speakers."""
    test_speakers: int = Field(30, ge=2)
    """Number of test speakers."""
    utterances: int = Field(12, ge=2)
    """Number of utterances per speaker."""
    language: Literal["en", "de", "cmn"] = "en"
    """Language: English, German or Mandarin. The voices that the seed chooses are the same in each."""
    phrase: str = ""
    """A phrase that every utterance says, such as a wake phrase; empty for sentences."""
    sessions: int = Field(1, ge=1)
    """Sessions per speaker. Each of several has its own channel, noise, and rate and pitch of the voice."""


class Vad(_Section):
    """Kaldi's energy-based voice activity detection, on the raw log-energy."""

    energy_threshold: float = 5.5
    """Log-energy that a frame of speech must exceed, before the mean term is added."""
    energy_mean_scale: float = 0.5
    """Share of the utterance's mean log-energy that is added to the threshold."""
    frames_context: int = Field(2, ge=0)
    """Frames on each side that take part in the decision about a frame."""
    proportion_threshold: float = Field(0.12, ge=0, le=1)
    """Share of the frames in the context that must exceed the threshold."""


class Features(_Section):
    """Stage 2: log-mel features, voice activity detection and normalisation."""

    sampling_rate: int = Field(16000, gt=0)
    """Sampling rate of the audio, in Hz."""
    num_bins: int = Field(64, gt=0)
    """Number of log-mel bins."""
    low_freq: float = Field(20.0, ge=0)
    """Lower edge of the mel filters, in Hz."""
    high_freq: float = Field(7600.0, gt=0)
    """Upper edge of the mel filters, in Hz; at most half the sampling rate."""
    frame_length: float = Field(0.025, gt=0)
    """Length of a frame, in seconds."""
    frame_shift: float = Field(0.010, gt=0)
    """Distance between the starts of two frames, in seconds."""
    vad: Vad = Vad()
    """Voice activity detection."""
    variance_floor: float = Field(0.01, ge=0)
    """Minimum variance of a bin for variance normalisation, relative to the mean variance of the utterance's bins."""
    raw_compression: Compression = "speech-feature"
    """Compression of the arks with the features of all frames, by Kaldi's methods; it does not change ``*_nosil``."""
    compression: Compression = "one-byte"
    """Compression of the arks with the normalised speech frames (``*_nosil``), by Kaldi's methods."""

    @model_validator(mode="after")
    def _band_fits(self) -> Features:
        if not self.low_freq < self.high_freq <= self.sampling_rate / 2:
            raise ValueError("low_freq must lie below high_freq, and that at or below half the sampling_rate")
        return self


class ResCNNModel(_Section):
    """The convolutional network."""

    name: Literal["rescnn"] = "rescnn"
    """The kind of network; it decides which other keys the section has."""
    channels: list[PositiveInt] = Field([64, 128, 256, 512], min_length=1)
    """Channels of each stage; there are as many stages as values."""
    blocks: int = Field(3, ge=0)
    """Residual blocks of each stage."""
    embedding_dim: int = Field(512, gt=0)
    """Dimension of the embeddings."""
    batch_norm: BatchNorm = "sequence"
    """One scale and shift for each channel (``channel``), or for each channel and frequency bin (``sequence``)."""


class GRUModel(_Section):
    """The recurrent network."""

    name: Literal["gru"] = "gru"
    """The kind of network; it decides which other keys the section has."""
    channels: int = Field(64, gt=0)
    """Channels of the convolution."""
    hidden: int = Field(1024, gt=0)
    """Units of each GRU layer."""
    layers: int = Field(3, gt=0)
    """Number of GRU layers."""
    embedding_dim: int = Field(512, gt=0)
    """Dimension of the embeddings."""
    batch_norm: BatchNorm = "sequence"
    """One scale and shift for each channel (``channel``), or for each channel and frequency bin (``sequence``)."""
    recurrence: Literal["torch", "deep_speech_2"] = "torch"
    """The GRU layers: torch's, or with batch norm of each layer's input products and clipped ReLU (Deep Speech 2)."""


_MODELS: dict[str, type[_Section]] = {"rescnn": ResCNNModel, "gru": GRUModel}


def _model_name(model: Any) -> str:
    return str(model.get("name", "rescnn") if isinstance(model, dict) else getattr(model, "name", "rescnn"))


Model = Annotated[Annotated[ResCNNModel, Tag("rescnn")] | Annotated[GRUModel, Tag("gru")], Discriminator(_model_name)]


class Optimizer(_Section):
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


class _Training(_Section):
    epochs: int = Field(10, ge=0)
    """Number of epochs."""
    steps_per_epoch: int = Field(1000, gt=0)
    """Optimizer steps of an epoch; an epoch is not a pass over the data."""
    patience: int = Field(0, ge=0)
    """Epochs without a lower development EER that end training early; 0: never, as the last epochs often gain most."""
    crop_frames: int = Field(160, gt=0)
    """Frames of each training crop; shorter utterances are repeated."""
    vtlp: list[WarpFactor] = []
    """Warp factors of VTLP augmentation; each adds a copy of every training speaker as a new speaker."""
    optimizer: Optimizer = Optimizer()
    """Optimizer and learning rate."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the network; ``auto`` is bfloat16 where the hardware computes in it, else float32."""
    accumulate: int = Field(1, gt=0)
    """Batches per step (gradient accumulation)."""
    compile: bool = False
    """Whether to compile the network with ``torch.compile``."""


class Softmax(_Training):
    """Stage 3: softmax pre-training."""

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


class Embedding(_Section):
    """Stage 5: embeddings."""

    checkpoint: Literal["auto", "best", "last", "average"] = "auto"
    """Lowest development EER, last epoch, average of the last ones; ``auto``: best if 20 or more speakers chose it."""


class Mfcc(_Section):
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


class IVector(_Section):
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


class Scoring(_Section):
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
    duration_buckets: list[Annotated[float, Field(gt=0)]] = [2.0, 4.0, 8.0]
    """Ascending bounds in seconds between the duration groups of the breakdown."""
    false_acceptance: list[Annotated[float, Field(gt=0, lt=1)]] = [0.01, 0.001]
    """False acceptance rates at which an operating point is reported."""

    @model_validator(mode="after")
    def _buckets_ascend(self) -> Scoring:
        if any(one >= other for one, other in pairwise(self.duration_buckets)):
            raise ValueError("duration_buckets must ascend, such as [2, 4, 8] seconds")
        return self


class Config(_Section):
    """A whole experiment."""

    demo: Demo = Demo()
    """Stage 0: the synthetic demo corpus."""
    features: Features = Features()
    """Stage 2: features."""
    model: Model = ResCNNModel()
    """The network."""
    softmax: Softmax = Softmax()
    """Stage 3: softmax pre-training."""
    triplet: Triplet = Triplet()
    """Stage 4: triplet training."""
    embedding: Embedding = Embedding()
    """Stage 5: embeddings."""
    ivector: IVector = IVector()
    """Stage 5: the i-vector baseline."""
    scoring: Scoring = Scoring()
    """Stage 6: scoring and evaluation."""


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file and apply overrides.

    Parameters
    ----------
    path
        The YAML file; missing keys get their defaults.
    overrides
        Strings ``section.key=value``; the value is YAML too. Later ones win.

    Raises
    ------
    InputError
        If a file, an override or a key is wrong. The line names it; for an unknown key, also the nearest known one.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected sections with keys, such as 'model:'")
    content = {name: {} if section is None else section for name, section in content.items()}
    config = _validated(content, str(path))
    for override in overrides:
        _apply(override, content)
        config = _validated(content, f"--set {override}")
    return config


def dump_config(config: Config) -> str:
    """Return the complete configuration as YAML, with every key and the value in use."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def _apply(override: str, content: dict[str, Any]) -> None:
    """Set one value in the nested dictionary."""
    key, equals, value = override.partition("=")
    *sections, name = key.split(".")
    if not equals or not sections:
        raise InputError(f"--set {override}: the form is section.key=value")
    section = content
    for inner in sections:
        if section.get(inner) is None:
            section[inner] = {}
        section = section[inner]
        if not isinstance(section, dict):
            raise InputError(f"--set {override}: {inner} is a value, it has no keys")
    try:
        section[name] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"--set {override}: the value is not valid YAML") from None


def _validated(content: dict[str, Any], source: str) -> Config:
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"]]
        shown = where.copy()
        if where[0] == "model" and len(where) > 1:
            del shown[1]  # the kind of model, which pydantic inserts
        key = ".".join(shown)
        if first["type"] == "union_tag_invalid":
            name = _model_name(first["input"])
            raise InputError(f"{source}: model.name: {name} is unknown; use {' or '.join(_MODELS)}") from None
        if first["type"] == "extra_forbidden":
            known = _keys_at(where[:-1])
            near = difflib.get_close_matches(where[-1], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
            raise InputError(f"{source}: {key} is unknown; {hint}") from None
        problem = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{source}: {key}: {problem} (found {first['input']!r})") from None


def _keys_at(where: list[str]) -> list[str]:
    section: type[BaseModel] = Config
    for name in where:
        if name == "model":
            continue  # the kind of model follows
        inner = _MODELS.get(name) or section.model_fields[name].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        section = inner
    return list(section.model_fields)
