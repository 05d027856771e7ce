"""Options of the test suite, and fixtures that several folders share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.recipe.tiny import Recipe, make_recipe

# In the background or under nohup, a process ignores these signals, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run the tests marked slow (minutes each)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--run-slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow; tests/run.sh --slow runs it"))


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe's folder in which nothing has run yet."""
    return make_recipe(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe whose tiny demo ran through all stages. Tests that change it restore it."""
    recipe = make_recipe(tmp_path_factory.mktemp("finished"))
    done = recipe.run("--nj", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return recipe
