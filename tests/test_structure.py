"""How the packages of the library may depend on each other, and how long a module may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "deepspeaker"
#: From the bottom up: a module imports only from what comes before it here, and from its own package.
ORDER = [
    *("errors", "files", "kaldi", "skipped", "config", "stages", "audio", "metrics", "models", "trials", "corpora"),
    *("augmentation", "features", "embedding", "ivector", "backends", "training", "cuts", "results", "evaluation"),
    *("inference", "export", "report", "tables", "cli"),
]
MAX_LINES = 350


def modules(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.py")) if ".venv" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    """Modules of the library that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("deepspeaker"):
            names = [node.module] if node.module != "deepspeaker" else [f"deepspeaker.{a.name}" for a in node.names]
            yield from names
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("deepspeaker."))


@pytest.mark.parametrize("folder", ["deepspeaker", "tests", "benchmarks", "docs", "utils"])
def test_packages_are_imported_through_their_init(folder: str) -> None:
    wrong = []
    for path in modules(ROOT / folder):
        package = path.relative_to(ROOT).parts[1] if folder == "deepspeaker" else None
        for name in imports(path):
            inner = name.split(".")[1:]
            is_package = LIBRARY.joinpath(*inner).is_dir()
            if len(inner) > 1 and inner[0] != package and not is_package:
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert not wrong


def test_packages_depend_only_on_those_below() -> None:
    wrong = []
    for path in modules(LIBRARY):
        package = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
        if package in ("__init__", "__main__"):
            continue
        below = ORDER[: ORDER.index(package)]
        for name in imports(path):
            other = name.split(".")[1]
            if other in ORDER and other != package and other not in below:
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert not wrong


def test_every_package_has_its_place_in_the_order() -> None:
    names = {path.name.removesuffix(".py") for path in LIBRARY.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names - {"__init__", "__main__", "__pycache__", "py.typed", "pretrained"} == set(ORDER)


def test_long_modules_say_why() -> None:
    for path in [*modules(LIBRARY), *modules(ROOT / "utils")]:
        text = path.read_text(encoding="utf-8")
        says_why = "long module" in (ast.get_docstring(ast.parse(text)) or "")
        assert says_why or text.count("\n") <= MAX_LINES, path
