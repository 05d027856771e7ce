"""The lower bounds of setup.cfg: no lower than the versions that brought what the code uses.

All tests but those of training, the recipe and Slurm also passed with the lowest versions of everything but torch.
"""

from __future__ import annotations

import configparser
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Package -> the least version, what it brought, and where that is found ("" where it is not a name).
NEEDED = {
    "click": ("8.4", "suggestions for a command that is misspelt", ""),
    "kaldiio": ("2.18.1", "import without pkg_resources, which setuptools no longer has", ""),
    "lhotse": ("1.32.2", "samplers with the Sampler of torch 2.13; filter banks without torchaudio", ""),
    "polars": ("1.19", "join(maintain_order), and unique() of categories that repeat", ""),
    "scipy": ("1.12", "isotonic regression", "scipy.optimize.isotonic_regression"),
    "torch": ("2.6", "the norm of gradients alone", "torch.nn.utils.get_total_norm"),
}


def lower_bounds() -> dict[str, str]:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"].split()
    return dict(line.split(">=") for line in lines)


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("package", NEEDED)
def test_a_bound_is_not_below_what_the_code_uses(package: str) -> None:
    """scipy 1.11 and torch 2.4 were allowed, without functions that scoring and training call."""
    least, what, name = NEEDED[package]
    assert version(lower_bounds()[package]) >= version(least), what
    if name:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute)


def test_the_tested_versions_are_within_the_bounds() -> None:
    pins = re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    tested = {package.lower().replace("_", "-"): pinned for package, pinned in pins}
    for package, least in lower_bounds().items():
        assert version(tested[package]) >= version(least), package
