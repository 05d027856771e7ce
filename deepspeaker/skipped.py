"""Report the items that a stage skips: how many, the first ten, and a file of all."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.kaldi import write_table


def report_skipped(path: Path, skipped: Mapping[str, str], items: int, what: str, max_skipped: float) -> None:
    """Write the skipped items to a file and report them on stderr.

    Parameters
    ----------
    path
        The file. If nothing was skipped, an old file is removed.
    skipped
        Id -> reason.
    items
        Number of all items.
    what
        Name of the items in the report.
    max_skipped
        Percentage of items that may be skipped.

    Raises
    ------
    InputError
        More than ``max_skipped`` percent of the items, or all of them, were skipped.
    """
    list_all(path, skipped, f"skipped {len(skipped)} of {items} {what}")
    if skipped and (len(skipped) >= items or 100.0 * len(skipped) > max_skipped * items):
        first = sorted(skipped)[0]
        raise InputError(
            f"{len(skipped)} of {items} {what} had to be skipped, more than {max_skipped:g} % (first {first}: "
            f"{skipped[first]}); fix them (list: {path}) or raise --max-skipped"
        )


def list_all(path: Path, reasons: Mapping[str, str], headline: str) -> None:
    """Write ``reasons`` (id -> reason) to a file, and the headline and the first ten to stderr.

    Without reasons, an old file is removed.
    """
    if not reasons:
        path.unlink(missing_ok=True)
        return
    write_table(path, reasons)
    print(f"{headline}; all in {path}", file=sys.stderr)
    for name in sorted(reasons)[:10]:
        print(f"  {name}: {reasons[name]}", file=sys.stderr)
    if len(reasons) > 10:
        print(f"  ... and {len(reasons) - 10} more", file=sys.stderr)
