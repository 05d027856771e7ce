"""Data directories of random features for the benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deepspeaker.kaldi import ArkWriter, spk2utt_of, write_spk2utt, write_table


def make_features(folder: Path, speakers: int, utterances: int, frames: int, bins: int, compression: str) -> Path:
    """Write ``speakers`` x ``utterances`` utterances of ``frames`` frames to four arks."""
    generator = np.random.default_rng(0)
    names = [f"s{s:05d}-{u:04d}" for s in range(speakers) for u in range(utterances)]
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for job, shard in enumerate(np.array_split(np.array(names), 4), 1):
        with ArkWriter(folder / f"feats.{job}.ark", folder / f"feats.{job}.scp", compression) as writer:
            for name in shard.tolist():
                writer.write(name, generator.normal(size=(frames, bins)).astype(np.float32))
        lines.append((folder / f"feats.{job}.scp").read_text())
    (folder / "feats.scp").write_text("".join(lines))
    utt2spk = {name: name.split("-")[0] for name in names}
    write_table(folder / "utt2spk", utt2spk)
    write_spk2utt(folder / "spk2utt", spk2utt_of(utt2spk))
    write_table(folder / "utt2num_frames", dict.fromkeys(names, str(frames)))
    return folder
