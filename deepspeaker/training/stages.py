"""Stages 3 and 4: train on a prepared corpus as a configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml

from deepspeaker.config import Config, Softmax, Triplet
from deepspeaker.embedding import choose_checkpoint
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.files import atomic_write
from deepspeaker.models import (
    Network,
    build_model,
    choose_device,
    load_checkpoint,
    network_of,
    parameter_count,
    save_checkpoint,
)
from deepspeaker.stages import flattened, with_defaults
from deepspeaker.training.augmented import Sources
from deepspeaker.training.batches import PairSampler, SpeakerSampler, UtteranceSampler
from deepspeaker.training.checkpoints import Checkpoints, digest_of_weights
from deepspeaker.training.collapse import all_finite
from deepspeaker.training.distributed import check_agreement, check_batch, rank, world_size
from deepspeaker.training.inputs import open_features, report
from deepspeaker.training.loop import train
from deepspeaker.training.objectives import SoftmaxObjective, TripletObjective
from deepspeaker.training.processes import local_device, process_group

Options = TypeVar("Options", Softmax, Triplet)

_CPUINFO = Path("/proc/cpuinfo")


def train_softmax(
    config: Config,
    data_dir: Path,
    exp_dir: Path,
    seed: int,
    device: str,
    progress: bool,
    init_from: Path | None = None,
    record: dict[str, Any] | None = None,
) -> None:
    """Run stage 3: train a network as a classifier of the speakers.

    The result goes to ``exp_dir/softmax``, the network before training to ``exp_dir/untrained``.

    Parameters
    ----------
    config
        The sections ``model``, ``softmax`` and ``augment`` and the band of ``features`` are read.
    data_dir
        Contains ``train_nosil``, the ``train_NAME_nosil`` of augmented copies and, if there are development speakers,
        ``dev_nosil``.
    exp_dir
        The folder of the experiment.
    seed
        Decides the initial weights, the batches and the crops.
    device
        "auto", "cpu" or "cuda".
    progress
        Whether to show a progress bar on stderr.
    init_from
        A checkpoint to start from instead of fresh weights. Its network has the same shape; its speakers may differ.
    record
        The complete configuration of the experiment, kept with the result; by default that of ``config``.

    Raises
    ------
    InputError
        If something does not fit. Nothing is written before.

    See Also
    --------
    deepspeaker.training.train : The loop, with the errors that can happen later.
    """
    with process_group(torch_device := local_device(choose_device(device))):
        folder = exp_dir / "softmax"
        index, dev_index, sources = open_features(data_dir, config.softmax.patience, config.augment)
        options, begun = _resolve_precision(config.softmax, folder, torch_device)
        check_batch(options.batch_size, "softmax.batch_size")
        copies = 1 + len(options.vtlp)
        voices = copies * (sources.voices if sources else 1)
        network = _starting_network(config, index, seed, init_from)
        objective = SoftmaxObjective(
            network, network.embedding_dim, len(index.speakers) * voices, options.head, options.scale, options.margin
        )
        initial = None if init_from is None else network
        checkpoints = _open_checkpoints(folder, config, options, record, seed, index, dev_index, initial, begun)
        _save_untrained(exp_dir, checkpoints, network)
        of_speaker = index.of_speaker if options.sampler == "speakers" else None
        sampler = UtteranceSampler(len(index), options.batch_size, seed, copies, sources, of_speaker)
        band = (config.features.low_freq, config.features.high_freq)
        report(_summary(config, options, network, torch_device))
        train(
            objective,
            sampler,
            index,
            dev_index,
            options,
            band,
            checkpoints,
            device=torch_device,
            progress=progress,
            sources=sources,
        )
        report(f"wrote {folder}/checkpoint_last.pt, checkpoint_best.pt, checkpoint_average.pt, train.csv")


def train_triplet(
    config: Config,
    data_dir: Path,
    exp_dir: Path,
    seed: int,
    device: str,
    progress: bool,
    init_from: Path | None = None,
    pretraining: bool = True,
    record: dict[str, Any] | None = None,
) -> None:
    """Run stage 4: train a network with the triplet loss.

    It starts from the network of ``exp_dir/softmax``, from the checkpoint that ``embedding.checkpoint: auto`` would
    choose. Without pre-training it starts from ``init_from`` or from fresh weights, and the network before training
    goes to ``exp_dir/untrained``. The result goes to ``exp_dir/triplet``.

    Parameters
    ----------
    config, data_dir, exp_dir, seed, device, progress, record
        As for ``train_softmax``. The section ``triplet`` is read instead of ``softmax``.
    init_from
        A checkpoint to start from instead of that of ``exp_dir/softmax``. Its speakers may differ.
    pretraining
        Whether to start from ``exp_dir/softmax``. No effect if there is ``init_from``.

    Raises
    ------
    InputError
        If something does not fit. Nothing is written before.
    """
    with process_group(torch_device := local_device(choose_device(device))):
        folder = exp_dir / "triplet"
        index, dev_index, sources = open_features(data_dir, config.triplet.patience, config.augment)
        options, begun = _resolve_precision(config.triplet, folder, torch_device)
        alone = init_from is not None or not pretraining
        if alone:
            network = _starting_network(config, index, seed, init_from)
        else:
            start, reason = choose_checkpoint(exp_dir / "softmax", "auto")
            network = network_of(_compatible_checkpoint(start, config, index))
            report(f"starts from {start} ({reason})")
        sampler, options = _triplet_sampler(options, index, seed, sources)
        objective = TripletObjective(
            network,
            options.margin,
            options.negatives,
            early_negatives=options.early_negatives,
            early_steps=options.early_steps * options.accumulate,
            sampled_pairs=options.sampler == "pairs",
            cross_batch_memory=options.cross_batch_memory,
            embedding_dim=network.embedding_dim,
            seed=seed,
        )
        initial = None if alone and init_from is None else network
        checkpoints = _open_checkpoints(folder, config, options, record, seed, index, dev_index, initial, begun)
        if alone:
            _save_untrained(exp_dir, checkpoints, network)
        band = (config.features.low_freq, config.features.high_freq)
        report(_summary(config, options, network, torch_device))
        train(
            objective,
            sampler,
            index,
            dev_index,
            options,
            band,
            checkpoints,
            device=torch_device,
            progress=progress,
            sources=sources,
        )
        report(f"wrote {folder}/checkpoint_last.pt, checkpoint_best.pt, checkpoint_average.pt, train.csv")


def _starting_network(config: Config, index: FeatureIndex, seed: int, init_from: Path | None) -> Network:
    """Return a network with fresh weights, decided by the seed, or with those of a checkpoint."""
    torch.manual_seed(seed)
    network = build_model(index.feature_dim, **config.model.model_dump())
    if init_from is not None:
        network.load_state_dict(_compatible_checkpoint(init_from, config, index)["network"])
        report(f"starts from the weights of {init_from}")
    return network


def _save_untrained(exp_dir: Path, checkpoints: Checkpoints, network: Network) -> None:
    if rank() == 0:
        untrained = {**checkpoints.about, "stage": "untrained", "network": network.state_dict()}
        save_checkpoint(exp_dir / "untrained" / "checkpoint_last.pt", untrained)


def _triplet_sampler(
    options: Triplet, index: FeatureIndex, seed: int, sources: Sources | None
) -> tuple[SpeakerSampler | PairSampler, Triplet]:
    """Return the sampler, and the options with the number of speakers that a batch really has."""
    sampler: SpeakerSampler | PairSampler
    copies, crop = 1 + len(options.vtlp), options.crop_frames
    crops: dict[str, Any] = {"frames": index.frames, "crop_frames": crop, "sources": sources}
    if options.sampler == "pairs":
        pairs, of_speaker = options.pairs_per_batch, index.of_speaker
        sampler = PairSampler(of_speaker, index.speaker, pairs, seed, copies, **crops)
        check_batch(2 * pairs, "triplet.pairs_per_batch")
    else:
        wanted, each = options.speakers_per_batch, options.utterances_per_speaker
        sampler = SpeakerSampler(index.of_speaker, wanted, each, seed, copies, **crops)
        check_batch(sampler.speakers * each, "triplet.speakers_per_batch, utterances_per_speaker")
        if sampler.speakers < wanted:
            report(
                f"triplet.speakers_per_batch is {wanted}, there are {sampler.speakers} speakers: a batch has all of "
                f"them, {sampler.speakers} x {each} utterances"
            )
            options = options.model_copy(update={"speakers_per_batch": sampler.speakers})
    if sampler.left_out:
        report(
            f"{sampler.left_out} of {len(index.speakers)} speakers left out: one utterance, shorter than two crops "
            f"of {crop} frames"
        )
    return sampler, options


def _resolve_precision(options: Options, folder: Path, device: torch.device) -> tuple[Options, dict[str, Any] | None]:
    """Return the options with the precision that "auto" means, and the checkpoint of a training that has begun."""
    last = folder / "checkpoint_last.pt"
    begun = load_checkpoint(last) if last.is_file() else None
    if options.precision == "auto":
        precision = begun["config"][folder.name]["precision"] if begun else fast_precision(device)
        options = options.model_copy(update={"precision": precision})
    return options, begun


def fast_precision(device: torch.device) -> str:
    """Return the precision that "auto" means: "bfloat16" if the hardware computes in it, else "float32"."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    flags = _CPUINFO.read_text(encoding="utf-8", errors="replace").split() if _CPUINFO.is_file() else []
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def _compatible_checkpoint(checkpoint: Path, config: Config, index: FeatureIndex) -> dict[str, Any]:
    """Read a checkpoint, and raise ``InputError`` if its network does not fit the configuration and the features."""
    content = load_checkpoint(checkpoint)
    if content["feature_dim"] != index.feature_dim:
        raise InputError(
            f"{checkpoint}: was trained on {content['feature_dim']} bins, {index.data_dir} has {index.feature_dim}; "
            "train on such features (stage 3)"
        )
    if not all_finite(content["network"].values()):
        raise InputError(f"{checkpoint}: its weights are not finite numbers; train it again, or use another")
    model = flattened({"model": config.model.model_dump()})
    if with_defaults(flattened({"model": content["config"]["model"]}), model) != model:
        raise InputError(
            f"{checkpoint}: its model differs from this configuration's; run stage 3 again, or use its model section"
        )
    return content


