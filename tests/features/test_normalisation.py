from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.features import FbankExtractor, check_normalised, mean_variance_normalised
from deepspeaker.kaldi import COMPRESSIONS, ArkWriter, read_matrix, read_table


@pytest.mark.parametrize("shape", [(2, 1), (100, 64), (999, 7)])
def test_each_bin_has_zero_mean_and_unit_variance(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    features = (generator.normal(size=shape) * generator.uniform(2, 4, shape[1]) - 12).astype("f4")
    normalised = mean_variance_normalised(features)
    assert normalised.dtype == np.float32
    assert np.abs(normalised.mean(axis=0, dtype="f8")).max() < 1e-6
    assert np.allclose(normalised.var(axis=0, dtype="f8"), 1, atol=1e-5)
    wide = features.astype("f8")
    assert np.allclose(normalised, (wide - wide.mean(axis=0)) / wide.std(axis=0), atol=1e-5)


def test_a_constant_bin_becomes_zero() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3)).astype("f4")
    features[:, 1] = -15.942385
    normalised = mean_variance_normalised(features)
    assert np.abs(normalised[:, 1]).max() < 1e-5
    assert normalised[:, 0].std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("floor", [0.01, 0.25])
def test_the_variance_floor_limits_a_bin_that_hardly_varies(floor: float) -> None:
    features = np.random.default_rng(0).normal(size=(500, 4)) * [3.0, 1.0, 0.001, 2.0]
    variance = features.astype("f4").var(axis=0, dtype="f8")
    expected = np.sqrt(variance / np.maximum(variance, floor * variance.mean()))
    normalised = mean_variance_normalised(features.astype("f4"), floor)
    assert np.allclose(normalised.std(axis=0, dtype="f8"), expected, rtol=1e-4)
    assert normalised[:, 2].std() < 0.01


def test_constant_features_become_zero_without_a_warning() -> None:
    with np.errstate(all="raise"):
        for features in (np.full((1, 5), 7.3, dtype="f4"), np.full((20, 5), -1e-3, dtype="f4")):
            assert np.abs(mean_variance_normalised(features)).max() < 1e-3
            assert np.abs(mean_variance_normalised(features, 0.0)).max() < 1e-3


def test_result_is_invariant_to_level_and_scale() -> None:
    features = np.random.default_rng(0).normal(size=(200, 8)).astype("f4")
    assert np.allclose(mean_variance_normalised(features), mean_variance_normalised(4 * features + 16), atol=1e-4)


def log_mel(seed: int, seconds: float) -> NDArray[np.float32]:
    """Return the features of noise with varying level and clicks; the outliers make compression coarse."""
    generator = np.random.default_rng(seed)
    level = np.repeat(generator.uniform(0.001, 0.1, 100), round(160 * seconds))
    samples = generator.normal(size=len(level)) * level
    samples[generator.integers(0, len(samples), 3)] = 1.0
    return FbankExtractor()(samples.astype("f4"))[0]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_normalised_features_pass_the_check(tmp_path: Path, compression: str) -> None:
    matrices = {f"noise-{seed}": log_mel(seed, seconds) for seed, seconds in enumerate((0.1, 0.5, 2, 10))}
    matrices["constant"] = np.full((30, 64), -3.7, dtype="f4")
    matrices["one"] = matrices["noise-0"][:1]
    matrices["click"] = np.where(np.arange(64_000).reshape(1000, 64) == 777, 30, 0).astype("f4")
    matrices["floor"] = matrices["noise-2"] * np.where(np.arange(64) < 9, 1e-4, 1).astype("f4")
    with ArkWriter(tmp_path / "a.ark", tmp_path / "a.scp", compression) as writer:
        for utterance in sorted(matrices):
            writer.write(utterance, mean_variance_normalised(matrices[utterance]))
    for utterance, location in read_table(tmp_path / "a.scp").items():
        check_normalised(read_matrix(location), utterance, "data/test_nosil")


@pytest.mark.parametrize("change", ["nothing", "mean", "not finite", "a bin", "a part of the frames"])
def test_unnormalised_features_are_refused_with_the_fix(change: str) -> None:
    """The network would embed them silently, at cosines of 0.65 to 0.74 from the correct embeddings."""
    for seed, seconds in enumerate((0.1, 0.5, 2, 10)):
        feats = log_mel(seed, seconds)
        if change == "mean":
            feats = feats - feats.mean(axis=0)
        elif change != "nothing":
            feats = mean_variance_normalised(feats)
        if change == "not finite":
            feats[3, 5] = np.nan
        if change == "a bin":
            feats[:, 7] += 0.5
        if change == "a part of the frames":
            feats = feats[feats.mean(axis=1) > 0]
        with pytest.raises(InputError) as raised:
            check_normalised(feats, "anna-001", "data/demo/test")
        assert str(raised.value).startswith("data/demo/test: the features of anna-001 are not normalised (bin ")
        assert str(raised.value).endswith("; embed data/demo/test_nosil, which local/2_fbank.sh makes of it")
    with pytest.raises(InputError, match=r"; run local/2_fbank\.sh data/demo/test again$"):
        check_normalised(feats, "anna-001", "data/demo/test_nosil")
