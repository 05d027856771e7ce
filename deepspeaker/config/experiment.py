"""A whole configuration: read it, override single keys, write it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from deepspeaker.config.copies import Augment, Conditions, Copy
from deepspeaker.config.data import Demo, Features
from deepspeaker.config.networks import MODELS, Model, ResCNNModel, model_name
from deepspeaker.config.scoring import Embedding, IVector, Scoring
from deepspeaker.config.section import Section
from deepspeaker.config.training import Softmax, Triplet
from deepspeaker.errors import InputError


class Config(Section):
    """A whole experiment."""

    demo: Demo = Demo()
    """Stage 0: the synthetic demo corpus."""
    features: Features = Features()
    """Stage 2: features."""
    augment: Augment = Augment()
    """Stage 2: augmented copies of the training part."""
    conditions: Conditions = Conditions()
    """Stage 2: degraded copies of the test part."""
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
            name = model_name(first["input"])
            raise InputError(f"{source}: model.name: {name} is unknown; use {' or '.join(MODELS)}") from None
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
        if name == "copies":
            return list(Copy.model_fields)
        inner = MODELS.get(name) or section.model_fields[name].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        section = inner
    return list(section.model_fields)