def _open_checkpoints(
    folder: Path,
    config: Config,
    options: Options,
    record: dict[str, Any] | None,
    seed: int,
    index: FeatureIndex,
    dev_index: FeatureIndex | None,
    initial: Network | None,
    begun: dict[str, Any] | None,
) -> Checkpoints:
    """Return the checkpoints of this training, and write ``config.yaml``.

    ``initial`` has the weights that training starts from, if they are not fresh.
    """
    record = config.model_dump() if record is None else record
    about: dict[str, Any] = {
        "config": {**record, "model": config.model.model_dump(), folder.name: options.model_dump()},
        "stage": folder.name,
        "seed": seed,
        "feature_dim": index.feature_dim,
        "speakers": index.speakers,
        "dev_speakers": 0 if dev_index is None else int((dev_index.of_speaker.sizes() >= 2).sum()),
        "origin": "" if initial is None else digest_of_weights(initial.state_dict()),
    }
    checkpoints = Checkpoints(folder, about, begun)
    facts: dict[str, object] = {
        "the step to continue from": begun["step"] if begun else 0,
        "the SHA-256 of the weights to begin with": about["origin"],
        **flattened(about["config"]),
        "the seed": seed,
        "the number of utterances": len(index),
        "the number of speakers": len(index.speakers),
    }
    check_agreement(facts, folder.parent)
    if rank() == 0:
        atomic_write(folder / "config.yaml", yaml.safe_dump(record, sort_keys=False))
    return checkpoints


def _summary(config: Config, options: Softmax | Triplet, network: Network, device: torch.device) -> str:
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    section = "softmax" if isinstance(options, Softmax) else "triplet"
    return (
        f"{config.model.name}: {parameter_count(network):,} parameters; {section} training, {options.epochs} epochs of "
        f"{options.steps_per_epoch} steps; {world_size()} x {device.type}, {options.precision}{threads}"
    )
