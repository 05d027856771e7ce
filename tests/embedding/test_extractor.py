from __future__ import annotations

import numpy as np
import pytest
import torch

from deepspeaker.embedding import embed_utterances, speaker_means
from deepspeaker.features import FeatureIndex
from deepspeaker.kaldi import ArkWriter, write_table
from deepspeaker.models import ResCNN, build_model


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> FeatureIndex:
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lengths = [1, 2, 90, 30, 30, 30, 5, 64, 7, 33, 200, 17]
    names = [f"s{number // 3}-{number:02d}" for number in range(len(lengths))]
    with ArkWriter(folder / "feats.ark", folder / "feats.scp") as writer:
        for name, length in zip(names, lengths, strict=True):
            writer.write(name, generator.normal(size=(length, 9)).astype(np.float32))
    write_table(folder / "utt2spk", {name: name[:2] for name in names})
    write_table(folder / "utt2num_frames", dict(zip(names, map(str, lengths), strict=True)))
    return FeatureIndex(folder)


@pytest.fixture(params=["channel", "sequence"])
def network(request: pytest.FixtureRequest) -> ResCNN:
    torch.manual_seed(0)
    network = build_model(9, channels=[4, 6], blocks=1, embedding_dim=7, batch_norm=request.param).train()
    for _ in range(3):
        network(torch.randn(8, 20, 9) * 2 + 1)
    return network


def alone(network: ResCNN, index: FeatureIndex, utterance: int) -> np.ndarray:
    with torch.inference_mode():
        output = network.eval()(torch.from_numpy(index.read(utterance))[None])[0].double().numpy()
    return output / np.sqrt((output**2).sum())


@pytest.mark.parametrize("batch_frames", [1, 60, 250, 8192])
def test_embeddings_do_not_depend_on_order_or_batch_size(
    network: ResCNN, index: FeatureIndex, batch_frames: int
) -> None:
    expected = np.stack([alone(network, index, utterance) for utterance in range(len(index))])
    for utterances in ([*range(len(index))], [7, 0, 11, 0, 10], [3], np.random.default_rng(1).permutation(12).tolist()):
        embeddings = embed_utterances(network.train(), index, utterances, batch_frames=batch_frames)
        assert embeddings.dtype == np.float32
        assert embeddings.shape == (len(utterances), 7)
        np.testing.assert_allclose(embeddings, expected[utterances], rtol=0, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(embeddings.astype(np.float64), axis=1), 1, rtol=0, atol=1e-6)
    assert not network.training


def test_no_utterances_give_no_embeddings(network: ResCNN, index: FeatureIndex) -> None:
    assert embed_utterances(network, index, []).shape == (0, 7)


def test_bfloat16_is_close_to_float32(network: ResCNN, index: FeatureIndex) -> None:
    exact = embed_utterances(network, index, range(len(index)))
    rough = embed_utterances(network, index, range(len(index)), autocast=True)
    assert rough.dtype == np.float32
    assert not np.array_equal(exact, rough)
    assert (exact * rough).sum(axis=1).min() > 0.99


@pytest.mark.parametrize("seed", range(5))
def test_speaker_means_match_a_loop(seed: int) -> None:
    generator = np.random.default_rng(seed)
    speakers = int(generator.integers(1, 8))
    speaker = generator.permutation([*range(speakers), *generator.integers(0, speakers, 20)]).astype(np.int32)
    embeddings = generator.normal(size=(len(speaker), 5)).astype(np.float32)
    means, counts = speaker_means(embeddings, speaker, speakers)
    assert means.dtype == np.float32
    for number in range(speakers):
        rows = [row.astype(np.float64) for row, other in zip(embeddings, speaker, strict=True) if other == number]
        assert counts[number] == len(rows)
        np.testing.assert_allclose(means[number], sum(rows) / len(rows), rtol=1e-6, atol=1e-7)
