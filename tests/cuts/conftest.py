"""Small CutSets with audio or features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Features, MonoCut, Recording, SupervisionSegment

from deepspeaker.kaldi import ArkWriter, read_table

MakeCuts = Callable[..., CutSet]


def with_speaker(cut: MonoCut, speaker: str, **more: object) -> MonoCut:
    cut.supervisions = [
        SupervisionSegment(
            id=cut.id, recording_id=cut.recording_id, start=0.0, duration=cut.duration, speaker=speaker, **more
        )
    ]
    return cut


@pytest.fixture
def feature_cuts(tmp_path: Path) -> MakeCuts:
    """Make cuts with different features in an archive from the frames of each utterance of each speaker."""

    def make(speakers: dict[str, list[int]], name: str = "f", compression: str = "none", dim: int = 5) -> CutSet:
        lengths = {f"{s}-{n}": frames for s, utterances in speakers.items() for n, frames in enumerate(utterances)}
        with ArkWriter(tmp_path / f"{name}.ark", tmp_path / f"{name}.scp", compression) as writer:
            for number, utterance in enumerate(sorted(lengths)):
                values = 1000 * number + np.arange(lengths[utterance], dtype=np.float32)
                writer.write(utterance, np.repeat(values[:, None], dim, axis=1))
        cuts = []
        for utterance, location in read_table(tmp_path / f"{name}.scp").items():
            frames = lengths[utterance]
            features = Features(
                type="kaldi-fbank",
                num_frames=frames,
                num_features=dim,
                frame_shift=0.01,
                sampling_rate=16000,
                start=0.0,
                duration=round(frames * 0.01, 6),
                storage_type="kaldiio",
                storage_path=location,
                storage_key=utterance,
                recording_id=utterance,
                channels=0,
            )
            cut = MonoCut(id=utterance, start=0.0, duration=features.duration, channel=0, features=features)
            cuts.append(with_speaker(cut, utterance.partition("-")[0]))
        return CutSet.from_cuts(cuts)

    return make


@pytest.fixture
def audio_cuts(tmp_path: Path) -> MakeCuts:
    """Make cuts of whole 16-bit wav files from the samples of each utterance of each speaker."""

    def make(
        speakers: dict[str, list[int]], rate: int = 16000, channels: int = 1, suffix: str = "wav", folder: str = "audio"
    ) -> CutSet:
        cuts = []
        for speaker, lengths in speakers.items():
            for number, samples in enumerate(lengths):
                name = f"{speaker}-{number}"
                path = tmp_path / folder / f"{name}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                generator = np.random.default_rng([*name.encode()])
                soundfile.write(path, 0.1 * generator.normal(size=(samples, channels)), rate)
                recording = Recording.from_file(path, recording_id=name)
                cuts.append(with_speaker(recording.to_cut(), speaker).with_id(name))
        return CutSet.from_cuts(cuts)

    return make
