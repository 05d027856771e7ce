"""What back ends need of stages 1 and 5, said before anything is scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepspeaker.errors import InputError
from deepspeaker.evaluation import check_embedded


def make(root: Path, *embedded: str, dev: bool = True) -> None:
    for part in ("train_nosil", *(["dev_nosil"] if dev else [])):
        (root / "data" / part).mkdir(parents=True)
        (root / "data" / part / "utt2spk").touch()
    for folder in embedded:
        (root / "exp" / folder).mkdir(parents=True)
        (root / "exp" / folder / "xvector.scp").touch()


def test_what_stage_5_has_not_embedded_is_named_with_the_command(tmp_path: Path) -> None:
    """It named one file at a time, after scoring the systems before it, and no command."""
    made = ["softmax/embeddings_train", "softmax/embeddings_dev", "triplet/embeddings_train"]
    make(tmp_path, *made)
    exp, data = tmp_path / "exp", tmp_path / "data"
    check_embedded(exp, data, ["softmax", "triplet"], ["cosine", "plda", "as-norm"])
    check_embedded(exp, data, ["softmax"], ["cosine", "plda", "calibrated", "fused"])
    with pytest.raises(InputError) as raised:
        check_embedded(exp, data, ["untrained", "softmax", "triplet"], ["cosine", "plda", "calibrated", "fused"])
    assert str(raised.value) == (
        f"{exp}: stage 5 has not embedded dev (for calibrated, fused) and train (for plda, fused) by untrained, "
        "triplet; with the other options of this experiment: run.sh --stage 5 --set "
        "'scoring.backends=[cosine,plda,calibrated,fused]'"
    )


def test_no_development_speakers_says_what_to_add(tmp_path: Path) -> None:
    make(tmp_path, "softmax/embeddings_train", dev=False)
    check_embedded(tmp_path / "exp", tmp_path / "data", ["softmax"], ["plda"])
    with pytest.raises(InputError) as raised:
        check_embedded(tmp_path / "exp", tmp_path / "data", ["softmax"], ["plda", "calibrated"])
    assert str(raised.value).startswith(f"{tmp_path}/data: has no development speakers, from whom calibrated learn; ")
    for remedy in ("--dev-parts", "add DIR/dev", "20 speakers or more that have two utterances", "scoring.backends"):
        assert remedy in str(raised.value)
