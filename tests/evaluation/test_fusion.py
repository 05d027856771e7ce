"""Two experiments' embeddings side by side, through a whole evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.evaluation import evaluate
from deepspeaker.kaldi import ArkWriter, read_table, read_vector, write_table
from tests.evaluation.made_up import CONFIG, NOISE


def other_experiment(root: Path, dim: int = 5) -> Path:
    """A copy whose networks hear the same speakers with noise of their own, by default in five dimensions."""
    other = root / "other"
    shutil.copytree(root / "exp", other)
    generator = np.random.default_rng(11)
    turn = generator.normal(size=(6, dim))
    for folder in other.glob("*/embeddings_*"):
        vectors = {u: read_vector(p) for u, p in read_table(folder / "xvector.scp").items()}
        with ArkWriter(folder / "xvector.1.ark", folder / "xvector.scp") as writer:
            for utterance, vector in vectors.items():
                noisy = vector + NOISE[folder.parent.name] * generator.normal(size=6)
                writer.write(utterance, (noisy @ turn).astype(np.float32))
    return other


def scored(root: Path, **scoring: Any) -> dict[str, Any]:
    options = CONFIG.scoring.model_copy(update={"bootstrap": 0, "hard_nontargets": 0, **scoring})
    evaluate(CONFIG.model_copy(update={"scoring": options}), root / "data", root / "exp", 3, 5.0)
    content: dict[str, Any] = json.loads((root / "exp" / "results.json").read_text(encoding="utf-8"))
    return content


def scores_of(exp: Path, name: str, backend: str = "cosine") -> np.ndarray:
    lines = (exp / name / f"scores_trials_all_{backend}").read_text(encoding="utf-8").splitlines()
    return np.array([float(line.split(" ")[2]) for line in lines])


def cosines(root: Path, exp: Path) -> np.ndarray:
    """Of the triplet system, on all trials."""
    table = read_table(exp / "triplet" / "embeddings_test" / "xvector.scp")
    vectors = {utterance: read_vector(location).astype(np.float64) for utterance, location in table.items()}
    found = []
    for line in (root / "data" / "test" / "trials_all").read_text(encoding="utf-8").splitlines():
        one, other = (vectors[utterance] for utterance in line.split(" ")[:2])
        found.append(one @ other / np.sqrt((one @ one) * (other @ other)))
    return np.array(found)


def test_the_cosine_of_the_fusion_is_the_mean_of_both_networks(root: Path) -> None:
    other = other_experiment(root)
    alone = scored(root)
    results = scored(root, fuse_with=str(other))
    both = (cosines(root, root / "exp") + cosines(root, other)) / 2
    np.testing.assert_allclose(scores_of(root / "exp", "fusion"), both, atol=1e-5)
    systems = {s["name"]: s for s in results["systems"] if s["trials"] == "trials_all"}
    assert [*systems] == [*NOISE, "fusion"]
    assert systems["fusion"]["parameters"] == 2 * systems["triplet"]["parameters"]
    assert systems["fusion"]["model"] == "rescnn + rescnn"
    assert [s for s in results["systems"] if s["name"] != "fusion"] == alone["systems"]


def test_calibrated_weighs_the_scores_of_both_networks(root: Path) -> None:
    tests = read_table(root / "data" / "test" / "utt2spk")
    write_table(root / "data" / "test_nosil" / "utt2num_frames", dict.fromkeys(tests, "300"))
    dev = {f"dev{s:02d}-{u}": f"dev{s:02d}" for s in range(12) for u in range(5)}
    write_table(root / "data" / "dev_nosil" / "utt2spk", dev)
    write_table(root / "data" / "dev_nosil" / "utt2num_frames", {u: str(200 + n % 9) for n, u in enumerate(dev)})
    for name in NOISE:
        generator = np.random.default_rng(4)
        means = {speaker: generator.normal(size=6) for speaker in sorted(set(dev.values()))}
        out = root / "exp" / name / "embeddings_dev"
        with ArkWriter(out / "xvector.1.ark", out / "xvector.scp") as writer:
            for utterance, speaker in dev.items():
                vector = means[speaker] + NOISE[name] * generator.normal(size=6)
                writer.write(utterance, vector.astype(np.float32))
    other = other_experiment(root)
    scored(root, fuse_with=str(other), backends=["cosine", "calibrated"])
    # As all test utterances are equally long, the fused score is an affine map of the two cosines.
    halves = [cosines(root, exp) for exp in (root / "exp", other)]
    fused = scores_of(root / "exp", "fusion", "calibrated")
    design = np.stack([*halves, np.ones_like(fused)], axis=1)
    weights = np.linalg.lstsq(design, fused, rcond=None)[0]
    np.testing.assert_allclose(design @ weights, fused, atol=1e-3)
    assert weights[0] > 2 * abs(weights[1])  # the other network hears the same with noise added


def test_what_cannot_be_fused_is_named(root: Path) -> None:
    for folder in (root / "nowhere", root / "exp"):
        with pytest.raises(InputError, match=r"scoring\.fuse_with: .* is not another experiment with embeddings"):
            scored(root, fuse_with=str(folder))
    other = other_experiment(root)
    table = other / "triplet" / "embeddings_test" / "xvector.scp"
    write_table(table, {f"x{u}": place for u, place in read_table(table).items()})
    with pytest.raises(InputError, match=r"has none of the utterances of .*fuse experiments on the same data"):
        scored(root, fuse_with=str(other))
    write_table(table, {u[1:]: place for u, place in read_table(table).items() if u != "xr00-00"})
    scored(root, fuse_with=str(other))
    assert read_table(root / "exp" / "fusion" / "missing_trials_all") == {"r00-00": "has no embedding"}


def test_the_papers_fusions_against_loops_over_trials(root: Path) -> None:
    """Embeddings added and length-normalised, and scores normalised over the list and added (table 6)."""
    other = other_experiment(root, dim=6)
    results = scored(root, fuse_with=str(other), backends=["cosine", "embedding-sum", "score-sum"])
    named = [(s["name"], s["backend"]) for s in results["systems"] if s["trials"] == "trials_all"]
    sums = [("fusion", backend) for backend in ("cosine", "embedding-sum", "score-sum")]
    assert named == [*((name, "cosine") for name in NOISE), *sums]
    tables = [read_table(exp / "triplet" / "embeddings_test" / "xvector.scp") for exp in (root / "exp", other)]
    added = {}
    for utterance in tables[0]:
        one, two = (read_vector(table[utterance]).astype(np.float64) for table in tables)
        total = one / np.sqrt(one @ one) + two / np.sqrt(two @ two)
        added[utterance] = total / np.sqrt(total @ total)
    pairs = [line.split(" ") for line in (root / "data/test/trials_all").read_text(encoding="utf-8").splitlines()]
    expected = [added[one] @ added[other_side] for one, other_side, _ in pairs]
    np.testing.assert_allclose(scores_of(root / "exp", "fusion", "embedding-sum"), expected, atol=1e-5)
    total = np.zeros(len(pairs))
    for exp in (root / "exp", other):
        values = cosines(root, exp)
        mean = sum(values) / len(values)
        total += (values - mean) / np.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    np.testing.assert_allclose(scores_of(root / "exp", "fusion", "score-sum"), total, atol=1e-3)


def test_trials_without_an_embedding_do_not_shift_the_normalisation(root: Path) -> None:
    other = other_experiment(root, dim=6)
    options = {"fuse_with": str(other), "backends": ["cosine", "score-sum"]}
    scored(root, **options)
    everything = scores_of(root / "exp", "fusion", "score-sum")
    table = other / "triplet" / "embeddings_test" / "xvector.scp"
    write_table(table, {u: place for u, place in read_table(table).items() if u != "r00-00"})
    scored(root, **options)
    kept = scores_of(root / "exp", "fusion", "score-sum")
    lines = (root / "data/test/trials_all").read_text(encoding="utf-8").splitlines()
    both = everything[["r00-00" not in line.split(" ") for line in lines]]
    assert len(kept) == len(both) < len(everything)
    assert abs(kept.mean()) < 1e-5  # each network's scores have the mean 0
    np.testing.assert_allclose(np.corrcoef(kept, both)[0, 1], 1, atol=1e-4)


def test_sums_that_are_impossible_are_named_before_anything_is_scored(root: Path) -> None:
    other = other_experiment(root, dim=5)
    for options, problem in (
        ({"fuse_with": str(other)}, r"embeddings of 6 and 5 dimensions cannot be added; train both networks with one"),
        ({}, r"scoring\.backends: embedding-sum is for two networks; name the other experiment by scoring\.fuse_with"),
    ):
        with pytest.raises(InputError, match=problem) as caught:
            scored(root, backends=["cosine", "embedding-sum"], **options)
        assert "\n" not in str(caught.value)
        assert not list((root / "exp").glob("*/scores_*"))
    scored(root, fuse_with=str(other), backends=["cosine", "score-sum"])
