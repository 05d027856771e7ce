"""The lower bounds of setup.cfg allow no version without a function that the code uses.

All tests except those of training, the recipe and Slurm also passed with the lowest versions of all packages but torch.
"""

from __future__ import annotations

import configparser
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Package -> the lowest usable version, what that version added, and its name if it is a function.
NEEDED = {
    "click": ("8.4", "suggestions for a misspelled command", ""),
    "kaldiio": ("2.18.1", "import without pkg_resources, which recent setuptools lack", ""),
    "lhotse": ("1.32.2", "samplers with the Sampler of torch 2.13; filter banks without torchaudio", ""),
    "polars": ("1.19", "join(maintain_order), and unique() of categories that repeat", ""),
    "scipy": ("1.12", "isotonic regression", "scipy.optimize.isotonic_regression"),
    "torch": ("2.6", "computing the norm of gradients without clipping", "torch.nn.utils.get_total_norm"),
}


def lower_bounds() -> dict[str, str]:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"] + settings["options.extras_require"]["train"]
    return dict(line.split(">=") for line in lines.split())


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("package", NEEDED)
def test_bounds_are_high_enough(package: str) -> None:
    lowest, addition, name = NEEDED[package]
    assert version(lower_bounds()[package]) >= version(lowest), addition
    if name:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute)


def test_tested_versions_are_within_the_bounds() -> None:
    pins = re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    tested = {package.lower().replace("_", "-"): pinned for package, pinned in pins}
    for package, lowest in lower_bounds().items():
        assert version(tested[package]) >= version(lowest), package
