"""``model.json``: what an exported model is, how it decides, and how often it errs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepspeaker import PRETRAINED
from deepspeaker.config import Features
from deepspeaker.errors import InputError
from deepspeaker.files import sha256_of

#: The version of the folder's layout. A program reads models of its own version and of earlier ones.
FORMAT = 1
DESCRIPTION, CARD = "model.json", "README.md"
WEIGHTS, ONNX, NETWORK_ONNX, INT8_ONNX = "network.safetensors", "model.onnx", "network.onnx", "model_int8.onnx"
COHORT = "cohort.safetensors"
#: How often different speakers may be taken for one, unless a user says otherwise.
FALSE_ACCEPTANCE = 0.01
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Rates(_Record):
    """Error rates at a threshold on speakers whom the network was not trained on."""

    speakers: int
    utterances: int
    p_miss: Fraction
    """Share of the comparisons of one speaker that the threshold rejects."""
    p_miss_ci95: tuple[Fraction, Fraction] | None = None
    """95 % interval over speakers; None if there are too few."""
    p_fa: Fraction
    """Share of the comparisons of two speakers that the threshold accepts."""
    p_fa_ci95: tuple[Fraction, Fraction] | None = None


class RatesBySeconds(Rates):
    """Error rates on crops of utterances."""

    seconds: float
    """Of speech on both sides."""


class Threshold(_Record):
    """A threshold that accepts at most ``goal`` of the comparisons of different speakers it was chosen on."""

    goal: Fraction
    value: float
    """On log-likelihood ratios if there is a calibration, else on cosines."""
    development: Rates | None = None
    """On the development speakers, who chose the threshold. None if there are none."""
    test: Rates | None = None
    """On the test speakers. Without development speakers, the test speakers chose the threshold."""
    by_seconds: list[RatesBySeconds] = []
    """On crops of the test speakers' utterances, from short to long. Only for the threshold that is the default."""

    def rates_for(self, seconds: float) -> RatesBySeconds | None:
        """Return the rates of the longest crops that are not longer than ``seconds``, None if there are none."""
        return next((rates for rates in reversed(self.by_seconds) if rates.seconds <= seconds), None)


class StoredCalibration(_Record):
    """The affine map from a cosine and two durations to a log-likelihood ratio."""

    weights: tuple[float, float, float]
    """Of the cosine (normalised if there is a cohort), and of the natural logarithms of the speech frames of the
    shorter and the longer side."""
    offset: float
    speakers: int
    """Number of development speakers it was learned from."""
    utterances: int


class StoredCohort(_Record):
    """The cohort for adaptive s-norm."""

    speakers: int
    """Number of training speakers."""
    top: int
    """Number of the nearest ones that are used for each side of a comparison."""


class NetworkDescription(_Record):
    """One network of the model."""

    experiment: str
    system: Literal["softmax", "triplet"]
    checkpoint: str
    config: dict[str, Any]
    """The ``model`` section of its configuration."""


class Description(_Record):
    """The content of ``model.json``."""

    format: int
    version: str
    """The version of deepspeaker that wrote it."""
    name: str
    corpus: str
    synthetic: bool
    """Whether it was trained on synthetic speech."""
    seed: int
    features: Features
    networks: list[NetworkDescription]
    parameters: int
    embedding_dim: int
    calibration: StoredCalibration | None
    cohort: StoredCohort | None = None
    thresholds: list[Threshold]
    """From the loosest to the strictest."""
    seconds: tuple[float, float]
    """Shortest and longest speech of the utterances behind the error rates, in seconds."""
    training_speakers: int
    training_fingerprint: str
    """SHA-256 of the sorted ids of the training speakers, one a line."""
    licence: str
    sources: list[str]
    """Where the training data come from."""
    voices: str = ""
    """Whose voices it was calibrated and measured on."""
    command: str = ""
    """How it was trained."""
    results: dict[str, Any]
    """EER and interval on the test speakers, from results.json."""
    files: dict[str, str]
    """SHA-256 of every other file of the model, by name."""

    @property
    def fingerprint(self) -> str:
        """What identifies the embedding space: embeddings are comparable if their models' fingerprints agree."""
        return self.files[WEIGHTS]

    def threshold(self, false_acceptance: float) -> Threshold:
        """Return the threshold with the highest goal that is not above ``false_acceptance``, or else the strictest."""
        return threshold_for(self.thresholds, false_acceptance)


def threshold_for(thresholds: Sequence[Threshold], false_acceptance: float) -> Threshold:
    """Return the threshold with the highest goal that is not above ``false_acceptance``, or else the strictest."""
    usable = [threshold for threshold in thresholds if threshold.goal <= false_acceptance * (1 + 1e-9)]
    if not usable:
        return min(thresholds, key=lambda threshold: threshold.goal)
    return max(usable, key=lambda threshold: threshold.goal)


def model_folder(path: str | Path) -> Path:
    """Return the folder of an exported model.

    Parameters
    ----------
    path
        That folder, an experiment that has one, or the word ``pretrained`` for the network of this package. A folder
        of your own with this name is ``./pretrained``, or a ``Path``.

    Raises
    ------
    InputError
        There is no model.
    """
    if path == PRETRAINED:
        folder = Path(__file__).resolve().parents[1] / PRETRAINED
        if not (folder / DESCRIPTION).is_file():
            raise InputError("this copy of deepspeaker has no pretrained network; give the folder that stage 8 wrote")
        return folder
    path = Path(path)
    for folder in (path, path / "model"):
        if (folder / DESCRIPTION).is_file():
            return folder
    if not path.exists():
        raise InputError(f"{path}: no such model; give the folder that stage 8 wrote, such as exp/E/model")
    if (path / "results.json").is_file():
        raise InputError(f"{path}: this experiment has no model; run local/8_export.sh data/C {path}")
    raise InputError(f"{path}: not an exported model, it has no {DESCRIPTION}; give the folder that stage 8 wrote")


def read_description(folder: Path) -> Description:
    """Read ``model.json``.

    Raises
    ------
    InputError
        It cannot be read, or a newer version wrote it.
    """
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
            raise InputError(
                f"{path}: has format {content['format']}, written by deepspeaker {content.get('version', '?')}; this "
                f"version reads formats up to {FORMAT}: install a newer one"
            )
        return Description.model_validate(content)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())}); export the model again") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: key {key}: {first['msg']}; export the model again") from None


def checked_file(folder: Path, description: Description, name: str) -> Path:
    """Return the path of a file of the model after comparing its checksum.

    Raises
    ------
    InputError
        The file is missing, truncated or altered.
    """
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path}: no such file; the model is incomplete, copy or export it again")
    if sha256_of(path) != description.files.get(name):
        raise InputError(f"{path}: differs from its checksum in {DESCRIPTION}; copy or export the model again")
    return path
