from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.training import Batch, PairSampler, Sampler, SpeakerSampler, UtteranceSampler

Utterances = list[NDArray[np.int32]]


def speakers_of(sizes: list[int]) -> Utterances:
    ends = np.cumsum([0, *sizes])
    return [np.arange(first, last, dtype=np.int32) for first, last in pairwise(ends)]


def speaker_sampler(
    sizes: list[int], speakers: int, per_speaker: int, seed: int, copies: int = 1, frames: int = 400
) -> SpeakerSampler:
    """All utterances have ``frames`` frames, and crops have 100."""
    of_all = np.full(sum(sizes), frames, dtype=np.int32)
    return SpeakerSampler(speakers_of(sizes), speakers, per_speaker, seed, copies, frames=of_all, crop_frames=100)


def pair_sampler(sizes: list[int], pairs: int, seed: int, copies: int = 1, frames: int = 400) -> PairSampler:
    """All utterances have ``frames`` frames, and crops have 100."""
    owner, of_all = np.repeat(np.arange(len(sizes)), sizes), np.full(sum(sizes), frames, dtype=np.int32)
    return PairSampler(
        speakers_of(sizes), owner.astype(np.int32), pairs, seed, copies, frames=of_all, crop_frames=100
    )


def make(kind: str, seed: int, copies: int = 1) -> Sampler:
    if kind == "utterance":
        return UtteranceSampler(23, 7, seed, copies)
    if kind == "evenly":
        return UtteranceSampler(30, 7, seed, copies, of_speaker=speakers_of([3, 1, 9, 4, 2, 6, 5]))
    if kind == "pair":
        return pair_sampler([3, 1, 9, 4, 2, 6, 5], 6, seed, copies)
    return speaker_sampler([3, 1, 9, 4, 2, 6, 5], 3, 4, seed, copies)


def equal(one: Batch, other: Batch) -> bool:
    return all(map(np.array_equal, one, other))


@pytest.mark.parametrize("kind", ["utterance", "evenly", "speaker", "pair"])
def test_a_batch_is_a_function_of_seed_and_step_alone(kind: str) -> None:
    in_order = make(kind, 5)
    batches = [in_order.batch(step) for step in range(40)]
    out_of_order = make(kind, 5)
    for step in (39, 0, 17, 17, 3, 38, 1):
        assert equal(out_of_order.batch(step), batches[step])
        assert equal(make(kind, 5).batch(step), batches[step])
    np.random.default_rng(0).random()
    assert equal(make(kind, 5).batch(10**9), make(kind, 5).batch(10**9))


@pytest.mark.parametrize("kind", ["utterance", "speaker", "pair"])
def test_seeds_and_steps_give_different_batches(kind: str) -> None:
    sampler = make(kind, 5)
    batches = [sampler.batch(step) for step in range(20)] + [make(kind, seed).batch(0) for seed in (0, 1, 2, 6)]
    for number, one in enumerate(batches):
        for other in batches[:number]:
            assert not np.array_equal(one.crop_positions, other.crop_positions)
    assert len({batch.utterances.tobytes() for batch in batches}) > len(batches) - 3


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(2, 50), st.integers(0, 3))
def test_each_utterance_appears_once_per_pass(utterances: int, batch_size: int, seed: int) -> None:
    sampler = UtteranceSampler(utterances, batch_size, seed)
    passes = 4
    batches = [sampler.batch(step) for step in range(-(-passes * utterances // batch_size))]
    stream = np.concatenate([batch.utterances for batch in batches])
    assert all(batch.utterances.shape == batch.crop_positions.shape == (batch_size,) for batch in batches)
    for number in range(passes):
        assert sorted(stream[number * utterances : (number + 1) * utterances]) == list(range(utterances))


def test_speakers_evenly_has_each_speaker_once_per_pass() -> None:
    sizes = [1, 30, 2, 5]
    owner = np.repeat(np.arange(4), sizes)
    sampler = UtteranceSampler(38, 6, seed=3, of_speaker=speakers_of(sizes))
    stream = np.concatenate([sampler.batch(step).utterances for step in range(200)])
    assert (np.sort(owner[stream].reshape(-1, 4), axis=1) == np.arange(4)).all()
    counts = np.bincount(stream, minlength=38)
    assert counts[:1].tolist() == [300]
    assert counts[1:31].min() > 0  # 10 on average
    assert counts[31:33].min() > 100


def test_passes_have_different_orders() -> None:
    sampler = UtteranceSampler(30, 30, 0)
    orders = {sampler.batch(step).utterances.tobytes() for step in range(10)}
    assert len(orders) == 10


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.integers(2, 6), st.integers(2, 6), st.integers(0, 3))
def test_a_batch_has_p_speakers_with_k_utterances_each(
    sizes: list[int], speakers: int, per_speaker: int, seed: int
) -> None:
    owner = np.repeat(np.arange(len(sizes)), sizes)
    sampler = speaker_sampler(sizes, speakers, per_speaker, seed)
    present = min(speakers, len(sizes))  # with fewer than P speakers, all of them
    for step in range(8):
        batch = sampler.batch(step)
        assert batch.utterances.shape == batch.crop_positions.shape == (present * per_speaker,)
        groups = batch.utterances.reshape(present, per_speaker)
        owners = owner[groups]
        assert (owners == owners[:, :1]).all()
        assert len(set(owners[:, 0])) == present
        for group, size in zip(groups, np.array(sizes)[owners[:, 0]], strict=True):
            counts = np.bincount(np.unique(group, return_inverse=True)[1])
            # No utterance is repeated before the speaker's others are used.
            assert len(counts) == min(size, per_speaker)
            assert counts.max() - counts.min() <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 20), st.integers(2, 6), st.integers(0, 3))
