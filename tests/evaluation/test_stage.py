from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from deepspeaker.backends import BACKENDS
from deepspeaker.errors import InputError
from deepspeaker.evaluation import evaluate
from deepspeaker.files import sha256_of
from deepspeaker.kaldi import ArkWriter, read_table, read_vector, write_table
from deepspeaker.models import build_model
from deepspeaker.trials import trial_list_path
from tests.evaluation.made_up import CONFIG, NOISE, SPEAKERS, UTTERANCES, refusal, score, system_of


def read_scores(root: Path, name: str, trials: str) -> tuple[list[tuple[str, str]], np.ndarray, np.ndarray]:
    """Pairs, scores and labels of a score file, joined with its list by hand."""
    labels = {}
    path = trial_list_path(root / "data", root / "exp", trials)
    for line in path.read_text(encoding="utf-8").splitlines():
        enrolment, test, label = line.split(" ")
        labels[enrolment, test] = label == "target"
    pairs, scores = [], []
    for line in (root / "exp" / name / f"scores_{trials}_cosine").read_text(encoding="utf-8").splitlines():
        enrolment, test, value = line.split(" ")
        pairs.append((enrolment, test))
        scores.append(float(value))
    return pairs, np.array(scores), np.array([labels[pair] for pair in pairs])


def eer_of(scores: np.ndarray, is_target: np.ndarray) -> float:
    """Where p_miss = p_fa on the line between the two points of the ROC around it."""
    p_fa, p_hit, _ = roc_curve(is_target, scores, drop_intermediate=False)
    gap = (1 - p_hit) - p_fa
    at = int(np.argmax(gap <= 0))
    share = gap[at - 1] / (gap[at - 1] - gap[at])
    return float(p_fa[at - 1] + share * (p_fa[at] - p_fa[at - 1]))


def min_dcf_of(scores: np.ndarray, is_target: np.ndarray, p_target: float) -> float:
    p_fa, p_hit, _ = roc_curve(is_target, scores, drop_intermediate=False)
    costs = p_target * (1 - p_hit) + (1 - p_target) * p_fa
    return float(costs.min() / min(p_target, 1 - p_target))


def test_results_equal_figures_recomputed_from_the_score_files(root: Path) -> None:
    results = score(root)
    assert [(system["name"], system["trials"]) for system in results["systems"]] == [
        (name, trials) for name in NOISE for trials in ("trials_all", "trials_1p99", "trials_hard")
    ]
    parameters = sum(p.numel() for p in build_model(8, **CONFIG.model.model_dump()).parameters())
    for system in results["systems"]:
        pairs, scores, is_target = read_scores(root, system["name"], system["trials"])
        path = trial_list_path(root / "data", root / "exp", system["trials"])
        listed = path.read_text(encoding="utf-8").splitlines()
        assert [f"{a} {b}" for a, b in pairs] == [line.rpartition(" ")[0] for line in listed]
        assert system["eer"] == pytest.approx(eer_of(scores, is_target), abs=1e-9)
        for prior, cost in system["min_dcf"].items():
            assert cost == pytest.approx(min_dcf_of(scores, is_target, float(prior)), abs=1e-9)
        assert set(system["min_dcf"]) == {"0.05", "0.01", "0.001"} == set(system["min_dcf_ci95"])
        low, high = system["eer_ci95"]
        assert low <= system["eer"] <= high
        assert low < high or system["eer"] == 0
        assert system["roc_auc"] == pytest.approx(roc_auc_score(is_target, scores), abs=1e-9)
        assert 0 <= system["min_cllr"] <= 1
        assert np.float32(system["eer_threshold"]) in scores.astype(np.float32)
        assert (system["model"], system["parameters"], system["backend"]) == ("rescnn", parameters, "cosine")
        if system["trials"] == "trials_1p99":
            rows = scores.reshape(-1, 100)
            targets = rows[is_target.reshape(-1, 100)]
            assert system["rank1"] == pytest.approx(np.mean(targets == rows.max(axis=1)), abs=1e-9)
        else:
            assert system.get("rank1") is None
    eers = [system_of(results, name, "trials_all")["eer"] for name in NOISE]
    assert eers == sorted(eers, reverse=True)


