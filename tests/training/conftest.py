from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from deepspeaker.kaldi import ArkWriter, spk2utt_of, write_spk2utt, write_table

WriteFeatures = Callable[..., Path]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Train on one thread: with tiny networks, several threads mostly wait for each other."""
    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(deterministic)


def _write_features(
    folder: Path,
    speakers: int,
    utterances: int,
    *,
    prefix: str = "s",
    bins: int = 8,
    frames: tuple[int, int] = (12, 40),
    noise: float = 0.7,
    seed: int = 0,
) -> Path:
    """Write a Kaldi data directory of random features; each speaker has a mean and a slow oscillation."""
    generator = np.random.default_rng([seed, *prefix.encode()])
    folder.mkdir(parents=True)
    utt2spk, num_frames = {}, {}
    with ArkWriter(folder / "feats.ark", folder / "feats.scp") as writer:
        for number in range(speakers):
            speaker = f"{prefix}{number:02d}"
            mean, phase = generator.normal(size=bins), generator.uniform(0, 6, bins)
            for which in range(utterances):
                utterance = f"{speaker}-{which:02d}"
                length = int(generator.integers(*frames))
                wave = np.sin(np.arange(length)[:, None] * 0.7 + phase)
                values = mean + wave + noise * generator.normal(size=(length, bins))
                writer.write(utterance, values.astype(np.float32))
                utt2spk[utterance], num_frames[utterance] = speaker, str(length)
    write_table(folder / "utt2spk", utt2spk)
    write_spk2utt(folder / "spk2utt", spk2utt_of(utt2spk))
    write_table(folder / "utt2num_frames", num_frames)
    return folder


@pytest.fixture(scope="session")
def write_features() -> WriteFeatures:
    return _write_features


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train_nosil`` with 8 speakers of 4 utterances, ``dev_nosil`` with 5 others."""
    folder = tmp_path_factory.mktemp("data")
    _write_features(folder / "train_nosil", 8, 4, prefix="t")
    _write_features(folder / "dev_nosil", 5, 4, prefix="d")
    return folder
