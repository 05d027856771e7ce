"""Small experiments that scoring can read: real checkpoints, embeddings that scatter about their speakers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepspeaker.config import Config
from deepspeaker.embedding import record_network
from deepspeaker.errors import InputError
from deepspeaker.evaluation import evaluate
from deepspeaker.kaldi import ArkWriter
from deepspeaker.models import build_model, save_checkpoint

CONFIG = Config.model_validate(
    {"model": {"channels": [2, 3], "blocks": 1, "embedding_dim": 6}, "scoring": {"bootstrap": 100}}
)
SPEAKERS, UTTERANCES = 24, 10
NOISE = {"untrained": 3.0, "softmax": 0.8, "triplet": 0.4}


def write_system(exp_dir: Path, name: str, utt2spk: dict[str, str]) -> None:
    """Real checkpoints, embeddings that scatter around each speaker's mean, and a history."""
    torch.manual_seed(0)
    used = CONFIG.model_dump()
    for section in ("softmax", "triplet"):
        used[section]["precision"] = "float32"
    content = {
        "config": used,
        "stage": name,
        "seed": 0,
        "feature_dim": 8,
        "speakers": ["train-1", "train-2"],
        "network": build_model(8, **used["model"]).state_dict(),
    }
    for which in ("last",) if name == "untrained" else ("last", "best"):
        save_checkpoint(exp_dir / name / f"checkpoint_{which}.pt", content)
    record_network(exp_dir / name / "checkpoint_last.pt", "the only one")
    generator = np.random.default_rng(5)
    means = {speaker: generator.normal(size=6) for speaker in sorted(set(utt2spk.values()))}
    folder = exp_dir / name / "embeddings_test"
    with ArkWriter(folder / "xvector.1.ark", folder / "xvector.scp") as writer:
        for utterance in sorted(utt2spk):
            vector = means[utt2spk[utterance]] + NOISE[name] * generator.normal(size=6)
            writer.write(utterance, vector.astype(np.float32))
    if name != "untrained":
        history = "epoch,step,learning_rate,loss,dev_eer\n1,5,0.01,1.5,0.2\n2,10,0.001,0.7,0.1\n"
        (exp_dir / name / "train.csv").write_text(history, encoding="utf-8")


def score(root: Path, max_skipped: float = 5.0, **more: Any) -> dict[str, Any]:
    evaluate(CONFIG, root / "data", root / "exp", 3, max_skipped, **more)
    content: dict[str, Any] = json.loads((root / "exp" / "results.json").read_text(encoding="utf-8"))
    return content


def system_of(results: dict[str, Any], name: str, trials: str) -> dict[str, Any]:
    (found,) = [s for s in results["systems"] if (s["name"], s["trials"]) == (name, trials)]
    return found


def refusal(root: Path, max_skipped: float = 5.0) -> str:
    with pytest.raises(InputError) as caught:
        score(root, max_skipped)
    assert "\n" not in str(caught.value)
    assert not (root / "exp" / "results.json").exists()
    return str(caught.value)
