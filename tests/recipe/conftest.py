"""A recipe's folder for each test, and one in which a tiny demo ran through all stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipe.tiny import Recipe, make_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return make_recipe(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe whose tiny demo ran through all stages; tests only read it, or make it whole again."""
    recipe = make_recipe(tmp_path_factory.mktemp("finished"))
    done = recipe.run("--nj", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return recipe
