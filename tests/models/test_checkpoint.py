from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from deepspeaker.config import ResCNNModel
from deepspeaker.errors import InputError
from deepspeaker.models import ResCNN, build_model, load_checkpoint, network_of, save_checkpoint

OPTIONS = ResCNNModel(channels=[2, 3], blocks=1, embedding_dim=4).model_dump()


def content_of(network: ResCNN) -> dict[str, Any]:
    return {
        "config": {"model": OPTIONS},
        "feature_dim": network.feature_dim,
        "speakers": ["a", "b"],
        "step": 3,
        "best_dev_eer": None,
        "network": network.state_dict(),
    }


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "deep" / "checkpoint.pt", content_of(build_model(8, **OPTIONS)))
    return tmp_path / "deep" / "checkpoint.pt"


def test_round_trip(checkpoint: Path) -> None:
    torch.manual_seed(0)
    network = build_model(8, **OPTIONS).eval()
    content = load_checkpoint(checkpoint)
    assert {key: content[key] for key in ("speakers", "step", "best_dev_eer")} == {
        "speakers": ["a", "b"],
        "step": 3,
        "best_dev_eer": None,
    }
    read = network_of(content)
    assert not read.training
    assert read.state_dict().keys() == network.state_dict().keys()
    features = torch.randn(2, 12, 8)
    assert torch.equal(read(features), network(features))
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]


def test_equal_content_gives_equal_bytes_under_any_name(checkpoint: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other_name.pt", load_checkpoint(checkpoint))
    again = tmp_path / "again.pt"
    save_checkpoint(again, load_checkpoint(tmp_path / "other_name.pt"))
    assert again.read_bytes() == (tmp_path / "other_name.pt").read_bytes()


def test_a_failed_write_leaves_the_old_checkpoint_and_nothing_else(checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(checkpoint, {"network": lambda: 0})
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_a_missing_checkpoint_names_the_fix(tmp_path: Path) -> None:
    assert "run the training stage" in refusal(tmp_path / "none.pt")


def test_a_truncated_checkpoint_is_refused_in_one_line(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    for size in range(0, len(whole), 197):
        checkpoint.write_bytes(whole[:size])
        refusal(checkpoint)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_junk_is_refused_in_one_line(tmp_path: Path) -> None:
    generator = random.Random(0)
    path = tmp_path / "junk.pt"
    for first in range(256):
        path.write_bytes(bytes([first]) + generator.randbytes(generator.choice([0, 1, 3, 30, 300])))
        refusal(path)
        path.write_bytes(b"\x80\x02" + bytes([first]) + b"abc\nI2\n.")
        refusal(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_flipped_bytes_are_read_or_refused_in_one_line(checkpoint: Path) -> None:
    whole, generator = checkpoint.read_bytes(), random.Random(1)
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(generator.choice([1, 5, 50])):
            broken[generator.randrange(len(broken))] = generator.randrange(256)
        checkpoint.write_bytes(broken)
        try:
            load_checkpoint(checkpoint)
        except InputError as error:
            assert "\n" not in str(error)


def test_the_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    for content in ({"state_dict": {}}, {"format": 2}, [1], 1, "x", None):
        torch.save(content, tmp_path / "other.pt")
        assert "is not a checkpoint of this version" in refusal(tmp_path / "other.pt")


class Touch:
    """Create a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, how: str) -> None:
    created, path = tmp_path / "was_here", tmp_path / "evil.pt"
    content = {"format": 1, "network": Touch(created)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    refusal(path)
    assert not created.exists()
    if how == "pickle":
        pickle.loads(path.read_bytes())
        assert created.exists(), "plain pickle would not run the code either: the test proves nothing"
