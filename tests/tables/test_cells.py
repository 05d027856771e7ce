"""Cells against counts by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.kaldi import write_table
from deepspeaker.tables import Cell, measure, sessions
from tests.tables.made_up import make_data, speakers_of, write_scores


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_data(folder)
    return folder


@pytest.fixture(scope="module")
def exp(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp")
    for name in ("trials_1p99", "trials_all", "trials_enrol_3"):
        write_scores(folder / "triplet" / f"scores_{name}_cosine", data / "test" / name, 2.0, 5)
    return folder


def lines(exp: Path, data: Path, name: str) -> list[tuple[str, str, bool, float]]:
    scores = (exp / "triplet" / f"scores_{name}_cosine").read_text().splitlines()
    labels = (data / "test" / name).read_text().splitlines()
    return [
        (*label.split()[:2], label.endswith(" target"), float(score.split()[2]))  # type: ignore[misc]
        for score, label in zip(scores, labels, strict=True)
    ]


def eer_by_hand(rows: list[tuple[str, str, bool, float]]) -> tuple[float, float]:
    """Return miss rate and false-alarm rate at the threshold where they are closest."""
    targets = np.array([row[3] for row in rows if row[2]])
    nontargets = np.array([row[3] for row in rows if not row[2]])
    rates = [((targets < t).mean(), (nontargets >= t).mean()) for t in targets]
    return min(rates, key=lambda pair: abs(pair[0] - pair[1]))


def test_eer_and_accuracy_of_the_papers_protocol(data: Path, exp: Path) -> None:
    found = measure(Cell("x"), data, {0: exp}, draws=50)
    rows = lines(exp, data, "trials_1p99")
    miss, alarm = eer_by_hand(rows)
    assert min(miss, alarm) - 1e-9 <= found.eer.values[0] <= max(miss, alarm) + 1e-9
    groups = [rows[first : first + 100] for first in range(0, len(rows), 100)]
    ranked_first = [max(group, key=lambda row: row[3])[2] for group in groups]
    assert found.acc is not None
    assert found.acc.values[0] == pytest.approx(np.mean(ranked_first))
    assert found.eer.drawn.shape == found.acc.drawn.shape == (1, 50)
    assert found.eer.speakers == tuple(sorted(set(speakers_of(data).values())))


def test_sessions_restrict_the_target_trials_only(data: Path, exp: Path) -> None:
    rows = lines(exp, data, "trials_1p99")
    session = sessions(data / "test")
    targets = 0
    for condition, same in (("same session", True), ("different session", False)):
        found = measure(Cell("x", condition=condition), data, {0: exp}, draws=20)
        kept = [row for row in rows if not row[2] or (session[row[0]] == session[row[1]]) == same]
        miss, alarm = eer_by_hand(kept)
        assert min(miss, alarm) - 1e-9 <= found.eer.values[0] <= max(miss, alarm) + 1e-9
        here = sum(row[2] for row in kept)
        assert found.acc is not None and found.acc.lowest == pytest.approx(0.5 / here)
        targets += here
    assert targets == sum(row[2] for row in rows)


def test_enrolment_models_have_the_speaker_of_their_utterances(data: Path, exp: Path) -> None:
    found = measure(Cell("x", trials="trials_enrol_3"), data, {0: exp}, draws=20)
    assert found.acc is not None
    assert found.eer.speakers == tuple(sorted(set(speakers_of(data).values())))


def test_only_pairs_of_one_phrase_count(data: Path, exp: Path, tmp_path: Path) -> None:
    phrase = {name: f"word{int(name[-1]) % 3}" for name in speakers_of(data)}
    for path in (data / "test").iterdir():
        (tmp_path / "test").mkdir(exist_ok=True)
        (tmp_path / "test" / path.name).write_bytes(path.read_bytes())
    write_table(tmp_path / "test/utt2word", phrase)
    found = measure(Cell("x", trials="trials_all", condition="same phrase"), tmp_path, {0: exp}, draws=20)
    kept = [row for row in lines(exp, data, "trials_all") if phrase[row[0]] == phrase[row[1]]]
    miss, alarm = eer_by_hand(kept)
    assert min(miss, alarm) - 1e-9 <= found.eer.values[0] <= max(miss, alarm) + 1e-9
    assert found.acc is None


def test_several_trainings_are_rows(data: Path, exp: Path, tmp_path: Path) -> None:
    write_scores(tmp_path / "triplet/scores_trials_1p99_cosine", data / "test/trials_1p99", 3.0, 6)
    found = measure(Cell("x"), data, {4: exp, 2: tmp_path}, draws=20)
    assert found.eer.seeds == (2, 4) and found.eer.drawn.shape == (2, 20)
    assert found.eer.values[0] < found.eer.values[1]


def test_missing_scores_are_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scores_trials_1p99_plda: no such file"):
        measure(Cell("x", "ivector", "plda"), data, {0: tmp_path}, draws=0)


def test_one_session_a_speaker_is_none(tmp_path: Path) -> None:
    write_table(tmp_path / "utt2spk", {"a-1": "a", "a-2": "a", "b-1": "b"})
    assert sessions(tmp_path) == {}
    write_table(tmp_path / "utt2session", {"a-1": "1", "a-2": "1", "b-1": "2"})
    assert sessions(tmp_path) == {}
