from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from deepspeaker.config import Config, ResCNNModel, Triplet
from deepspeaker.features import FeatureIndex
from deepspeaker.models import build_model, load_checkpoint
from deepspeaker.training import CollapseError, SpeakerSampler
from deepspeaker.training.collapse import CollapseWatch
from deepspeaker.training.loop import train
from deepspeaker.training.objectives import TripletObjective

GOOD = {"loss": 0.04, "active_triplets": 0.4, "positive_cosine": 0.8, "negative_cosine": 0.6, "spread": 0.4}
TOGETHER = {"loss": 0.02, "active_triplets": 0.9, "positive_cosine": 1.0, "negative_cosine": 1.0, "spread": 1e-4}
AT_MARGIN = {"loss": 0.1001, "active_triplets": 1.0, "positive_cosine": 0.9, "negative_cosine": 0.9, "spread": 0.2}


@pytest.mark.parametrize(
    ("bad", "said"), [(TOGETHER, "all embeddings coincided"), (AT_MARGIN, "the loss sat at the margin")]
)
def test_only_many_bad_steps_in_a_row_are_a_collapse(bad: dict[str, float], said: str) -> None:
    watch = CollapseWatch(0.1, 5)
    for figures in [bad] * 5 + [GOOD] + [bad] * 5:
        watch.see(figures)
    with pytest.raises(CollapseError, match=f"for 6 steps {said}") as raised:
        watch.see(bad)
    for mend in ("learning_rate", "early_negatives", "softmax.epochs"):
        assert mend in str(raised.value)
    assert "\n" not in str(raised.value)


def test_softmax_training_is_not_watched() -> None:
    watch = CollapseWatch(0.2, 0)
    for _ in range(10):
        watch.see({"loss": 0.2, "accuracy": 0.0})


def test_a_training_that_collapses_stops_and_keeps_the_last_good_checkpoint(data_dir: Path, tmp_path: Path) -> None:
    index = FeatureIndex(data_dir / "train_nosil")
    config = Config(
        model=ResCNNModel(channels=[4, 8], blocks=1, embedding_dim=8),
        triplet=Triplet(
            epochs=40, steps_per_epoch=5, crop_frames=16, precision="float32", margin=0.1, collapse_patience=20
        ),
    )
    torch.manual_seed(0)
    network = build_model(index.feature_dim, **config.model.model_dump())

    class Collapsing(TripletObjective):
        """From the third epoch on the network is made to give one vector for all."""

        def forward(self, outputs: torch.Tensor, speakers: torch.Tensor, step: int) -> Any:
            return super().forward(outputs * 0 + 1 if step >= 10 else outputs, speakers, step)

    sampler = SpeakerSampler(index.of_speaker, 4, 2, 0, frames=index.frames, crop_frames=16)
    with pytest.raises(CollapseError, match="for 21 steps all embeddings coincided"):
        train(
            network,
            Collapsing(0.1),
            sampler,
            index,
            None,
            tmp_path,
            config=config.model_dump(),
            section="triplet",
            seed=0,
            device=torch.device("cpu"),
            progress=False,
        )
    for name in ("last", "best"):
        content = load_checkpoint(tmp_path / f"checkpoint_{name}.pt")
        assert content["stage"] == "triplet"
    assert load_checkpoint(tmp_path / "checkpoint_last.pt")["step"] == 10
