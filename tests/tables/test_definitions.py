"""The rows, orderings and experiments fit together, and the orderings are those of the paper's own figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepspeaker.config import Config
from deepspeaker.errors import InputError
from deepspeaker.tables import (
    Cell,
    Corpus,
    Setting,
    command,
    experiments_of,
    ordered,
    orderings,
    overall,
    rows_of,
)

ERRORS = range(5, 12)


def setting(**more: object) -> Setting:
    corpora = {name: Corpus(("--corpus", "demo"), f"data_{name}") for name in ("main", "phrase", "language")}
    configs = {"rescnn": "conf/a.yaml", "gru": "conf/b.yaml"}
    return Setting("tables", (0, 1), configs, corpora, ("--nj", "2"), Config(), **more)  # type: ignore[arg-type]


def test_every_cell_has_its_experiment() -> None:
    experiments = experiments_of(setting())
    cells = {row.cell for table in ERRORS for row in rows_of(table) if row.cell}
    cells |= {cell for ordering in orderings() for part in ordering.parts for _, cell in part.terms}
    assert {cell.experiment for cell in cells} <= set(experiments)
    for row in (row for table in ERRORS for row in rows_of(table)):
        assert row.cell is not None or row.reason


def test_the_orderings_hold_in_the_papers_figures() -> None:
    eer: dict[Cell, float] = {}
    for table in (11, 10, 9, 8, 6, 5):  # table 5 has the paper's figures for the cells that tables share
        eer |= {row.cell: row.paper.eer / 100 for row in rows_of(table) if row.cell and row.paper}
    checked = 0
    for ordering in orderings():
        for part in ordering.parts:
            if all(cell in eer for _, cell in part.terms):
                checked += 1
                assert sum(factor * eer[cell] for factor, cell in part.terms) + part.constant < 0, part.text
    assert checked >= 40
    assert {ordering.number for ordering in orderings()} == {"1a", "1b", "2", "3", "4", "5", "6", "7", "9"}


def test_what_an_experiment_needs_comes_first_and_once() -> None:
    experiments = experiments_of(setting())
    names = ordered(experiments, experiments)
    assert sorted(names) == sorted(experiments)
    for place, name in enumerate(names):
        assert set(experiments[name].after) <= set(names[:place])


def test_trainings_are_equally_long() -> None:
    """Softmax alone and triplets alone have as many steps as both together."""
    steps = Config.model_validate(
        {"softmax": {"epochs": 2, "steps_per_epoch": 30}, "triplet": {"epochs": 3, "steps_per_epoch": 80}}
    )
    corpora = {"main": Corpus((), "x")}
    given = Setting("t", (0,), {"rescnn": "a", "gru": "b"}, corpora, (), steps)
    experiments = experiments_of(given)
    for network in ("rescnn", "gru"):
        for name, section in ((f"{network}_softmax", "softmax"), (f"{network}_triplet", "triplet")):
            words = command(given, name, experiments[name], 0)
            assert f"{section}.epochs=5" in words and f"{section}.steps_per_epoch=60" in words
    with pytest.raises(InputError, match="at least 1"):
        experiments_of(Setting("t", (0,), {}, corpora, (), Config.model_validate({"softmax": {"epochs": 0}})))


def test_the_command_of_an_experiment() -> None:
    given = setting()
    words = command(given, "gru_phrase_tuned", experiments_of(given)["gru_phrase_tuned"], 1)
    assert words[:5] == ["./run.sh", "--corpus", "demo", "--data", "data_phrase"]
    options = dict(zip(words[3::2], words[4::2], strict=False))
    assert options["--exp"] == "tables_gru_phrase_tuned_1"
    assert options["--init-from"] == str(Path("exp/tables_gru_1/triplet/checkpoint_best.pt"))
    assert (options["--seed"], options["--data-seed"], options["--nj"]) == ("1", "0", "2")


def test_an_ordering_without_parts_is_not_decided() -> None:
    assert overall([]) == "not decided by these data"
