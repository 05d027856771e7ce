"""Baum-Welch statistics against their definition, posteriors from arks, and files of models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.ivector import (
    Ubm,
    UbmStatistics,
    accumulate_ubm,
    frame_posteriors,
    load_arrays,
    read_posteriors,
    save_arrays,
    statistics_of_given,
    utterance_statistics,
)
from deepspeaker.kaldi import ArkWriter
from tests.ivector.made_up import cut, draw, random_ubm


@pytest.mark.parametrize("full", [False, True])
def test_statistics_are_whitened_sums_of_the_utterances_frames(full: bool) -> None:
    ubm = random_ubm(0, full=full)
    utterances = cut(draw(ubm, 4000, 1), 4)
    statistics = utterance_statistics(ubm, utterances, np.float64)
    assert statistics.first.dtype == np.float32
    roots = ubm.with_full_covariances().roots
    for number, frames in enumerate(utterances):
        gamma = frame_posteriors(ubm, frames)
        centred = gamma.T @ frames - gamma.sum(axis=0)[:, None] * ubm.means
        expected = np.linalg.solve(roots, centred[:, :, None])[:, :, 0]
        assert np.allclose(statistics.counts[number], gamma.sum(axis=0), rtol=1e-12)
        assert np.allclose(statistics.first[number], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("full", [False, True])
def test_an_utterances_statistics_do_not_depend_on_the_others(full: bool) -> None:
    ubm = random_ubm(2, full=full)
    utterances = cut(draw(ubm, 4000, 3), 5)
    together = utterance_statistics(ubm, utterances)
    alone = utterance_statistics(ubm, [utterances[3]])
    assert np.array_equal(alone.counts[0], together.counts[3])
    assert np.array_equal(alone.first[0], together.first[3])
    assert len(utterance_statistics(ubm, [])) == 0


@pytest.mark.parametrize("full", [False, True])
def test_given_posteriors_give_the_same_statistics(full: bool, tmp_path: Path) -> None:
    ubm = random_ubm(4, full=full)
    utterances = cut(draw(ubm, 900, 5), 3)
    with ArkWriter(tmp_path / "post.ark", tmp_path / "post.scp") as writer:
        locations = [
            writer.write(f"u{number}", frame_posteriors(ubm, frames).astype(np.float32))
            for number, frames in enumerate(utterances)
        ]
    pairs = [(read_posteriors(location, f), f) for location, f in zip(locations, utterances, strict=True)]
    given, own = statistics_of_given(ubm, pairs), utterance_statistics(ubm, utterances, np.float64)
    assert np.allclose(given.counts, own.counts, rtol=1e-6)
    assert np.allclose(given.first, own.first, rtol=1e-5, atol=1e-4)


def test_posteriors_of_all_frames_are_reduced_to_the_speech_frames(tmp_path: Path) -> None:
    ubm = random_ubm(6)
    frames = draw(ubm, 20, 7)
    speech = np.arange(20) % 3 > 0
    gamma = frame_posteriors(ubm, frames).astype(np.float32)
    with ArkWriter(tmp_path / "post.ark", tmp_path / "post.scp") as writer:
        location = writer.write("u", gamma)
    assert np.array_equal(read_posteriors(location, frames[speech], speech), gamma[speech])
    with pytest.raises(InputError, match=r"post.ark:2: has 20 frames of posteriors and 19 VAD decisions"):
        read_posteriors(location, frames[speech], speech[:-1])
    with pytest.raises(InputError, match=r"post.ark:2: has 20 frames of posteriors and 13 frames of features"):
        read_posteriors(location, frames[speech])


def test_bad_input_is_one_clear_error() -> None:
    ubm = random_ubm(8)
    frames = draw(ubm, 10, 9)
    for wrong in (frames[:, :2], frames[:0]):
        with pytest.raises(InputError, match=r"features of shape .* do not fit a UBM of 3 dimensions"):
            utterance_statistics(ubm, [frames, wrong])
    with pytest.raises(InputError, match="not finite"):
        utterance_statistics(ubm, [frames * np.nan])
    with pytest.raises(InputError, match=r"posteriors of shape \(10, 5\) .* do not fit a UBM of 4 components"):
        statistics_of_given(ubm, [(np.full((10, 5), 0.2), frames)])


def test_models_and_statistics_survive_a_file(tmp_path: Path) -> None:
    ubm = random_ubm(10, full=True)
    save_arrays(tmp_path / "ubm.npz", ubm)
    again = load_arrays(tmp_path / "ubm.npz", Ubm)
    assert np.array_equal(again.covariances, ubm.covariances)
    statistics = accumulate_ubm(ubm, [draw(ubm, 50, 0)])
    save_arrays(tmp_path / "acc.1.npz", statistics)
    assert load_arrays(tmp_path / "acc.1.npz", UbmStatistics).log_likelihood == statistics.log_likelihood


def test_unusable_files_are_one_clear_error(tmp_path: Path) -> None:
    ubm = random_ubm(11)
    save_arrays(tmp_path / "ubm.npz", ubm)
    with pytest.raises(InputError, match=r"ubm.npz: is no file of UbmStatistics"):
        load_arrays(tmp_path / "ubm.npz", UbmStatistics)
    with pytest.raises(InputError, match=r"none.npz: no such file"):
        load_arrays(tmp_path / "none.npz", Ubm)
    content = (tmp_path / "ubm.npz").read_bytes()
    for damaged in (b"", b"text", content[:100], content[:-200]):
        (tmp_path / "bad.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"bad.npz: .*"):
            load_arrays(tmp_path / "bad.npz", Ubm)
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"pickled.npy: .*"):
        load_arrays(tmp_path / "pickled.npy", Ubm)
