"""What a network makes of the test utterances, and the back ends that learnt from its other embeddings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspeaker.backends import BACKENDS, BackEnd, Embeddings, PldaEnrolment, build_backend, needed_parts
from deepspeaker.config import Scoring
from deepspeaker.corpora import DEV_REMEDY
from deepspeaker.errors import InputError
from deepspeaker.kaldi import read_table, read_vector, write_table
from deepspeaker.models import network_of, parameter_count
from deepspeaker.skipped import list_all

_MOST_NAMED = 10
#: Back ends with a PLDA in them.
_PLDA = {"plda", "plda-adapted", "fused"}


@dataclass(frozen=True, eq=False)
class System:
    """A network's embeddings, and the back ends that learnt from them."""

    name: str
    folder: Path
    parameters: int
    vectors: dict[str, NDArray[np.float32]]  # of the test utterances
    backends: dict[tuple[str, PldaEnrolment], BackEnd]
    known: dict[str, set[str]]  # back end -> speakers that the network or the back end learnt from


def check_embedded(exp_dir: Path, data_dir: Path, systems: Sequence[str], backends: Sequence[str]) -> None:
    """Raises ``InputError`` unless stage 5 embedded every part that the back ends learn from, for every system.

    The error names parts, back ends and systems, and the command that embeds them. Call it before anything is scored.
    """
    missing: dict[str, list[str]] = {}
    for part in needed_parts(backends):
        learning = ", ".join(backend for backend in backends if part in BACKENDS[backend])
        if part == "dev" and not (data_dir / "dev_nosil" / "utt2spk").is_file():
            raise InputError(
                f"{data_dir}: has no development speakers, from whom {learning} learn; {DEV_REMEDY}, then run run.sh "
                "from stage 1 on, or take these back ends out of scoring.backends"
            )
        lacking = [name for name in systems if not (exp_dir / name / f"embeddings_{part}" / "xvector.scp").is_file()]
        if lacking:
            missing[f"{part} (for {learning})"] = lacking
    if missing:
        of_systems = ", ".join(dict.fromkeys(name for lacking in missing.values() for name in lacking))
        setting = shlex.quote(f"scoring.backends=[{','.join(backends)}]")
        raise InputError(
            f"{exp_dir}: stage 5 has not embedded {' and '.join(missing)} by {of_systems}; with the other options of "
            f"this experiment: run.sh --stage 5 --set {setting}"
        )


def read_system(
    name: str,
    exp_dir: Path,
    data_dir: Path,
    checkpoints: Sequence[dict[str, Any]],
    options: Scoring,
    dims: Sequence[int] = (),
) -> System:
    """The system of ``exp_dir/NAME`` with the back ends of the configuration, PLDA with both ways of enrolment.

    Several ``checkpoints`` where its embeddings are those of several networks, of ``dims`` dimensions each.
    """
    folder = exp_dir / name
    vectors = read_vectors(folder / "embeddings_test")
    parts, speakers = {}, {}
    for part in needed_parts(options.backends):
        parts[part], speakers[part] = _embeddings(folder, data_dir, part)
    if _PLDA & set(options.backends):
        utterances, dim = parts["train"].vectors.shape
        count = len(speakers["train"])
        if utterances - count < dim:
            print(
                f"note: {name}: PLDA learns the scatter of {dim} dimensions from {utterances} utterances of {count} "
                "speakers: too few, its log-likelihood ratios will be far too large"
            )
    backends: dict[tuple[str, PldaEnrolment], BackEnd] = {}
    for backend in options.backends:
        ways: tuple[PldaEnrolment, ...] = ("average",)
        if backend == "plda":
            ways = ("average", "exact")
        elif backend in ("plda-adapted", "fused"):
            ways = (options.plda_enrolment,)
        for way in ways:
            backends[backend, way] = build_backend(
                backend,
                parts,
                lda_dim=options.lda_dim,
                cohort_top=options.cohort_top,
                p_target=options.calibration_prior,
                plda_enrolment=way,
                plda_adaptation=(options.plda_adapt_within, options.plda_adapt_between),
                dims=dims,
            )
    known: dict[str, set[str]] = {
        backend: set().union(
            *(checkpoint["speakers"] for checkpoint in checkpoints), *(speakers[part] for part in BACKENDS[backend])
        )
        for backend in options.backends
    }
    parameters = sum(parameter_count(network_of(checkpoint)) for checkpoint in checkpoints)
    return System(name, folder, parameters, vectors, backends, known)


def check_overlap(system: System, trained: set[str], utt2spk: dict[str, str], allowed: bool) -> None:
    """Refuses, or says, that test speakers were in training or in what back ends learn from (cohort, calibration)."""
    told = set(utt2spk.values())
    reasons = dict.fromkeys(told & trained, "was in training")
    for backend, known in system.known.items():
        for speaker in (told & known) - reasons.keys():
            reasons[speaker] = f"is among the speakers that {backend} learns from"
    path = system.folder / "shared_speakers"
    if allowed or not reasons:
        list_all(path, reasons, f"{len(reasons)} test speakers are not new to {system.name}")
        return
    write_table(path, reasons)
    shared = sorted(reasons)
    named = ", ".join(shared[:_MOST_NAMED]) + (", ..." if len(shared) > _MOST_NAMED else "")
    how = "were in the training" if told & trained else "are in the cohort or calibration data"
    raise InputError(
        f"{len(shared)} test speakers {how} of {system.name} (first: {named}; all in {path}); results on them would "
        "mean nothing: take other test speakers, train without them, or insist with --allow-speaker-overlap true"
    )


def read_vectors(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The embeddings that stage 5 left in ``folder``."""
    if not (folder / "xvector.scp").is_file():
        raise InputError(f"{folder}/xvector.scp: no such file; run stage 5 with the same scoring.backends")
    vectors = {utterance: read_vector(location) for utterance, location in read_table(folder / "xvector.scp").items()}
    for utterance, vector in vectors.items():
        if not np.isfinite(vector).all():
            raise InputError(
                f"{folder}/xvector.scp: the embedding of {utterance} has values that are not finite numbers; look at "
                "its features, or train again with a lower learning rate"
            )
    return vectors


def read_frames(data_dir: Path) -> dict[str, int]:
    """The speech frames of each utterance."""
    return {utterance: int(frames) for utterance, frames in read_table(data_dir / "utt2num_frames").items()}


def _embeddings(folder: Path, data_dir: Path, part: str) -> tuple[Embeddings, set[str]]:
    """The embeddings of a part that a back end learns from, and its speakers."""
    vectors = read_vectors(folder / f"embeddings_{part}")
    utt2spk, frames = read_table(data_dir / f"{part}_nosil" / "utt2spk"), read_frames(data_dir / f"{part}_nosil")
    speaker = [utt2spk[utterance] for utterance in vectors]
    embeddings = Embeddings(
        np.stack(list(vectors.values())),
        np.unique(speaker, return_inverse=True)[1],
        np.array([frames[utterance] for utterance in vectors]),
    )
    return embeddings, set(speaker)