def test_scores_are_the_cosines_of_the_embeddings(root: Path) -> None:
    score(root)
    locations = read_table(root / "exp" / "softmax" / "embeddings_test" / "xvector.scp")
    embeddings = {name: read_vector(location).astype(np.float64) for name, location in locations.items()}
    pairs, scores, is_target = read_scores(root, "softmax", "trials_1p99")
    for (enrolment, test), value, target in zip(pairs, scores, is_target, strict=True):
        one, other = embeddings[enrolment], embeddings[test]
        assert value == pytest.approx(one @ other / np.sqrt(one @ one) / np.sqrt(other @ other), abs=1e-6)
        assert target == (enrolment[:3] == test[:3])


def test_results_describe_corpus_seed_configuration_and_trials(root: Path) -> None:
    results = score(root)
    assert (results["schema"], results["corpus"], results["synthetic"], results["seed"]) == (1, "made-up", True, 3)
    expected = CONFIG.model_dump()
    for section in ("softmax", "triplet"):
        expected[section]["precision"] = "float32"  # as the checkpoints say, not "auto"
    assert results["config"] == expected
    utterances = SPEAKERS * UTTERANCES
    target = SPEAKERS * UTTERANCES * (UTTERANCES - 1) // 2
    assert results["trials"]["trials_all"] == {
        "target": target,
        "nontarget": utterances * (utterances - 1) // 2 - target,
        "speakers": SPEAKERS,
        "sha256": sha256_of(root / "data" / "test" / "trials_all"),
        "models": None,
        "chosen_by": None,
    }
    assert results["trials"]["trials_1p99"]["target"] * 99 == results["trials"]["trials_1p99"]["nontarget"]


def test_two_runs_give_the_same_bytes_wherever_they_lie(root: Path, finished: Path, tmp_path: Path) -> None:
    score(root)
    first = (root / "exp" / "results.json").read_bytes()
    score(root)
    assert (root / "exp" / "results.json").read_bytes() == first
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(finished, elsewhere)
    score(elsewhere)
    assert (elsewhere / "exp" / "results.json").read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_systems_without_embeddings_are_left_out(root: Path) -> None:
    shutil.rmtree(root / "exp" / "triplet")
    assert {system["name"] for system in score(root)["systems"]} == {"untrained", "softmax"}


def remove_embeddings(root: Path, name: str, utterances: list[str]) -> None:
    path = root / "exp" / name / "embeddings_test" / "xvector.scp"
    write_table(path, {u: place for u, place in read_table(path).items() if u not in utterances})


