"""Options of the test suite, and fixtures that several folders share."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.recipe.tiny import EXP, Recipe, make_recipe

# In the background or under nohup, a process ignores these signals, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# With networks as small as those of the tests, several threads mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run the tests marked slow (minutes each)")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "slow" in item.keywords and not config.getoption("--run-slow"):
            item.add_marker(pytest.mark.skip(reason="slow; tests/run.sh --slow runs it"))
        # The tests of a costly fixture run in one process, so that it is made once.
        for fixture in ("cluster", "tutorial", "odd"):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(fixture))


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe's folder in which nothing has run yet."""
    return make_recipe(tmp_path)


@pytest.fixture(scope="session")
def finished(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe whose tiny demo ran through all stages. Tests do not change its data and experiment.

    The processes of pytest-xdist share it: the first that needs it makes it. Other runs may be using its data.
    """
    folder = tmp_path_factory.getbasetemp()
    if hasattr(pytestconfig, "workerinput"):
        folder = folder.parent  # of the folders of all processes
    folder /= "finished"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / "complete"
        if complete.exists():
            return Recipe(folder / "recipes/librispeech")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        recipe = make_recipe(folder)
        done = recipe.run("--nj", "1")
        assert done.returncode == 0, done.stdout + done.stderr
        complete.touch()
    return recipe


@pytest.fixture
def copied(finished: Recipe, recipe: Recipe) -> Recipe:
    """A recipe with the data of the finished one and a copy of its experiment, which the test may change."""
    (recipe.folder / "data").mkdir()
    (recipe.folder / "data/demo").symlink_to(finished.folder / "data/demo")
    shutil.copytree(finished.folder / EXP, recipe.folder / EXP)
    return recipe


@pytest.fixture
def linked(finished: Recipe, recipe: Recipe) -> Recipe:
    """A recipe with links to the finished one's data, to which parts can be added, and a copy of its experiment."""
    data = recipe.folder / "data/demo"
    data.mkdir(parents=True)
    for path in (finished.folder / "data/demo").iterdir():
        if path.is_dir():
            (data / path.name).symlink_to(path)
        else:
            shutil.copy(path, data / path.name)
    shutil.copytree(finished.folder / EXP, recipe.folder / EXP)
    return recipe
