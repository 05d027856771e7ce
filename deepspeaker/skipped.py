"""What a stage leaves out: counted, the first ten named, all in a file; too many stop the stage."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.kaldi import write_table


def report_skipped(
    path: Path, skipped: Mapping[str, str], items: int, what: str, max_skipped: float
) -> None:
    """Writes ``skipped`` (id -> reason) to ``path`` and says on stderr what was left out of ``items`` things.

    With nothing skipped, an old file is removed. Raises ``InputError`` when more than ``max_skipped`` percent of the
    items are skipped, or all.
    """
    list_all(path, skipped, f"skipped {len(skipped)} of {items} {what}")
    if skipped and (len(skipped) >= items or 100.0 * len(skipped) > max_skipped * items):
        first = sorted(skipped)[0]
        raise InputError(
            f"{len(skipped)} of {items} {what} had to be skipped, more than {max_skipped:g} % (first {first}: "
            f"{skipped[first]}); mend them (list: {path}) or raise --max-skipped"
        )


def list_all(path: Path, named: Mapping[str, str], headline: str) -> None:
    """Writes ``named`` (id -> reason) to ``path`` and says the headline and the first ten on stderr.

    With nothing to name, an old file is removed.
    """
    if not named:
        path.unlink(missing_ok=True)
        return
    write_table(path, named)
    print(f"{headline}; all in {path}", file=sys.stderr)
    for name in sorted(named)[:10]:
        print(f"  {name}: {named[name]}", file=sys.stderr)
    if len(named) > 10:
        print(f"  ... and {len(named) - 10} more", file=sys.stderr)
