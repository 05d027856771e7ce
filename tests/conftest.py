"""Options of the whole test suite, and what several rooms' tests need."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.recipe.tiny import Recipe, make_recipe

# Started in the background or by nohup, a process ignores these, and so would all that the tests start and signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow too (minutes each)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--run-slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow; tests/run.sh --slow runs it"))


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe's folder in which nothing was done yet."""
    return make_recipe(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe whose tiny demo ran through all stages; tests only read it, or make it whole again."""
    recipe = make_recipe(tmp_path_factory.mktemp("finished"))
    done = recipe.run("--nj", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return recipe
