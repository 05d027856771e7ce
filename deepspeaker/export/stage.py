"""Stage 8: write an experiment's network as one folder that can be used anywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepspeaker import __version__
from deepspeaker.config import Features
from deepspeaker.corpora import DEV_REMEDY
from deepspeaker.embedding import read_network
from deepspeaker.errors import InputError
from deepspeaker.export.card import model_card
from deepspeaker.export.measuring import (
    MAX_UTTERANCES,
    Embedded,
    Scorer,
    calibrate,
    embed_cohort,
    embed_crops,
    embed_part,
    rates_by_seconds,
    scored_pairs,
    seconds_of,
    thresholds,
)
from deepspeaker.features import FeatureIndex
from deepspeaker.files import atomic_folder, atomic_write, sha256_of
from deepspeaker.inference import (
    CARD,
    COHORT,
    DESCRIPTION,
    FALSE_ACCEPTANCE,
    FORMAT,
    INT8_ONNX,
    NETWORK_ONNX,
    ONNX,
    WEIGHTS,
    Description,
    NetworkDescription,
    StoredCalibration,
    StoredCohort,
    threshold_for,
)
from deepspeaker.metrics import det_points, equal_error_rate
from deepspeaker.results import Results

if TYPE_CHECKING:
    from deepspeaker.models import Network

#: Fewer development speakers calibrate nothing.
CALIBRATION_SPEAKERS = 5


def export_model(
    data_dir: Path,
    exp_dir: Path,
    output: Path,
    *,
    system: str = "triplet",
    fuse: Path | None = None,
    cohort: int = 0,
    licence: str = "",
    sources: Sequence[str] = (),
    voices: str = "",
    command: str = "",
    int8: bool = False,
    half: bool = False,
    say: Callable[[str], None] = print,
) -> Description:
    """Write the folder of a model: weights, graphs, calibration, thresholds with their error rates, and a card.

    Parameters
    ----------
    data_dir, exp_dir
        The prepared data and the experiment.
    output
        The folder to write. It is replaced as a whole, at the end.
    system
        "triplet" or "softmax".
    fuse
        Another experiment, on the same features, whose network becomes part of the model.
    cohort
        Number of training speakers for adaptive s-norm, which the folder then holds; 0 for none.
    licence, sources
        The licence of the model, and where the training data come from; for the card.
    voices
        Whose voices the development and test speakers are; for the card and for ``deepspeaker verify``.
    command
        How the network was trained; for the card.
    int8
        Also write a graph with eight-bit weights, and measure its EER.
    half
        Store the weights of the graphs in 16 bits.
    say
        Prints lines for the user.

    Raises
    ------
    InputError
        The experiment has not finished, the networks to fuse need different features, or the disk is full.
    """
    from deepspeaker.models import folded

    results = Results.read(exp_dir / "results.json")
    folders = [exp_dir / system, *([fuse / system] if fuse else [])]
    networks = [read_network(folder) for folder in folders]
    features = _common_features(folders, networks)
    network = _read(folders, networks, features)
    fast = folded(network)
    development, test = embed_part(fast, data_dir / "dev_nosil"), embed_part(fast, data_dir / "test_nosil")
    if test is None:
        raise InputError(f"{data_dir}/test_nosil: no such data directory; run stage 2")
    scorer = _scorer(fast, data_dir, development, cohort, say)
    chosen = thresholds(scorer, development, test)
    default = threshold_for(chosen, FALSE_ACCEPTANCE)
    by_seconds = rates_by_seconds(fast, data_dir / "test_nosil", scorer, default.value, features.frame_shift)
    speakers = sorted({speaker for one in networks for speaker in one["speakers"]})
    measured = {"eer": _eer(test), "speakers": test.speakers, "utterances": len(test.speaker)}
    if test.corpus is not None:
        measured["corpora"] = len(set(test.corpus))
    elif not fuse:
        measured |= _of_results(results, system)
    with atomic_folder(output) as folder:
        _write_weights(network, features, folder, half)
        if scorer.cohort is not None:
            atomic_write(folder / COHORT, scorer.cohort.to_bytes())
        if int8:
            measured["eer_int8"] = _write_int8(folder, data_dir / "test_nosil", test)
        description = Description(
            format=FORMAT,
            version=__version__,
            name=exp_dir.resolve().name,
            corpus=results.corpus,
            synthetic=results.synthetic,
            seed=results.seed,
            features=features,
            networks=[
                NetworkDescription(
                    experiment=one.resolve().parent.name,
                    system=system,
                    checkpoint=content["checkpoint"],
                    config=content["config"]["model"],
                )
                for one, content in zip(folders, networks, strict=True)
            ],
            parameters=sum(one["parameters"] for one in networks),
            embedding_dim=network.embedding_dim,
            calibration=_stored_calibration(scorer, development),
            cohort=_stored_cohort(scorer),
            thresholds=[
                one.model_copy(update={"by_seconds": by_seconds}) if one is default else one for one in chosen
            ],
            seconds=seconds_of((development, test), features.frame_shift),
            training_speakers=len(speakers),
            training_fingerprint=hashlib.sha256("".join(f"{name}\n" for name in speakers).encode()).hexdigest(),
            licence=licence,
            sources=list(sources),
            voices=voices,
            command=command,
            results=measured,
            files={path.name: sha256_of(path) for path in sorted(folder.iterdir())},
        )
        atomic_write(folder / CARD, model_card(description))
        atomic_write(folder / DESCRIPTION, json.dumps(description.model_dump(mode="json"), indent=1) + "\n")
    return description


def _common_features(folders: Sequence[Path], networks: Sequence[dict[str, Any]]) -> Features:
    sections = [Features.model_validate(network["config"]["features"]) for network in networks]
    for folder, section in zip(folders, sections, strict=True):
        for name in Features.model_fields:
            if name != "raw_compression" and getattr(section, name) != getattr(sections[0], name):
                raise InputError(f"{folder}: features.{name} differs from that of {folders[0]}; they cannot be fused")
    return sections[0]


def _read(folders: Sequence[Path], networks: Sequence[dict[str, Any]], features: Features) -> Network:
    from deepspeaker.models import join, load_checkpoint, network_of

    read = [
        network_of(load_checkpoint(folder / network["checkpoint"]))
        for folder, network in zip(folders, networks, strict=True)
    ]
    for folder, network in zip(folders, read, strict=True):
        if network.feature_dim != features.num_bins:
            raise InputError(
                f"{folder}: was trained on features of {network.feature_dim} bins that came with the corpus, not on "
                f"the {features.num_bins} of its configuration; a model for audio files cannot be exported"
            )
    return join(read)


def _scorer(
    network: Network, data_dir: Path, development: Embedded | None, cohort: int, say: Callable[[str], None]
) -> Scorer:
    """Calibrate on the development speakers, with a cohort of training speakers if one is wanted."""
    speakers = 0 if development is None else development.speakers
    if development is None or speakers < CALIBRATION_SPEAKERS or len(development.speaker) == speakers:
        without = "no calibration and no cohort" if cohort else "no calibration"
        say(
            f"{without}: it needs {CALIBRATION_SPEAKERS} development speakers with several utterances, there are "
            f"{speakers}; {DEV_REMEDY}. The test speakers choose the thresholds"
        )
        return Scorer()
    members = embed_cohort(network, data_dir / "train_nosil", cohort) if cohort else None
    return calibrate(development, embed_crops(network, data_dir / "dev_nosil"), members)


def _stored_calibration(scorer: Scorer, development: Embedded | None) -> StoredCalibration | None:
    if scorer.calibration is None or development is None:
        return None
    score, shorter, longer = (float(weight) for weight in scorer.calibration.weights)
    return StoredCalibration(
        weights=(score, shorter, longer),
        offset=scorer.calibration.offset,
        speakers=development.speakers,
        utterances=len(development.speaker),
    )


def _stored_cohort(scorer: Scorer) -> StoredCohort | None:
    cohort = scorer.cohort
    return None if cohort is None else StoredCohort(speakers=len(cohort.embeddings), top=cohort.top)


def _eer(test: Embedded) -> float:
    pairs = scored_pairs(test, Scorer())
    return equal_error_rate(det_points(pairs.scores[pairs.is_target], pairs.scores[~pairs.is_target]))[0]


def _of_results(results: Results, system: str) -> dict[str, Any]:
    """Return the EER of the cosine on the main trial list."""
    for result in results.systems:
        if (result.name, result.backend, result.trials) == (system, "cosine", results.first_list):
            return {"eer": result.eer, "eer_ci95": result.eer_ci95, "trials": result.trials}
    return {}


def _write_weights(network: Network, features: Features, folder: Path, half: bool) -> None:
    from safetensors.torch import save

    from deepspeaker.export.onnx_graphs import halve, write_network_onnx, write_onnx
    from deepspeaker.features import FrontEnd

    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"front_end.{name}": value for name, value in FrontEnd(features).state_dict().items()}
    atomic_write(folder / WEIGHTS, save({name: value.contiguous() for name, value in tensors.items()}))
    write_onnx(network, features, folder / ONNX)
    write_network_onnx(network, folder / NETWORK_ONNX)
    if half:
        halve(folder / ONNX)
        halve(folder / NETWORK_ONNX)


def _write_int8(folder: Path, nosil: Path, test: Embedded) -> float:
    """Write the graph with eight-bit weights, and return the EER of its network on the test speakers."""
    import onnxruntime

    from deepspeaker.embedding import evenly_spaced
    from deepspeaker.export.onnx_graphs import quantise

    quantise(folder / ONNX, folder / INT8_ONNX)
    alone = folder / ".network_int8.onnx"
    quantise(folder / NETWORK_ONNX, alone)
    session = onnxruntime.InferenceSession(str(alone), providers=["CPUExecutionProvider"])
    index = FeatureIndex(nosil)
    chosen = evenly_spaced(np.arange(len(index), dtype=np.int32), MAX_UTTERANCES)
    rows = [session.run(None, {"features": index.read(int(utterance))[None]})[0][0] for utterance in chosen]
    alone.unlink()
    return _eer(replace(test, vectors=np.stack(rows)))