def test_no_speaker_appears_twice_in_a_pass(number: int, speakers: int, seed: int) -> None:
    sampler = speaker_sampler([3] * number, speakers, 2, seed)
    steps = number // min(speakers, number)
    for which in range(3):
        seen = [
            speaker
            for step in range(which * steps, (which + 1) * steps)
            for speaker in (sampler.batch(step).utterances.reshape(-1, 2)[:, 0] // 3).tolist()
        ]
        assert len(seen) == len(set(seen)) == steps * min(speakers, number)


def test_each_speaker_appears_once_per_pass_if_p_divides_their_number() -> None:
    sampler = speaker_sampler([2] * 12, 4, 2, 0)
    for which in range(5):
        seen = np.concatenate([sampler.batch(which * 3 + step).utterances for step in range(3)]) // 2
        assert sorted(set(seen.tolist())) == list(range(12))


def test_speakers_that_one_pass_omits_appear_later() -> None:
    sampler = speaker_sampler([2] * 7, 3, 2, 0)
    seen = {int(u) // 2 for step in range(40) for u in sampler.batch(step).utterances}
    assert seen == set(range(7))


def test_a_speaker_with_one_utterance_contributes_disjoint_crops_or_is_left_out() -> None:
    frames = np.array([199, 200, 437, 1000, 50, 60], dtype=np.int32)
    sampler = SpeakerSampler(speakers_of([1, 1, 1, 1, 2]), 5, 4, 0, frames=frames, crop_frames=100)
    assert (sampler.left_out, sampler.speakers) == (1, 4)
    seen = set()
    for step in range(200):
        batch = sampler.batch(step)
        for row in range(0, 16, 4):
            utterance = int(batch.utterances[row])
            seen.add(utterance)
            if utterance > 3:
                continue
            assert (batch.utterances[row : row + 4] == utterance).all()
            length = int(frames[utterance])
            starts = [int(place * (length - 100 + 1)) for place in batch.crop_positions[row : row + 4]]
            assert all(0 <= start <= length - 100 for start in starts)
            assert len(set(starts)) == min(4, length // 100)
            for one, other in pairwise(sorted(set(starts))):
                assert other - one >= 100
    assert seen == {1, 2, 3, 4, 5}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.integers(2, 9), st.integers(0, 3))
def test_each_utterance_is_an_anchor_once_per_pass_with_a_positive_of_its_speaker(
    sizes: list[int], pairs: int, seed: int
) -> None:
    owner = np.repeat(np.arange(len(sizes)), sizes)
    sampler, passes = pair_sampler(sizes, pairs, seed), 3
    anchors, replaced = [], []
    for step in range(-(-passes * len(owner) // pairs)):
        batch = sampler.batch(step)
        assert batch.utterances.shape == batch.crop_positions.shape == batch.copies.shape == (2 * pairs,)
        anchor, positive = batch.utterances.reshape(pairs, 2).T
        assert (owner[anchor] == owner[positive]).all()
        assert ((anchor != positive) == (np.array(sizes)[owner[anchor]] > 1)).all()
        assert len(set(owner[anchor])) > 1  # so each anchor has a negative
        if len(set(owner[anchor[:-1]])) == 1:  # the last may stand for one of the same speaker
            replaced.append(len(anchors) + pairs - 1)
        anchors += anchor.tolist()
    for number in range(passes):
        places = range(number * len(owner), (number + 1) * len(owner))
        kept = [anchors[place] for place in places if place not in replaced]
        assert len(kept) == len(set(kept))
        if len(kept) == len(owner):
            assert sorted(kept) == list(range(len(owner)))


def test_all_other_utterances_of_the_speaker_are_equally_likely_positives() -> None:
    sampler, counts = pair_sampler([4, 3, 2], 9, 0), np.zeros((9, 9))
    for step in range(2000):
        np.add.at(counts, tuple(sampler.batch(step).utterances.reshape(9, 2).T), 1)
    expected = np.zeros((9, 9))
    for first, size in ((0, 4), (4, 3), (7, 2)):
        expected[first : first + size, first : first + size] = (1 - np.eye(size)) / (size - 1)
    assert np.abs(counts / counts.sum(axis=1, keepdims=True) - expected).max() < 0.05


def test_a_pair_of_a_single_utterance_has_disjoint_crops() -> None:
    frames = np.array([199, 200, 437, 50, 60], dtype=np.int32)
    owner = np.array([0, 1, 2, 3, 3], dtype=np.int32)
    sampler = PairSampler(speakers_of([1, 1, 1, 2]), owner, 4, 0, frames=frames, crop_frames=100)
    assert sampler.left_out == 1
    seen = set()
    for step in range(200):
        batch = sampler.batch(step)
        places = batch.crop_positions.reshape(4, 2)
        for (anchor, positive), place in zip(batch.utterances.reshape(4, 2).tolist(), places, strict=True):
            seen.add(anchor)
            if anchor == positive:
                one, other = sorted((place * (frames[anchor] - 100 + 1)).astype(int).tolist())
                assert one >= 0 and one + 100 <= other and other + 100 <= frames[anchor]
    assert seen == {1, 2, 3, 4}


def test_too_few_speakers_for_triplets_are_an_error() -> None:
    with pytest.raises(InputError, match=r"triplets need two speakers .* of 200 frames, each; there are 1 of 3"):
        pair_sampler([1, 1, 2], 5, 0, frames=100)
    with pytest.raises(InputError, match=r"triplets need two speakers .* of 200 frames, each; there are 1 of 3"):
        speaker_sampler([1, 1, 2], 5, 4, 0, frames=100)


@pytest.mark.parametrize("kind", ["utterance", "speaker", "pair"])
def test_crop_positions_are_uniform(kind: str) -> None:
    sampler = make(kind, 0)
    positions = np.concatenate([sampler.batch(step).crop_positions for step in range(300)])
    assert positions.min() >= 0
    assert positions.max() < 1
    assert abs(positions.mean() - 0.5) < 0.03
    assert np.histogram(positions, 4, (0, 1))[0].min() > 0.2 * len(positions)


def test_crops_are_consecutive_frames_of_their_utterance(data_dir: Path) -> None:
    index = FeatureIndex(data_dir / "train_nosil")
    sampler, frames = UtteranceSampler(len(index), 16, 0), 20
    starts = set()
    for step in range(12):
        batch = sampler.batch(step)
        crops = index.crops(batch.utterances, batch.crop_positions, frames)
        assert crops.shape == (16, frames, 8)
        for crop, utterance in zip(crops, batch.utterances.tolist(), strict=True):
            whole = index.read(utterance)
            repeated = np.concatenate([whole] * 4)
            last = max(len(whole) - frames, 0) if len(whole) >= frames else len(whole) - 1
            found = [start for start in range(last + 1) if np.array_equal(repeated[start : start + frames], crop)]
            assert len(found) == 1
            starts.add(found[0])
    assert len(starts) > 10


@pytest.mark.parametrize("kind", ["utterance", "speaker", "pair"])
def test_vtlp_copies_are_equally_frequent_and_change_nothing_else(kind: str) -> None:
    counts = np.zeros(3)
    for step in range(600):
        one, three = make(kind, 5, 1).batch(step), make(kind, 5, 3).batch(step)
        assert not one.copies.any()
        np.testing.assert_array_equal(one.utterances, three.utterances)
        np.testing.assert_array_equal(one.crop_positions, three.crop_positions)
        counts += np.bincount(three.copies, minlength=3)
        if kind == "speaker":
            assert (three.copies.reshape(3, 4) == three.copies.reshape(3, 4)[:, :1]).all()
        if kind == "pair":
            assert (three.copies[::2] == three.copies[1::2]).all()
    assert len(counts) == 3
    assert (abs(counts / counts.sum() - 1 / 3) < 0.05).all()
