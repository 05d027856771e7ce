"""The schema of an experiment's YAML file; unknown keys are refused, ``--set section.key=value`` overrides.

The default of every key stands here; the files in ``conf/`` name only what they change.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

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
]
Negatives = Literal["hardest", "semi-hard", "random"]
WarpFactor = Annotated[float, Field(ge=0.5, le=2.0)]
Compression = Literal["none", "speech-feature", "two-byte", "one-byte"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Demo(_Section):
    """Stage 0: the size of the synthetic corpus."""

    train_speakers: int = Field(100, ge=2)
    dev_speakers: int = Field(12, ge=1)
    test_speakers: int = Field(30, ge=2)
    utterances: int = Field(12, ge=2)


class Vad(_Section):
    """Kaldi's energy VAD."""

    energy_threshold: float = 5.5
    energy_mean_scale: float = 0.5
    frames_context: int = Field(2, ge=0)
    proportion_threshold: float = Field(0.12, ge=0, le=1)


class Features(_Section):
    """Stage 2: log-mel features, VAD, normalisation."""

    sampling_rate: int = Field(16000, gt=0)
    num_bins: int = Field(64, gt=0)
    low_freq: float = Field(20.0, ge=0)
    high_freq: float = Field(7600.0, gt=0)
    frame_length: float = Field(0.025, gt=0)
    frame_shift: float = Field(0.010, gt=0)
    vad: Vad = Vad()
    variance_floor: float = Field(0.01, ge=0)
    raw_compression: Compression = "none"
    compression: Compression = "one-byte"

    @model_validator(mode="after")
    def _band_fits(self) -> Features:
        if not self.low_freq < self.high_freq <= self.sampling_rate / 2:
            raise ValueError("low_freq must lie below high_freq, and that at or below half the sampling_rate")
        return self


class ResCNNModel(_Section):
    """The convolutional network."""

    name: Literal["rescnn"] = "rescnn"
    channels: list[PositiveInt] = Field([64, 128, 256, 512], min_length=1)
    blocks: int = Field(3, ge=0)
    embedding_dim: int = Field(512, gt=0)
    batch_norm: Literal["channel", "sequence"] = "sequence"


class GRUModel(_Section):
    """The recurrent network."""

    name: Literal["gru"] = "gru"
    channels: int = Field(64, gt=0)
    hidden: int = Field(1024, gt=0)
    layers: int = Field(3, gt=0)
    embedding_dim: int = Field(512, gt=0)
    batch_norm: Literal["channel", "sequence"] = "sequence"


_MODELS: dict[str, type[_Section]] = {"rescnn": ResCNNModel, "gru": GRUModel}


def _model_name(model: Any) -> str:
    return str(model.get("name", "rescnn") if isinstance(model, dict) else getattr(model, "name", "rescnn"))


#: ``name`` decides which keys the section has.
Model = Annotated[
    Annotated[ResCNNModel, Tag("rescnn")] | Annotated[GRUModel, Tag("gru")], Discriminator(_model_name)
]


class Optimiser(_Section):
    """How the weights move: linear warm-up, then the schedule down to ``final_learning_rate``."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    final_learning_rate: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "linear"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    momentum: float = Field(0.99, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    gradient_clip: float = Field(0.0, ge=0)


class _Training(_Section):
    epochs: int = Field(10, ge=0)
    steps_per_epoch: int = Field(1000, gt=0)
    crop_frames: int = Field(160, gt=0)
    vtlp: list[WarpFactor] = []
    optimiser: Optimiser = Optimiser()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    accumulate: int = Field(1, gt=0)
    compile: bool = False


class Softmax(_Training):
    """Stage 3: softmax pre-training."""

    batch_size: int = Field(64, gt=1)
    head: Literal["affine", "additive_margin", "additive_angular_margin"] = "affine"
    scale: float = Field(30.0, gt=0)
    margin: float = Field(0.2, ge=0)


class Triplet(_Training):
    """Stage 4: triplet training on cosine."""

    speakers_per_batch: int = Field(16, gt=1)
    utterances_per_speaker: int = Field(4, gt=1)
    margin: float = Field(0.1, gt=0)
    negatives: Negatives = "hardest"
    early_negatives: Negatives = "semi-hard"
    early_steps: int = Field(0, ge=0)
    history: int = Field(0, ge=0)
    collapse_patience: int = Field(500, ge=0)


class Embedding(_Section):
    """Stage 5."""

    checkpoint: Literal["best", "last", "average"] = "last"


class Scoring(_Section):
    """Stage 6."""

    backends: list[BackEnd] = Field(["cosine"], min_length=1)
    lda_dim: int = Field(64, gt=0)
    cohort_top: int = Field(50, gt=1)
    calibration_prior: float = Field(0.05, gt=0, lt=1)
    training_utterances: int = Field(20, gt=0)
    bootstrap: int = Field(1000, ge=0)
    plda_enrolment: Literal["average", "exact"] = "average"
    fuse_with: str = ""
    plda_adapt_within: float = Field(0.3, ge=0)
    plda_adapt_between: float = Field(0.7, ge=0)
    hard_nontargets: int = Field(20, ge=0)
    duration_buckets: list[Annotated[float, Field(gt=0)]] = [2.0, 4.0, 8.0]
    false_acceptance: list[Annotated[float, Field(gt=0, lt=1)]] = [0.01, 0.001]

    @model_validator(mode="after")
    def _buckets_ascend(self) -> Scoring:
        if any(one >= other for one, other in pairwise(self.duration_buckets)):
            raise ValueError("duration_buckets must ascend, such as [2, 4, 8] seconds")
        return self


class Config(_Section):
    """A whole experiment."""

    demo: Demo = Demo()
    features: Features = Features()
    model: Model = ResCNNModel()
    softmax: Softmax = Softmax()
    triplet: Triplet = Triplet()
    embedding: Embedding = Embedding()
    scoring: Scoring = Scoring()


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a YAML file and applies ``section.key=value`` overrides, the value being YAML too.

    Raises ``InputError`` that names file or override and key; for an unknown key, the nearest known one.
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
        raise InputError(f"{path}: sections with keys are wanted, such as 'model:'")
    content = {name: {} if section is None else section for name, section in content.items()}
    _validated(content, str(path))
    for override in overrides:
        key, equals, value = override.partition("=")
        names = key.split(".")
        if not equals or len(names) < 2:
            raise InputError(f"--set {override}: the form is section.key=value")
        section = content
        for name in names[:-1]:
            if section.get(name) is None:
                section[name] = {}
            section = section[name]
            if not isinstance(section, dict):
                raise InputError(f"--set {override}: {name} is a value, it has no keys")
        try:
            section[names[-1]] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--set {override}: the value is not valid YAML") from None
        _validated(content, f"--set {override}")
    return _validated(content, str(path))


def dump_config(config: Config) -> str:
    """The complete configuration as YAML, every key with the value in use."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def _validated(content: dict[str, Any], source: str) -> Config:
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"]]
        shown = where.copy()
        if where[0] == "model" and len(where) > 1:
            del shown[1]  # the kind of model, which pydantic puts between
        key = ".".join(shown)
        if first["type"] == "union_tag_invalid":
            name = _model_name(first["input"])
            raise InputError(f"{source}: model.name: {name} is unknown; take {' or '.join(_MODELS)}") from None
        if first["type"] == "extra_forbidden":
            known = _keys_at(where[:-1])
            near = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.4)
            mend = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            raise InputError(f"{source}: {key} is unknown; {mend}") from None
        said = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{source}: {key}: {said} (found {first['input']!r})") from None


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
