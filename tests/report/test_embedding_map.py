from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.report import (
    MAX_SPEAKERS,
    MAX_UTTERANCES,
    embedding_map,
    map_speakers,
    plot_maps,
    sample_utterances,
)


def clustered(speakers: int, each: int, noise: float) -> tuple[NDArray[np.float64], list[str], list[str]]:
    generator = np.random.default_rng(0)
    means = np.repeat(generator.normal(size=(speakers, 16)), each, axis=0)
    names = [f"s{row // each:02d}" for row in range(speakers * each)]
    return means + noise * generator.normal(size=means.shape), [f"{s}-{n:03d}" for n, s in enumerate(names)], names


def test_speakers_form_clusters_and_the_nearest_are_those_of_brute_force() -> None:
    matrix, utterances, speakers = clustered(6, 8, 0.2)
    found = embedding_map(matrix, utterances, speakers, 3)
    assert found.positions.shape == (48, 2)
    assert found.positions.min() >= 0 and found.positions.max() <= 1
    names = np.array(speakers)
    centres = np.stack([found.positions[names == name].mean(axis=0) for name in sorted(set(speakers))])
    within = np.linalg.norm(found.positions - np.repeat(centres, 8, axis=0), axis=1).max()
    apart = min(np.linalg.norm(a - b) for n, a in enumerate(centres) for b in centres[n + 1 :])
    assert within < 0.5 * apart
    for row in range(0, 48, 7):
        cosines = [
            -2 if other == row else v @ matrix[row] / np.linalg.norm(v) / np.linalg.norm(matrix[row])
            for other, v in enumerate(matrix)
        ]
        assert found.nearest[row] == int(np.argmax(cosines))
        assert found.cosine[row] == pytest.approx(max(cosines))
    assert not found.confused.any()


def test_the_same_seed_gives_the_same_positions() -> None:
    matrix, utterances, speakers = clustered(4, 5, 0.5)
    first, second = (embedding_map(matrix, utterances, speakers, 1) for _ in range(2))
    assert (first.positions == second.positions).all()


@pytest.mark.parametrize("matrix", [np.ones((5, 3)), np.zeros((4, 3)), np.eye(2), np.ones((3, 1))])
def test_equal_or_few_embeddings(matrix: NDArray[np.float64], tmp_path: Path) -> None:
    names = [f"u{row}" for row in range(len(matrix))]
    found = embedding_map(matrix, names, ["s"] * len(names), 0)
    assert np.isfinite(found.positions).all()
    plot_maps({"few": found}, tmp_path / "map.png", "few")
    assert map_speakers(found, 400, 12)[0]["name"] == "s"
    with pytest.raises(InputError, match="at least two"):
        embedding_map(matrix[:1], ["u"], ["s"], 0)


def test_large_test_parts_are_sampled_reproducibly() -> None:
    utt2spk = {f"s{s:03d}-{u:03d}": f"s{s:03d}" for s in range(90) for u in range(30)}
    sample = sample_utterances(utt2spk, 5)
    assert len(sample) == MAX_SPEAKERS * MAX_UTTERANCES
    assert sample == sorted(sample) == sample_utterances(dict(reversed(utt2spk.items())), 5)
    assert sample != sample_utterances(utt2spk, 6)
    few = {utterance: utt2spk[utterance] for utterance in list(utt2spk)[:20]}
    assert sample_utterances(few, 5) == sorted(few)


def test_tooltips_name_utterance_speaker_and_nearest() -> None:
    matrix, utterances, speakers = clustered(3, 4, 0.1)
    speakers[0] = "s01"  # simulate a wrong label
    drawn = map_speakers(embedding_map(matrix, utterances, speakers, 0), 400, 12)
    assert [speaker["name"] for speaker in drawn] == ["s00", "s01", "s02"]
    assert len({(speaker["colour"], speaker["shape"]) for speaker in drawn}) == 3
    points = {point["tip"].split(",")[0]: point for speaker in drawn for point in speaker["points"]}  # type: ignore
    assert points["s00-000"]["confused"] and not points["s02-009"]["confused"]
    assert "speaker s01; nearest: s00-0" in points["s00-000"]["tip"]
    assert ", speaker s00, cosine 0.9" in points["s00-000"]["tip"]
    assert ", same speaker, cosine" in points["s02-009"]["tip"]
    alone = embedding_map(matrix[:5], utterances[:5], ["a", "a", "b", "c", "d"], 0)
    assert not alone.confused[2:].any()
