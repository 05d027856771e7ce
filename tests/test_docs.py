"""The documentation: its examples run, its links lead somewhere, and its generated pages are current."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs import make_reference
from tests.recipe.tiny import EXP, PROJECT, TINY, Recipe, make_recipe

PAGES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", PROJECT / "recipes/librispeech/RESULTS.md"]
PAGES += sorted((PROJECT / "docs").rglob("*.md"))
#: Pages whose examples run in the recipe's folder, after those of the tutorial.
EXAMPLES = ["howto/another-test-set", "howto/kaldi", "howto/lhotse", "explanation/scoring"]


def run_examples(page: str, folder: Path, kinds: str = "console|python", last_stage: int = 8) -> str:
    """Run the blocks of a page that are marked console or python, in their order, in one shell."""
    text = (PROJECT / f"docs/{page}.md").read_text(encoding="utf-8")
    text = text.replace("epochs=1", f"epochs={TINY['softmax.epochs']}")  # as in the finished experiment
    if last_stage < 8:
        text = text.replace("run.sh ", f"run.sh --stop-stage {last_stage} ")
    script = "set -e\n"
    for kind, block in re.findall(rf"^```({kinds})\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        script += block if kind == "console" else f"{sys.executable} - <<'END'\n{block}END\n"
    environment = {**os.environ, "DEEPSPEAKER_PYTHON": sys.executable, "PYTHONPATH": str(PROJECT), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tutorial(finished: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, str]:
    """A copy of the project with tiny configurations in which the tutorial was followed, and what that printed.

    The tutorial's training is that of the finished experiment, so it is skipped.
    """
    recipe = make_recipe(tmp_path_factory.mktemp("docs"))
    root = recipe.folder.parents[1]
    (recipe.folder / "data").mkdir()
    (recipe.folder / "data/demo").symlink_to(finished.folder / "data/demo")
    shutil.copytree(finished.folder / EXP, recipe.folder / "exp/quick")
    (root / "conf").unlink()
    (root / "conf").mkdir()
    for name in ("demo", "default"):
        config = yaml.safe_load((PROJECT / f"conf/{name}.yaml").read_text(encoding="utf-8"))
        for key, value in TINY.items():
            section, key = key.split(".")
            config.setdefault(section, {})[key] = yaml.safe_load(str(value))
        (root / "conf" / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return recipe, run_examples("tutorial", root)


def test_the_tutorial_ends_with_two_decisions(tutorial: tuple[Recipe, str]) -> None:
    lines = tutorial[1].splitlines()
    assert sum("finished already, skipped" in line for line in lines) == 11  # before stages 6 and 7 run again
    decisions = [line for line in lines if re.fullmatch(r"claimed \S+ \S+ (accepted|rejected)", line)]
    assert len(decisions) == 2
    answers = [line for line in lines if line in ("same speaker", "different speakers", "cannot say")]
    assert len(answers) == 2
    assert answers[0] != "cannot say"


@pytest.mark.parametrize("page", EXAMPLES)
def test_the_examples_of_a_page_run(tutorial: tuple[Recipe, str], page: str) -> None:
    # tests/recipe/test_lhotse.py runs the Python examples of that page, as one program.
    run_examples(page, tutorial[0].folder, "console" if page == "howto/lhotse" else "console|python")


def test_a_folder_of_recordings_becomes_a_corpus(tutorial: tuple[Recipe, str]) -> None:
    root = tutorial[0].folder.parents[1]
    for speaker in (tutorial[0].folder / "data/demo/corpus/demo-train").iterdir():
        for path in sorted(speaker.rglob("*.flac"))[:3]:
            copy = root / "recordings" / path.relative_to(speaker.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    run_examples("howto/own-recordings", root, last_stage=2)  # tests/recipe/test_folder.py runs all stages
    assert (tutorial[0].folder / "data/recordings/test_nosil/feats.scp").is_file()
    assert (tutorial[0].folder / "data/my_data/test/trials_all").is_file()


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", make_reference.pages(), ids=lambda page: page.name)
def test_generated_pages_are_current(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == make_reference.pages()[page], "run docs/make_reference.py"
    if page.stem in ("configuration", "results"):
        assert "|  |" not in page.read_text(encoding="utf-8"), "a key without a docstring"
