"""Stages 3 and 4: from a prepared corpus and a configuration to trained checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from deepspeaker.config import Config, dump_config
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.files import atomic_write
from deepspeaker.marks import flattened
from deepspeaker.models import (
    Network,
    build_model,
    choose_device,
    load_checkpoint,
    network_of,
    parameter_count,
    save_checkpoint,
)
from deepspeaker.training.batches import Sampler
from deepspeaker.training.checkpoints import Checkpoints, digest_of_weights
from deepspeaker.training.collapse import all_finite
from deepspeaker.training.distributed import (
    broadcast,
    check_agreement,
    check_batch,
    process_count,
    process_device,
    process_rank,
    processes,
)
from deepspeaker.training.loop import train
from deepspeaker.training.objectives import SoftmaxObjective, TripletObjective
from deepspeaker.training.precision import measured_precision
from deepspeaker.training.sampler import SpeakerSampler, UtteranceSampler


class _Prepared(NamedTuple):
    config: Config  # with the precision settled
    measured: bool  # whether the precision was not set by name
    train_index: FeatureIndex
    dev_index: FeatureIndex | None
    device: torch.device
    exp_dir: Path
    seed: int
    progress: bool


def _prepared(
    config: Config, section: str, data_dir: Path, exp_dir: Path, seed: int, device: torch.device, progress: bool
) -> _Prepared:
    """Opens training and development features, settles the precision."""
    index = FeatureIndex(data_dir / "train_nosil")
    _check_spk2utt(index)
    if len(index.speakers) < 2:
        raise InputError(f"{index.data_dir}: training needs two speakers at least, there is one")
    dev_index = FeatureIndex(data_dir / "dev_nosil") if (data_dir / "dev_nosil").is_dir() else None
    if dev_index is not None and dev_index.feature_dim != index.feature_dim:
        raise InputError(f"{dev_index.data_dir}: has {dev_index.feature_dim} bins, training {index.feature_dim}")
    settings = getattr(config, section)
    measured = settings.precision == "auto"
    if measured:
        precision = broadcast(_precision(config, section, index.feature_dim, exp_dir, device))
        settings = settings.model_copy(update={"precision": precision})
        config = config.model_copy(update={section: settings})
    single = int((index.of_speaker.sizes() == 1).sum())
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    _say(
        f"{len(index.speakers)} speakers ({single} with a single utterance), {len(index)} utterances, "
        f"{index.feature_dim} bins; {process_count()} x {device.type}, {settings.precision}{threads}"
    )
    if dev_index is None or len(dev_index.speakers) < 2 or (dev_index.of_speaker.sizes() < 2).all():
        _say("too few development speakers for a development EER; checkpoint_best is the last one")
    return _Prepared(config, measured, index, dev_index, device, exp_dir, seed, progress)


def _check_spk2utt(index: FeatureIndex) -> None:
    """The speakers are those of ``utt2spk``; a ``spk2utt`` beside it must say the same. Only its counts are looked at:
    it may have millions of utterances."""
    path = index.data_dir / "spk2utt"
    if not path.is_file():
        return
    told = {}
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if words := line.split():
                told[words[0]] = len(words) - 1
    for speaker, count in zip(index.speakers, index.of_speaker.sizes().tolist(), strict=True):
        if (its := told.pop(speaker, 0)) != count:
            raise InputError(
                f"{path}: {speaker} has {its} utterances, by utt2spk and feats.scp {count}; mend them by "
                f"utils/fix_data_dir.sh {index.data_dir}"
            )
    if told:
        raise InputError(
            f"{path}: {next(iter(told))} is not in utt2spk and feats.scp; mend them by "
            f"utils/fix_data_dir.sh {index.data_dir}"
        )


def _precision(config: Config, section: str, feature_dim: int, exp_dir: Path, device: torch.device) -> str:
    """What "auto" stands for: what was measured in this experiment already, else what a measurement says."""
    for stage in dict.fromkeys((section, "softmax")):
        checkpoint = exp_dir / stage / "checkpoint_last.pt"
        if checkpoint.is_file() and (content := load_checkpoint(checkpoint)).get("precision_measured"):
            settled: str = content["config"][stage]["precision"]
            return settled
    network = build_model(feature_dim, **config.model.model_dump())
    precision, ratio = measured_precision(network, getattr(config, section).crop_frames, device)
    _say(f"precision: {precision}; training in bfloat16 is {ratio:.1f} times as fast as in float32 here")
    return precision


def _say(line: str) -> None:
    if process_rank() == 0:
        print(line, flush=True)


def train_softmax(
    config: Config,
    data_dir: Path,
    exp_dir: Path,
    seed: int,
    device: str,
    progress: bool,
    init_from: Path | None = None,
) -> None:
    """Stage 3: a network learns to classify the speakers.

    It has fresh weights, or those of the checkpoint ``init_from`` (of a network of the same shape; its speakers may be
    others), and is kept as it was in ``exp_dir/untrained``. ``data_dir`` holds ``train_nosil`` and, if there are
    development speakers, ``dev_nosil``; the result goes to ``exp_dir/softmax``.
    """
    with processes(where := process_device(choose_device(device))):
        prepared = _prepared(config, "softmax", data_dir, exp_dir, seed, where, progress)
        config, index = prepared.config, prepared.train_index
        options = config.softmax
        check_batch(options.batch_size, "softmax.batch_size")
        copies = 1 + len(options.vtlp)
        torch.manual_seed(seed)
        network = build_model(index.feature_dim, **config.model.model_dump())
        objective = SoftmaxObjective(
            network.embedding_dim, len(index.speakers) * copies, options.head, options.scale, options.margin
        )
        if init_from is not None:
            network.load_state_dict(_fitting(init_from, config, index)["network"])
            _say(f"starts from the weights of {init_from}")
        checkpoints = _checkpoints(prepared, "softmax", network if init_from is not None else None)
        if process_rank() == 0:
            untrained = {**checkpoints.about, "stage": "untrained", "network": network.state_dict()}
            save_checkpoint(exp_dir / "untrained" / "checkpoint_last.pt", untrained)
        sampler = UtteranceSampler(len(index), options.batch_size, seed, copies)
        _run(prepared, checkpoints, network, objective, sampler)


def train_triplet(config: Config, data_dir: Path, exp_dir: Path, seed: int, device: str, progress: bool) -> None:
    """Stage 4: the network of ``exp_dir/softmax`` goes on with the triplet loss; the result goes to
    ``exp_dir/triplet``."""
    with processes(where := process_device(choose_device(device))):
        prepared = _prepared(config, "triplet", data_dir, exp_dir, seed, where, progress)
        config, index = prepared.config, prepared.train_index
        options = config.triplet
        network = network_of(_fitting(exp_dir / "softmax" / "checkpoint_last.pt", config, index))
        sampler = SpeakerSampler(
            index.of_speaker,
            options.speakers_per_batch,
            options.utterances_per_speaker,
            seed,
            1 + len(options.vtlp),
            frames=index.frames,
            crop_frames=options.crop_frames,
        )
        check_batch(sampler.speakers * sampler.per_speaker, "triplet.speakers_per_batch, utterances_per_speaker")
        if sampler.left_out:
            _say(
                f"{sampler.left_out} of {len(index.speakers)} speakers left out: one utterance, shorter than two crops "
                f"of {options.crop_frames} frames"
            )
        if sampler.speakers < options.speakers_per_batch:
            _say(
                f"triplet.speakers_per_batch is {options.speakers_per_batch}, there are {sampler.speakers} speakers: a "
                f"batch has all of them, {sampler.speakers} x {options.utterances_per_speaker} utterances"
            )
            options = options.model_copy(update={"speakers_per_batch": sampler.speakers})  # as used
            prepared = prepared._replace(config=config.model_copy(update={"triplet": options}))
        objective = TripletObjective(
            options.margin,
            options.negatives,
            early_negatives=options.early_negatives,
            early_steps=options.early_steps * options.accumulate,
            history=options.history,
            embedding_dim=network.embedding_dim,
            seed=seed,
        )
        _run(prepared, _checkpoints(prepared, "triplet", network), network, objective, sampler)


def _fitting(checkpoint: Path, config: Config, index: FeatureIndex) -> dict[str, Any]:
    """A checkpoint whose network is that of the configuration and features."""
    content = load_checkpoint(checkpoint)
    if content["feature_dim"] != index.feature_dim:
        raise InputError(
            f"{checkpoint}: was trained on {content['feature_dim']} bins, {index.data_dir} has {index.feature_dim}; "
            "train on such features (stage 3)"
        )
    if not all_finite(content["network"].values()):
        raise InputError(f"{checkpoint}: its weights are not finite numbers; train it anew, or take another")
    if content["config"]["model"] != config.model.model_dump():
        raise InputError(
            f"{checkpoint}: its model is not this configuration's; run stage 3 again, or take its model section"
        )
    return content


def _checkpoints(prepared: _Prepared, section: str, given: Network | None) -> Checkpoints:
    """Those of this training, before anything is written; ``given`` are weights that it starts from, if not fresh."""
    checkpoints = Checkpoints(
        prepared.exp_dir / section,
        config=prepared.config.model_dump(),
        section=section,
        seed=prepared.seed,
        feature_dim=prepared.train_index.feature_dim,
        speakers=prepared.train_index.speakers,
        origin=digest_of_weights(given.state_dict()) if given is not None else "",
        precision_measured=prepared.measured,
    )
    facts: dict[str, object] = {
        "the step to go on from": checkpoints.begun["step"] if checkpoints.begun else 0,
        "the SHA-256 of the weights to begin with": checkpoints.about["origin"],
        **flattened(checkpoints.about["config"]),
        "the seed": prepared.seed,
        "the number of utterances": len(prepared.train_index),
        "the number of speakers": len(prepared.train_index.speakers),
    }
    check_agreement(facts, prepared.exp_dir)
    return checkpoints


def _run(
    prepared: _Prepared,
    checkpoints: Checkpoints,
    network: Network,
    objective: SoftmaxObjective | TripletObjective,
    sampler: Sampler,
) -> None:
    config, section, folder = prepared.config, checkpoints.about["stage"], checkpoints.folder
    options = getattr(config, section)
    _say(
        f"{config.model.name}: {parameter_count(network):,} parameters; {section} training, "
        f"{options.epochs} epochs of {options.steps_per_epoch} steps"
    )
    if process_rank() == 0:
        atomic_write(folder / "config.yaml", dump_config(config))
    train(
        network,
        objective,
        sampler,
        prepared.train_index,
        prepared.dev_index,
        checkpoints,
        device=prepared.device,
        progress=prepared.progress and process_rank() == 0,
    )
    _say(f"wrote {folder}/checkpoint_last.pt, checkpoint_best.pt, checkpoint_average.pt, train.csv")
