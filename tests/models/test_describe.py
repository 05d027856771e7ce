from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from deepspeaker.models import build_model, describe, description, parameter_count


@pytest.mark.parametrize(
    "options",
    [
        {"name": "rescnn", "batch_norm": "sequence"},
        {"name": "gru", "channels": 4, "hidden": 6, "embedding_dim": 5, "recurrence": "deep_speech_2"},
        {"name": "rescnn", "channels": [4, 6], "blocks": 2, "embedding_dim": 5, "batch_norm": "channel"},
    ],
)
def test_parameters_and_multiply_adds_match_torchs_flop_counter(options: dict[str, object]) -> None:
    network = build_model(64, **options).eval()
    layers = describe(network, 100)
    assert sum(layer.parameters for layer in layers) == parameter_count(network)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 100, 64))
    assert 2 * sum(layer.multiply_adds for layer in layers) == counter.get_total_flops()


def test_rows_of_the_papers_network() -> None:
    layers = describe(build_model(64), 100)
    assert [layer.output for layer in layers[::4]] == [(64, 50, 32), (128, 25, 16), (256, 13, 8), (512, 7, 4), (512,)]
    assert [layer.name for layer in layers[:2]] == ["conv64-s 5x5, stride 2", "res64 3x3 + 3x3"]
    assert layers[1].parameters == 2 * (9 * 64 * 64 + 4096)  # two of the rows with 41K
    text = description(build_model(64))
    assert "24,266,304" in text
    assert "100 frames" in text


def test_each_gru_layer_is_a_row() -> None:
    layers = describe(build_model(64, "gru"), 100)
    assert [layer.name for layer in layers] == ["conv64-s 5x5, stride 2", "gru1024", "gru1024", "gru1024", "affine"]
    assert [layer.output for layer in layers] == [(64, 50, 32), (50, 1024), (50, 1024), (50, 1024), (512,)]
    assert layers[1].multiply_adds == 50 * 3 * 1024 * (2048 + 1024)
    assert layers[-1].multiply_adds == 1024 * 512
