"""Stages 3 and 4: from a prepared corpus and a configuration to trained checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch

from deepspeaker.config import Config, dump_config
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.files import atomic_write
from deepspeaker.models import (
    ResCNN,
    build_model,
    choose_device,
    load_checkpoint,
    network_of,
    parameter_count,
    save_checkpoint,
)
from deepspeaker.training.loop import Sampler, resolve_precision, train
from deepspeaker.training.objectives import SoftmaxObjective, TripletObjective
from deepspeaker.training.sampler import SpeakerSampler, UtteranceSampler


def _begin(
    config: Config, section: str, data_dir: Path, device: str
) -> tuple[Config, FeatureIndex, FeatureIndex | None, torch.device]:
    """Opens training and development features, settles device and precision."""
    where = choose_device(device)
    precision = resolve_precision(getattr(config, section).precision, where)
    config = config.model_copy(update={section: getattr(config, section).model_copy(update={"precision": precision})})
    index = FeatureIndex(data_dir / "train_nosil")
    if len(index.speakers) < 2:
        raise InputError(f"{index.data_dir}: training needs two speakers at least, there is one")
    dev_index = FeatureIndex(data_dir / "dev_nosil") if (data_dir / "dev_nosil").is_dir() else None
    if dev_index is not None and dev_index.feature_dim != index.feature_dim:
        raise InputError(f"{dev_index.data_dir}: has {dev_index.feature_dim} bins, training {index.feature_dim}")
    single = sum(len(own) == 1 for own in index.of_speaker)
    print(
        f"{len(index.speakers)} speakers ({single} with a single utterance), {len(index)} utterances, "
        f"{index.feature_dim} bins; {where.type}, {precision}, {torch.get_num_threads()} threads"
    )
    if dev_index is None or len(dev_index.speakers) < 2 or all(len(own) < 2 for own in dev_index.of_speaker):
        print("too few development speakers for a development EER; checkpoint_best is the last one")
    return config, index, dev_index, where


def train_softmax(config: Config, data_dir: Path, exp_dir: Path, seed: int, device: str, progress: bool) -> None:
    """Stage 3: a network with fresh weights (kept in ``exp_dir/untrained``) learns to classify the speakers.

    ``data_dir`` holds ``train_nosil`` and, if there are development speakers, ``dev_nosil``; the result goes to
    ``exp_dir/softmax``.
    """
    config, index, dev_index, where = _begin(config, "softmax", data_dir, device)
    options = config.softmax
    copies = 1 + len(options.vtlp)
    torch.manual_seed(seed)
    network = build_model(index.feature_dim, **config.model.model_dump())
    objective = SoftmaxObjective(
        network.embedding_dim, len(index.speakers) * copies, options.head, options.scale, options.margin
    )
    untrained = {
        "config": config.model_dump(),
        "stage": "untrained",
        "seed": seed,
        "feature_dim": index.feature_dim,
        "speakers": index.speakers,
        "network": network.state_dict(),
    }
    save_checkpoint(exp_dir / "untrained" / "checkpoint_last.pt", untrained)
    sampler = UtteranceSampler(len(index), options.batch_size, seed, copies)
    _run(config, "softmax", network, objective, sampler, index, dev_index, exp_dir, seed, where, progress)


def train_triplet(config: Config, data_dir: Path, exp_dir: Path, seed: int, device: str, progress: bool) -> None:
    """Stage 4: the network of ``exp_dir/softmax`` goes on with the triplet loss; the result goes to
    ``exp_dir/triplet``."""
    config, index, dev_index, where = _begin(config, "triplet", data_dir, device)
    options = config.triplet
    initial = exp_dir / "softmax" / "checkpoint_last.pt"
    pretrained = load_checkpoint(initial)
    if pretrained["feature_dim"] != index.feature_dim:
        raise InputError(
            f"{initial}: was trained on {pretrained['feature_dim']} bins, {index.data_dir} has {index.feature_dim}; "
            "run stage 3 again"
        )
    if pretrained["config"]["model"] != config.model.model_dump():
        raise InputError(f"{initial}: its model is not the one of this configuration; run stage 3 again")
    network = network_of(pretrained)
    sampler = SpeakerSampler(
        index.of_speaker, options.speakers_per_batch, options.utterances_per_speaker, seed, 1 + len(options.vtlp)
    )
    objective = TripletObjective(options.margin)
    _run(config, "triplet", network, objective, sampler, index, dev_index, exp_dir, seed, where, progress)


def _run(
    config: Config,
    section: str,
    network: ResCNN,
    objective: SoftmaxObjective | TripletObjective,
    sampler: Sampler,
    index: FeatureIndex,
    dev_index: FeatureIndex | None,
    exp_dir: Path,
    seed: int,
    device: torch.device,
    progress: bool,
) -> None:
    options = getattr(config, section)
    print(
        f"{config.model.name}: {parameter_count(network):,} parameters; {section} training, "
        f"{options.epochs} epochs of {options.steps_per_epoch} steps",
        flush=True,
    )
    folder = exp_dir / section
    atomic_write(folder / "config.yaml", dump_config(config))
    train(
        network,
        objective,
        sampler,
        index,
        dev_index,
        folder,
        config=config.model_dump(),
        section=section,
        seed=seed,
        device=device,
        progress=progress,
    )
    print(f"wrote {folder}/checkpoint_last.pt, checkpoint_best.pt, checkpoint_average.pt, train.csv")
