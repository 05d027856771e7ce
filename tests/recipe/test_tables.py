"""The paper's tables by the real scripts, with tiny networks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.recipe.tiny import PROJECT, TINY, Recipe, make_recipe

SETTINGS: dict[str, object] = {
    **{key: value for key, value in TINY.items() if not key.startswith("model.")},
    "demo.train_speakers": 10,
    "softmax.steps_per_epoch": 40,  # after less pre-training, triplets of the hardest negatives collapse
    "softmax.batch_size": 32,
    "triplet.optimizer.learning_rate": 1e-5,  # after so little pre-training, a larger one lets the network collapse
    "scoring.bootstrap": 20,
    "ivector.components": 4,
    "ivector.dim": 5,
    "ivector.lda_dim": 4,
}


@pytest.mark.slow
def test_tables_are_made_once(tmp_path: Path) -> None:
    recipe: Recipe = make_recipe(tmp_path)
    recipe.settings = SETTINGS
    shutil.copy(PROJECT / "recipes/librispeech/tables.sh", recipe.folder)
    options = ("--table", "3", "--table", "6", "--table", "9", "--table", "11", "--nj", "1", "--exp", "t")
    done = recipe.run(*options, script="./tables.sh", timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((recipe.folder / "exp/t/tables.json").read_text())
    assert content["synthetic"] and list(content["tables"]) == ["3", "6", "9", "11"]
    for table in ("6", "9", "11"):
        rows = [row for row in content["tables"][table]["rows"] if "left_out" not in row]
        assert len(rows) >= 5 and all(0 <= row["eer"]["mean"] <= 1 for row in rows)
        left_out = {row["left_out"] for row in content["tables"][table]["rows"] if "left_out" in row}
        assert left_out <= {"no dates of recording", "adapting an i-vector system to other data is not implemented"}
    assert {one["number"] for one in content["orderings"]} == {"3", "6", "8", "9"}
    assert all(command.startswith("./run.sh ") for command in content["commands"])
    before = (recipe.folder / "exp/t/RESULTS.md").read_bytes()
    trained = {path: path.stat().st_mtime_ns for path in recipe.folder.glob("exp/*/*/checkpoint_last.pt")}
    again = recipe.run(*options, script="./tables.sh", timeout=600)
    assert again.returncode == 0, again.stderr
    assert (recipe.folder / "exp/t/RESULTS.md").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
