"""A system of an experiment: its test embeddings, and the back ends trained on its other embeddings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspeaker.backends import (
    BACKENDS,
    BackEnd,
    Embeddings,
    Options,
    PldaEnrolment,
    needed_parts,
    train_backend,
)
from deepspeaker.config import Config, Scoring
from deepspeaker.corpora import DEV_REMEDY
from deepspeaker.errors import InputError
from deepspeaker.kaldi import read_table, read_vector, write_table
from deepspeaker.skipped import list_all

_MAX_NAMED = 10


@dataclass(frozen=True, eq=False)
class System:
    """A network, two fused ones, or an i-vector extractor, with embeddings of the test part and trained back ends."""

    name: str
    folder: Path
    model: str
    """The kind of network, as in the configuration, or ``ivector``."""
    parameters: int
    vectors: dict[str, NDArray[np.float32]]
    """The embedding of each test utterance."""
    backends: dict[tuple[str, PldaEnrolment], BackEnd]
    """Trained back ends by name and by how they enrol several utterances."""
    trained_on: set[str]
    """Speakers of the network's training."""
    learned_from: dict[str, set[str]]
    """For each back end, all speakers that it or the network learned from."""


def check_embedded(exp_dir: Path, data_dir: Path, systems: Sequence[str], backends: Sequence[str]) -> None:
    """Check, before anything is scored, that stage 5 embedded the parts that the back ends learn from.

    Raises
    ------
    InputError
        Names the parts, back ends and systems, and the command that embeds them.
    """
    missing: dict[str, list[str]] = {}
    for part in needed_parts(backends):
        learners = ", ".join(backend for backend in backends if part in BACKENDS[backend].parts)
        if part == "dev" and not (data_dir / "dev_nosil" / "utt2spk").is_file():
            raise InputError(
                f"{data_dir}: has no development speakers, from whom {learners} learn; {DEV_REMEDY}, then run run.sh "
                "from stage 1 on, or remove these back ends from scoring.backends"
            )
        without = [name for name in systems if not (exp_dir / name / f"embeddings_{part}" / "xvector.scp").is_file()]
        if without:
            missing[f"{part} (for {learners})"] = without
    if missing:
        of_systems = ", ".join(dict.fromkeys(name for without in missing.values() for name in without))
        setting = shlex.quote(f"scoring.backends=[{','.join(backends)}]")
        raise InputError(
            f"{exp_dir}: stage 5 has not embedded {' and '.join(missing)} by {of_systems}; with the other options of "
            f"this experiment: run.sh --stage 5 --set {setting}"
        )


def read_system(
    name: str,
    exp_dir: Path,
    data_dir: Path,
    networks: Sequence[dict[str, Any]],
    scoring: Scoring,
    dims: Sequence[int] = (),
) -> System:
    """Read the system ``exp_dir/NAME`` and train its back ends.

    Parameters
    ----------
    name
        The system.
    exp_dir, data_dir
        The experiment and its data.
    networks
        The ``read_network`` of the system; several where embeddings of several networks are concatenated.
    scoring
        The configuration of back ends. ``plda`` is trained for both ways of enrolment.
    dims
        The dimensions of each network's embedding, when there are several.
    """
    folder = exp_dir / name
    vectors = read_vectors(folder / "embeddings_test")
    parts, speakers = {}, {}
    for part in needed_parts(scoring.backends):
        parts[part], speakers[part] = _read_part(folder, data_dir, part)
    if any(BACKENDS[backend].plda for backend in scoring.backends):
        utterances, dim = parts["train"].vectors.shape
        count = len(speakers["train"])
        if utterances - count < dim:
            print(
                f"note: {name}: {utterances} utterances of {count} speakers are too few for PLDA to learn the scatter "
                f"of {dim} dimensions; its log-likelihood ratios will be far too large"
            )
    backends: dict[tuple[str, PldaEnrolment], BackEnd] = {}
    for backend in scoring.backends:
        if BACKENDS[backend].fusion and len(networks) == 1:
            continue
        for enrolment in _ways_of_enrolment(backend, scoring):
            options = Options(
                lda_dim=scoring.lda_dim,
                cohort_top=scoring.cohort_top,
                p_target=scoring.calibration_prior,
                plda_enrolment=enrolment,
                plda_adaptation=(scoring.plda_adapt_within, scoring.plda_adapt_between),
                dims=dims,
            )
            backends[backend, enrolment] = train_backend(backend, parts, options)
    trained_on = {speaker for network in networks for speaker in network["speakers"]}
    return System(
        name=name,
        folder=folder,
        model=" + ".join(network.get("model") or network["config"]["model"]["name"] for network in networks),
        parameters=sum(network["parameters"] for network in networks),
        vectors=vectors,
        backends=backends,
        trained_on=trained_on,
        learned_from={
            backend: trained_on.union(*(speakers[part] for part in BACKENDS[backend].parts))
            for backend in scoring.backends
        },
    )


