"""The demo in full size."""

from __future__ import annotations

import json

import pytest

from tests.recipe.tiny import Recipe


@pytest.mark.slow
def test_the_demo_distinguishes_unseen_synthetic_voices(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    recipe.settings = {}
    done = recipe.run(timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((recipe.folder / "exp/demo_demo/results.json").read_text())
    eer = {system["name"]: system["eer"] for system in results["systems"] if system["trials"] == "trials_all"}
    assert results["trials"]["trials_all"]["speakers"] == 30
    assert eer["untrained"] > 0.25
    assert eer["triplet"] <= 0.05
