"""Own trial lists, enrolment models and the enrolment table, through a whole evaluation; what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.evaluation import evaluate, find_lists, read_list
from deepspeaker.files import sha256_of
from deepspeaker.kaldi import ArkWriter, read_table, read_vector, write_table
from deepspeaker.metrics import det_points, equal_error_rate
from deepspeaker.trials import trial_list_path, write_trials_enrol
from tests.evaluation.made_up import CONFIG, NOISE, refusal, score, system_of

QUICK = CONFIG.scoring.model_copy(update={"bootstrap": 0, "hard_nontargets": 0})


def quick(root: Path, **more: Any) -> dict[str, Any]:
    """Without intervals and ``trials_hard``; ``scoring`` keys may be given."""
    scoring = QUICK.model_copy(update=more.pop("scoring", {}))
    evaluate(CONFIG.model_copy(update={"scoring": scoring}), root / "data", root / "exp", 3, 5.0, **more)
    content: dict[str, Any] = json.loads((root / "exp" / "results.json").read_text(encoding="utf-8"))
    return content


def vectors_of(root: Path, name: str) -> dict[str, np.ndarray]:
    table = read_table(root / "exp" / name / "embeddings_test" / "xvector.scp")
    return {utterance: read_vector(location).astype(np.float64) for utterance, location in table.items()}


def scores_of(root: Path, name: str, trials: str, label: str = "cosine") -> dict[tuple[str, str], float]:
    lines = (root / "exp" / name / f"scores_{trials}_{label}").read_text(encoding="utf-8").splitlines()
    return {(one, other): float(value) for one, other, value in map(str.split, lines)}


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def write_list(path: Path, trials: list[tuple[str, str]]) -> Path:
    """With the labels that the ids (``r05-03``, models ``r05...``) tell."""
    path.write_text("".join(f"{a} {b} {'target' if a[:3] == b[:3] else 'nontarget'}\n" for a, b in trials))
    return path


OWN = [("r00-00", "r00-01"), ("r01-00", "r00-01"), ("r02-03", "r02-05"), ("r03-03", "r02-05")]


def test_own_lists_are_scored_under_their_names_and_kept(root: Path, tmp_path: Path) -> None:
    first, second = write_list(tmp_path / "mine", OWN), write_list(tmp_path / "other.txt", OWN[:2])
    before = quick(root)
    results = quick(root, given_lists=[first, second])
    assert list(results["trials"])[-2:] == ["mine", "other.txt"]
    assert results["trials"]["mine"]["sha256"] == sha256_of(first)
    kept = [s for s in results["systems"] if s["trials"] not in ("mine", "other.txt")]
    assert kept == before["systems"]
    vectors = vectors_of(root, "softmax")
    for pair, value in scores_of(root, "softmax", "mine").items():
        assert value == pytest.approx(cosine(vectors[pair[0]], vectors[pair[1]]), abs=1e-6)
    copy = trial_list_path(root / "data", root / "exp", "mine")
    assert copy == root / "exp" / "trials" / "mine"
    assert copy.read_bytes() == first.read_bytes()
    assert trial_list_path(root / "data", root / "exp", "trials_all") == root / "data" / "test" / "trials_all"
    quick(root)
    assert not copy.exists()


@pytest.mark.parametrize("form", ["{label} {one} {other}", "{one}\t{other}\t{word}", "{one}  {other} {label}"])
def test_own_lists_of_other_toolkits_are_taken_in_kaldis_form(root: Path, tmp_path: Path, form: str) -> None:
    kaldi, mine = write_list(tmp_path / "kaldi", OWN), tmp_path / "mine"
    lines = [line.split() for line in kaldi.read_text().splitlines()]
    converted = [form.format(one=a, other=b, word=c, label=int(c == "target")) for a, b, c in lines]
    mine.write_text("\n".join(converted) + "\n")
    copies = find_lists(root / "data", root / "exp", [kaldi, mine], None)[-2:]
    assert copies[0].read_bytes() == copies[1].read_bytes() == kaldi.read_bytes()
    mine.write_text("r00-00 r00-01 0.5\n")
    with pytest.raises(InputError, match="mine"):
        find_lists(root / "data", root / "exp", [mine], None)


@pytest.mark.parametrize("form", ["{label} {one} {other}", "{one} {other} {word}"])
def test_a_list_may_name_audio_files_as_voxceleb_does(root: Path, tmp_path: Path, form: str) -> None:
    test = root / "data" / "test"
    files = {u: f"{u[:3]}/video/{u[4:]}.wav" for u in read_table(test / "utt2spk")}
    write_table(test / "wav.scp", {u: f"/data/test/{file}" for u, file in files.items()})
    kaldi, mine = write_list(tmp_path / "kaldi", OWN), tmp_path / "mine"
    lines = [line.split() for line in kaldi.read_text().splitlines()]
    mine.write_text(
        "".join(form.format(one=files[a], other=files[b], word=c, label=int(c == "target")) + "\n" for a, b, c in lines)
    )
    assert find_lists(root / "data", root / "exp", [mine], None)[-1].read_bytes() == kaldi.read_bytes()
    mine.write_text(f"1 {files['r00-00']} r00/video/none.wav\n0 {files['r00-00']} {files['r01-00']}\n")
    copy = find_lists(root / "data", root / "exp", [mine], None)[-1]
    assert copy.read_text() == "r00-00 r00/video/none.wav target\nr00-00 r01-00 nontarget\n"
    write_table(test / "segments", {"r00-00": "x 0 1"})  # a file is not an utterance
    copy = find_lists(root / "data", root / "exp", [mine], None)[-1]
    assert copy.read_text().startswith("r00/video/00.wav r00/video/none.wav target\n")


MODELS = {"r00-model": "r00-00 r00-02 r00-04", "r01-model": "r01-00 r01-01", "r02-model": "r02-07"}
OF_MODELS = [
    ("r00-model", "r00-01"), ("r00-model", "r05-01"), ("r01-model", "r01-05"), ("r02-model", "r00-03"),
    ("r02-model", "r02-08"), ("r03-01", "r03-02"), ("r03-01", "r04-02"),
]  # fmt: skip


@pytest.mark.parametrize("where", ["option", "beside", "test part"])
def test_models_are_enrolled_by_the_mean_of_their_embeddings(root: Path, tmp_path: Path, where: str) -> None:
    path, more = tmp_path / "mine", {}
    if where == "option":
        write_table(tmp_path / "models", MODELS)
        more = {"enrolment": tmp_path / "models"}
        write_table(tmp_path / "mine.spk2utt", {"r00-model": "r09-09"})  # the option comes first
    elif where == "beside":
        write_table(tmp_path / "mine.spk2utt", MODELS)
    else:
        path = root / "data" / "test" / "trials"
        write_table(root / "data" / "test" / "enrol_spk2utt", MODELS)
    write_list(path, OF_MODELS)
    results = quick(root, given_lists=[] if where == "test part" else [path], **more)
    assert results["trials"][path.name]["models"] == 4
    vectors = vectors_of(root, "triplet")
    found = scores_of(root, "triplet", path.name)
    assert list(found) == OF_MODELS
    for (model, test), value in found.items():
        mean = np.mean([vectors[utterance] for utterance in MODELS.get(model, model).split()], axis=0)
        assert value == pytest.approx(cosine(mean, vectors[test]), abs=1e-6)


def test_the_enrolment_table_counts_what_the_lists_say(root: Path) -> None:
    utt2spk = read_table(root / "data" / "test" / "utt2spk")
    write_trials_enrol(root / "data" / "test", utt2spk, 0)
    results = quick(root, scoring={"bootstrap": 50})
    table = results["enrolment_table"]
    assert [(row["name"], row["utterances"]) for row in table] == [(n, c) for n in NOISE for c in range(1, 6)]
    assert {s["trials"] for s in results["systems"]} == {"trials_all", "trials_1p99"}
    for row in table[5:]:
        path = root / "data" / "test" / row["trials"]
        assert results["trials"][row["trials"]]["sha256"] == sha256_of(path)
        models = {m: u.split() for m, u in read_table(path.with_name(path.name + ".spk2utt")).items()}
        assert {len(own) for own in models.values()} == {row["utterances"]}
        vectors = vectors_of(root, row["name"])
        scores, labels = [], []
        for line in path.read_text().splitlines():
            model, test, label = line.split()
            scores.append(cosine(np.mean([vectors[u] for u in models[model]], axis=0), vectors[test]))
            labels.append(label == "target")
        is_target, values = np.array(labels), np.array(scores)
        points = det_points(values[is_target], values[~is_target])
        assert row["eer"] == pytest.approx(equal_error_rate(points)[0], abs=1e-3)
        rows = values.reshape(-1, 100)
        assert row["rank1"] == pytest.approx(np.mean(rows[:, 0] == rows.max(axis=1)), abs=1e-9)
        assert row["eer_ci95"][0] <= row["eer"] <= row["eer_ci95"][1]
        assert (row["backend"], row["enrolment"]) == ("cosine", "average")
    eers = [row["eer"] for row in table if row["name"] == "triplet"]
    assert eers[4] < eers[0]


def add_training_part(root: Path, speakers: int = 30, prefix: str = "train") -> None:
    utt2spk = {f"{prefix}{s:02d}-{u}": f"{prefix}{s:02d}" for s in range(speakers) for u in range(5)}
    write_table(root / "data" / "train_nosil" / "utt2spk", utt2spk)
    write_table(root / "data" / "train_nosil" / "utt2num_frames", dict.fromkeys(utt2spk, "200"))
    tests = read_table(root / "data" / "test" / "utt2spk")
    write_table(root / "data" / "test_nosil" / "utt2num_frames", dict.fromkeys(tests, "300"))
    for name in NOISE:
        generator = np.random.default_rng(speakers)
        means = {speaker: generator.normal(size=6) for speaker in sorted(set(utt2spk.values()))}
        out = root / "exp" / name / "embeddings_train"
        with ArkWriter(out / "xvector.1.ark", out / "xvector.scp") as writer:
            for utterance in sorted(utt2spk):
                noise = NOISE[name] * generator.normal(size=6)
                writer.write(utterance, (means[utt2spk[utterance]] + noise).astype(np.float32))


def test_plda_enrols_both_ways_in_the_table_and_as_configured_elsewhere(root: Path) -> None:
    write_trials_enrol(root / "data" / "test", read_table(root / "data" / "test" / "utt2spk"), 0, max_utterances=3)
    write_list(root / "data" / "test" / "trials", OF_MODELS)
    write_table(root / "data" / "test" / "enrol_spk2utt", MODELS)
    add_training_part(root)
    options = {"backends": ["plda"], "lda_dim": 4}
    results = quick(root, scoring=options)
    table = [row for row in results["enrolment_table"] if row["name"] == "triplet"]
    assert [(row["enrolment"], row["utterances"]) for row in table] == [
        (way, count) for way in ("average", "exact") for count in (1, 2, 3)
    ]
    eers = {(row["enrolment"], row["utterances"]): row["eer"] for row in table}
    assert eers["average", 1] == eers["exact", 1]
    assert (root / "exp" / "triplet" / "scores_trials_enrol_3_plda-exact").is_file()
    by_average = scores_of(root, "triplet", "trials", "plda")
    quick(root, scoring={**options, "plda_enrolment": "exact"})
    by_likelihood = scores_of(root, "triplet", "trials", "plda")
    for pair in OF_MODELS:
        same = len(MODELS.get(pair[0], pair[0]).split()) == 1
        assert (by_average[pair] == by_likelihood[pair]) == same


def test_the_hard_list_is_chosen_by_the_softmax_system_and_says_so(root: Path) -> None:
    results = score(root)
    assert results["trials"]["trials_hard"]["chosen_by"] == "softmax, cosine"
    assert results["trials"]["trials_all"]["chosen_by"] is None
    for name in NOISE:
        assert system_of(results, name, "trials_hard")["eer"] > system_of(results, name, "trials_all")["eer"]
    assert "trials_hard" not in {comparison["trials"] for comparison in results["comparisons"]}
    assert "trials_hard" not in quick(root)["trials"]


def test_breakdowns_add_up(root: Path) -> None:
    utt2spk = read_table(root / "data" / "test" / "utt2spk")
    gender = {speaker: "fm"[n % 2] for n, speaker in enumerate(sorted(set(utt2spk.values())))}
    write_table(root / "data" / "test" / "spk2gender", gender)
    write_table(root / "data" / "test" / "utt2channel", {u: "ab"[n % 2] for n, u in enumerate(utt2spk)})
    frames = {u: str(100 + 50 * (n % 10)) for n, u in enumerate(utt2spk)}
    write_table(root / "data" / "test_nosil" / "utt2num_frames", frames)
    results = quick(root, scoring={"bootstrap": 20})
    for system in results["systems"]:
        info = results["trials"][system["trials"]]
        for by in ("gender", "duration", "channel"):
            own = [condition for condition in system["conditions"] if condition["by"] == by]
            assert sum(condition["target"] for condition in own) == info["target"]
            assert sum(condition["nontarget"] for condition in own) == info["nontarget"]
        assert {c["value"] for c in system["conditions"] if c["by"] == "channel"} == {"a", "a, b", "b"}
        whole = [c for c in system["conditions"] if c["value"] in ("f", "m")]
        assert all(c["eer_ci95"][0] <= c["eer"] <= c["eer_ci95"][1] for c in whole)


# What is wrong


def test_ids_that_no_embedding_has_are_counted_named_and_left_out(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = sorted(read_table(root / "data" / "test" / "utt2spk"))
    trials = [(ids[n], ids[n + 1]) for n in range(0, 238)] + [("r05-00", "r05-nobody"), ("nobody-1", "r06-00")]
    results = quick(root, given_lists=[write_list(tmp_path / "mine", trials)])
    assert {system_of(results, name, "mine")["trials_left_out"] for name in NOISE} == {2}
    said = capsys.readouterr().err
    assert "skipped 2 of 241 utterances of mine; all in" in said
    listed = read_table(root / "exp" / "softmax" / "missing_mine")
    assert listed == dict.fromkeys(["nobody-1", "r05-nobody"], "is not an utterance of the test part")
    assert len(scores_of(root, "softmax", "mine")) == 238
    (root / "exp" / "results.json").unlink()
    with pytest.raises(InputError, match=r"3 of 7 utterances of few had to be skipped, more than 5 %"):
        quick(root, given_lists=[write_list(tmp_path / "few", [*OWN[:2], ("a", "b"), ("c", "r09-00"), OWN[0][::-1]])])
    assert not (root / "exp" / "results.json").exists()


def test_a_model_without_one_of_its_utterances_is_left_out_whole(root: Path, tmp_path: Path) -> None:
    ids = sorted(read_table(root / "data" / "test" / "utt2spk"))
    trials = [(ids[n], ids[n + 1]) for n in range(0, 100)] + [("r00-model", "r00-01"), ("r00-model", "r01-01")]
    write_table(tmp_path / "mine.spk2utt", {"r00-model": "r00-00 r00-02 r00-gone"})
    results = quick(root, given_lists=[write_list(tmp_path / "mine", trials)])
    assert system_of(results, "softmax", "mine")["trials_left_out"] == 2
    assert list(read_table(root / "exp" / "softmax" / "missing_mine")) == ["r00-gone"]


UTT2SPK = {"a-1": "a", "a-2": "a", "b-1": "b", "b-2": "b"}


@pytest.mark.parametrize(
    ("lines", "models", "said"),
    [
        ("a-1 a-2 target\n", {}, "has no non-target trial; error rates need target and non-target trials"),
        ("a-1 b-2 nontarget\n", {}, "has no target trial"),
        ("a-1 a-2 target\na-1 b-1 nontarget\na-1 a-2 target\n", {}, ":3: the trial a-1 a-2 appears twice"),
        (
            "a-1 b-1 nontarget\na-1 b-2 target\n",
            {},
            ":2: a-1 b-2 are utterances of a and b, but the label says otherwise (1 such trials); ",
        ),
        ("m a-2 target\nm b-1 nontarget\n", {"m": "a-1 b-1"}, "the enrolment model m has utterances of a and b"),
        ("a-1 a-2 target\na-1 b-1 nontarget\n", {"a-1": "a-2"}, "a-1 is both an enrolment model and an utterance"),
        ("m a-2 target\nm b-1 nontarget\n", {"m": ""}, "m has no utterance; add one or remove the line"),
        ("m a-2 target\nm b-1 nontarget\n", {"m": "a-1 a-1"}, "m has an utterance twice; keep it once"),
    ],
)
def test_a_list_that_makes_no_sense_is_named(
    tmp_path: Path, lines: str, models: dict[str, str], said: str
) -> None:
    path = tmp_path / "mine"
    path.write_text(lines)
    if models:
        write_table(tmp_path / "mine.spk2utt", models)
    with pytest.raises(InputError) as caught:
        read_list(path, UTT2SPK)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "mine"))
    assert "\n" not in str(caught.value)


def test_names_that_are_taken_and_files_that_are_not_there(root: Path, tmp_path: Path) -> None:
    mine = write_list(tmp_path / "trials_hard", OWN)
    with pytest.raises(InputError, match="trials_hard is taken; rename it"):
        quick(root, given_lists=[mine])
    mine = mine.rename(tmp_path / "mine")
    (tmp_path / "sub").mkdir()
    with pytest.raises(InputError, match="mine is taken"):
        quick(root, given_lists=[mine, write_list(tmp_path / "sub" / "mine", OWN)])
    with pytest.raises(InputError, match=r"--trials .*none: no such trial list"):
        quick(root, given_lists=[tmp_path / "none"])
    with pytest.raises(InputError, match=r"--enrolment .*none: no such file"):
        quick(root, given_lists=[mine], enrolment=tmp_path / "none")
    with pytest.raises(InputError, match="needs a list; name it with --trials"):
        quick(root, enrolment=tmp_path / "none")


def test_a_cohort_that_contains_test_speakers_is_refused_unless_insisted_on(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_training_part(root, speakers=30, prefix="r")
    options = {"backends": ["cosine", "as-norm"], "cohort_top": 10}
    with pytest.raises(InputError, match="24 test speakers are in the cohort or calibration data") as caught:
        quick(root, scoring=options)
    assert "first: r00, r01, r02, r03, r04, r05, r06, r07, r08, r09, ...; all in " in str(caught.value)
    listed = read_table(root / "exp" / "untrained" / "shared_speakers")
    assert listed == dict.fromkeys([f"r{n:02d}" for n in range(24)], "is among the speakers that as-norm learns from")
    results = quick(root, scoring=options, allow_speaker_overlap=True)
    shared = {(s["backend"], s["shared_speakers"]) for s in results["systems"]}
    assert shared == {("cosine", 0), ("as-norm", 24)}
    assert "24 test speakers are not new to softmax; all in" in capsys.readouterr().err


def test_more_dimensions_than_speakers_stop_plda(root: Path) -> None:
    add_training_part(root, speakers=4)
    with pytest.raises(InputError, match=r"scoring\.lda_dim 6: 4 training speakers allow 3 at most; lower it"):
        quick(root, scoring={"backends": ["plda"], "lda_dim": 6})


def test_a_list_of_ours_with_a_foreign_utterance_is_refused(root: Path) -> None:
    path = root / "data" / "test" / "trials_1p99"
    path.write_text("nobody r00-00 nontarget\n" + path.read_text())
    assert "trials_1p99: nobody is not an utterance of" in refusal(root)