def scoring_of_ivectors(config: Config, network: dict[str, Any]) -> Scoring:
    """Return the configuration of back ends for i-vectors, given the ``read_network`` of the system.

    LDA keeps as many dimensions as the training speakers and the i-vectors allow.
    """
    options = config.ivector
    most = min(len(network["speakers"]) - 1, network["config"]["ivector"]["dim"])
    return config.scoring.model_copy(update={"backends": options.backends, "lda_dim": min(options.lda_dim, most)})


def _ways_of_enrolment(backend: str, scoring: Scoring) -> tuple[PldaEnrolment, ...]:
    if backend == "plda":
        return "average", "exact"
    return (scoring.plda_enrolment,) if BACKENDS[backend].plda else ("average",)


def check_overlap(system: System, utt2spk: dict[str, str], allowed: bool) -> None:
    """Refuse test speakers that the network or a back end learned from; if they are ``allowed``, only list them."""
    test_speakers = set(utt2spk.values())
    in_training = test_speakers & system.trained_on
    reasons = dict.fromkeys(in_training, "was in training")
    for backend, speakers in system.learned_from.items():
        for speaker in (test_speakers & speakers) - reasons.keys():
            reasons[speaker] = f"is among the speakers that {backend} learns from"
    path = system.folder / "shared_speakers"
    if allowed or not reasons:
        list_all(path, reasons, f"{len(reasons)} test speakers are not new to {system.name}")
        return
    write_table(path, reasons)
    first = ", ".join(sorted(reasons)[:_MAX_NAMED]) + (", ..." if len(reasons) > _MAX_NAMED else "")
    where = "were in the training" if in_training else "are in the cohort or calibration data"
    raise InputError(
        f"{len(reasons)} test speakers {where} of {system.name} (first: {first}; all in {path}); results on them would "
        "mean nothing: take other test speakers, train without them, or insist with --allow-speaker-overlap true"
    )


def read_vectors(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Read the embeddings that stage 5 wrote to ``folder``, by utterance."""
    if not (folder / "xvector.scp").is_file():
        raise InputError(f"{folder}/xvector.scp: no such file; run stage 5 with the same scoring.backends")
    vectors = {utterance: read_vector(location) for utterance, location in read_table(folder / "xvector.scp").items()}
    for utterance, vector in vectors.items():
        if not np.isfinite(vector).all():
            raise InputError(
                f"{folder}/xvector.scp: the embedding of {utterance} has values that are not finite; check its "
                "features, or train again with a lower learning rate"
            )
    return vectors


def read_frames(data_dir: Path) -> dict[str, int]:
    """Read the number of speech frames of each utterance."""
    return {utterance: int(frames) for utterance, frames in read_table(data_dir / "utt2num_frames").items()}


def _read_part(folder: Path, data_dir: Path, part: str) -> tuple[Embeddings, set[str]]:
    """Return the embeddings of a part that back ends learn from, and its speakers."""
    vectors = read_vectors(folder / f"embeddings_{part}")
    utt2spk, frames = read_table(data_dir / f"{part}_nosil" / "utt2spk"), read_frames(data_dir / f"{part}_nosil")
    speaker = [utt2spk[utterance] for utterance in vectors]
    embeddings = Embeddings(
        np.stack(list(vectors.values())),
        np.unique(speaker, return_inverse=True)[1],
        np.array([frames[utterance] for utterance in vectors]),
    )
    return embeddings, set(speaker)