def test_a_few_missing_embeddings_are_listed_and_their_trials_left_out(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete = score(root)
    missing = ["r03-01", "r11-09"]
    remove_embeddings(root, "softmax", missing)
    results = score(root)
    said = capsys.readouterr().err
    assert f"skipped 2 of {SPEAKERS * UTTERANCES} utterances of trials_all" in said
    for trials in ("trials_all", "trials_1p99"):
        listed = root / "exp" / "softmax" / f"missing_{trials}"
        assert read_table(listed) == dict.fromkeys(missing, "has no embedding")
        assert str(listed) in said
        assert results["trials"][trials] == complete["trials"][trials]
        assert system_of(results, "triplet", trials) == system_of(complete, "triplet", trials)

    lines = (root / "data" / "test" / "trials_all").read_text(encoding="utf-8").splitlines()
    expected = [tuple(line.split(" ")[:2]) for line in lines if not any(u in line for u in missing)]
    pairs, scores, is_target = read_scores(root, "softmax", "trials_all")
    assert pairs == expected
    assert system_of(results, "softmax", "trials_all")["eer"] == pytest.approx(eer_of(scores, is_target), abs=1e-9)

    lines = (root / "data" / "test" / "trials_1p99").read_text(encoding="utf-8").splitlines()
    rows = [lines[first : first + 100] for first in range(0, len(lines), 100)]
    there = [[line for line in row if not any(u in line for u in missing)] for row in rows]
    pairs, scores, is_target = read_scores(root, "softmax", "trials_1p99")
    assert pairs == [tuple(line.split(" ")[:2]) for row in there for line in row]
    score_of = dict(zip(pairs, scores.tolist(), strict=True))
    won = []
    for row in there:
        if any(line.endswith(" target") for line in row):
            ranked = {line: score_of[tuple(line.split(" ")[:2])] for line in row}
            won.append(max(ranked, key=lambda line: ranked[line]).endswith(" target"))
    assert 0 < len(won) < len(rows)
    assert system_of(results, "softmax", "trials_1p99")["rank1"] == pytest.approx(np.mean(won), abs=1e-9)


def test_a_list_of_missing_embeddings_goes_when_they_are_there_again(root: Path) -> None:
    path = root / "exp" / "softmax" / "embeddings_test" / "xvector.scp"
    before = path.read_bytes()
    remove_embeddings(root, "softmax", ["r03-01"])
    score(root)
    path.write_bytes(before)
    score(root)
    assert not list((root / "exp" / "softmax").glob("missing_*"))


def test_more_than_five_percent_of_missing_embeddings_stop_scoring(root: Path) -> None:
    missing = [f"r00-{which:02d}" for which in range(10)] + ["r01-00", "r01-01", "r01-02"]
    remove_embeddings(root, "softmax", missing)
    said = refusal(root)
    assert "13 of 240 utterances of trials_all had to be skipped, more than 5 %" in said
    assert "first r00-00: has no embedding" in said
    assert "raise --max-skipped" in said


def test_no_embedding_at_all_stops_scoring_whatever_may_be_skipped(root: Path) -> None:
    write_table(root / "exp" / "softmax" / "embeddings_test" / "xvector.scp", {})
    assert "240 of 240" in refusal(root, max_skipped=100)


def test_a_test_speaker_in_training_stops_scoring(root: Path) -> None:
    path = root / "exp" / "triplet" / "network.json"
    network = json.loads(path.read_text(encoding="utf-8")) | {"speakers": ["a", "r07", "r05", "z"]}
    path.write_text(json.dumps(network), encoding="utf-8")
    said = refusal(root)
    assert said.startswith("2 test speakers were in the training of triplet (first: r05, r07; all in ")
    assert said.endswith("insist with --allow-speaker-overlap true")
    listed = dict.fromkeys(["r05", "r07"], "was in training")
    assert read_table(root / "exp" / "triplet" / "shared_speakers") == listed
    results = score(root, allow_speaker_overlap=True)
    assert {(s["name"], s["shared_speakers"]) for s in results["systems"]} == {
        ("untrained", 0), ("softmax", 0), ("triplet", 2)
    }  # fmt: skip
    corpus = '{"corpus": "made-up", "synthetic": true, "same_speakers": true}'
    (root / "data" / "corpus.json").write_text(corpus, encoding="utf-8")
    assert score(root) == results  # stage 1 had too few speakers for two parts and told the user


def test_what_is_not_there_is_named(root: Path) -> None:
    trials = root / "data" / "test" / "trials_all"
    text = trials.read_text(encoding="utf-8")
    trials.write_text("nobody-1 r00-00 target\n" + text, encoding="utf-8")
    assert "nobody-1 is not an utterance" in refusal(root)
    trials.unlink()
    assert "trials_all: no such trial list; run stage 1" in refusal(root)
    trials.write_text(text, encoding="utf-8")
    (root / "data" / "corpus.json").write_text("{", encoding="utf-8")
    assert "corpus.json: not JSON" in refusal(root)
    (root / "data" / "corpus.json").unlink()
    assert "corpus.json: no such file; run stage 1" in refusal(root)
    (root / "data" / "corpus.json").write_text('{"corpus": "made-up", "synthetic": false}', encoding="utf-8")
    (root / "exp" / "softmax" / "network.json").unlink()
    assert "softmax/network.json: no such file; run stage 5 again" in refusal(root)
    for name in NOISE:
        shutil.rmtree(root / "exp" / name / "embeddings_test")
    assert "no system has embeddings of the test part; run stage 5" in refusal(root)


def test_every_back_end_of_the_configuration_is_scored_and_compared(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, speakers in (("train", 30), ("dev", 12), ("test", SPEAKERS)):
        prefix = "r" if part == "test" else part
        utterances = UTTERANCES if part == "test" else 5
        utt2spk = {f"{prefix}{s:02d}-{u:02d}": f"{prefix}{s:02d}" for s in range(speakers) for u in range(utterances)}
        folder = root / "data" / f"{part}_nosil"
        write_table(folder / "utt2spk", utt2spk)
        write_table(folder / "utt2num_frames", {name: str(200 + n % 7) for n, name in enumerate(utt2spk)})
        if part == "test":
            continue
        for name in NOISE:
            generator = np.random.default_rng(speakers)
            means = {speaker: generator.normal(size=6) for speaker in sorted(set(utt2spk.values()))}
            out = root / "exp" / name / f"embeddings_{part}"
            with ArkWriter(out / "xvector.1.ark", out / "xvector.scp") as writer:
                for utterance in sorted(utt2spk):
                    vector = means[utt2spk[utterance]] + NOISE[name] * generator.normal(size=6)
                    writer.write(utterance, vector.astype(np.float32))
    backends = [name for name, definition in BACKENDS.items() if not definition.fusion]
    options = CONFIG.scoring.model_copy(update={"backends": backends, "lda_dim": 4, "bootstrap": 50})
    evaluate(CONFIG.model_copy(update={"scoring": options}), root / "data", root / "exp", 3, 5.0)
    results = json.loads((root / "exp" / "results.json").read_text(encoding="utf-8"))
    assert {(s["name"], s["backend"]) for s in results["systems"]} == {(n, b) for n in NOISE for b in backends}
    for system in results["systems"]:
        assert (root / "exp" / system["name"] / f"scores_{system['trials']}_{system['backend']}").is_file()
        assert (system["cllr"] is None) == (system["act_dcf"] is None) == (not BACKENDS[system["backend"]].llr)
    compared = [(c["systems"], c["backends"]) for c in results["comparisons"] if c["trials"] == "trials_all"]
    last = list(NOISE)[-1]
    assert len(compared) == len(NOISE) - 1 + len(backends) - 1
    assert ([last, last], ["plda", "cosine"]) in compared
    assert "too few" not in capsys.readouterr().out
    for name in NOISE:  # two utterances of five speakers for six dimensions
        scp = root / "exp" / name / "embeddings_train" / "xvector.scp"
        some = sorted(set(read_table(root / "data" / "train_nosil" / "utt2spk").items()), key=lambda item: item[1])
        speakers = sorted({speaker for _, speaker in some})[:5]
        kept = [utterance for s in speakers for utterance in sorted(u for u, owner in some if owner == s)[:2]]
        table = read_table(scp)
        write_table(scp, {utterance: table[utterance] for utterance in sorted(kept)})
    few = options.model_copy(update={"backends": ["plda"], "bootstrap": 0})
    evaluate(CONFIG.model_copy(update={"scoring": few}), root / "data", root / "exp", 3, 5.0)
    assert "10 utterances of 5 speakers are too few for PLDA" in capsys.readouterr().out
    shutil.rmtree(root / "exp" / "softmax" / "embeddings_dev")
    with pytest.raises(InputError, match=r"dev.*stage 5"):
        evaluate(CONFIG.model_copy(update={"scoring": options}), root / "data", root / "exp", 3, 5.0)


def test_an_embedding_that_is_not_finite_is_named(root: Path) -> None:
    folder = root / "exp" / "softmax" / "embeddings_test"
    vectors = {utterance: read_vector(location) for utterance, location in read_table(folder / "xvector.scp").items()}
    vectors["r03-04"][2] = np.inf
    with ArkWriter(folder / "xvector.1.ark", folder / "xvector.scp") as writer:
        for utterance in sorted(vectors):
            writer.write(utterance, vectors[utterance])
    with pytest.raises(InputError, match=r"softmax/embeddings_test/xvector\.scp: the embedding of r03-04 has values"):
        score(root)
