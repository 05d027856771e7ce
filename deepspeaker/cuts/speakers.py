"""Whose speech a cut is."""

from __future__ import annotations

from typing import Any

from deepspeaker.errors import InputError


def speaker_of(cut: Any) -> str:
    """The one speaker of a Lhotse cut's supervisions; raises ``InputError`` when there is none, or another one too."""
    speakers = {supervision.speaker for supervision in cut.supervisions} - {None, ""}
    if not speakers:
        raise InputError(f"cut {cut.id}: no supervision of it has a speaker; give it one or leave it out")
    if len(speakers) > 1:
        raise InputError(
            f"cut {cut.id}: has the speakers {', '.join(sorted(speakers))}, one is wanted; divide it first "
            "(lhotse cut trim-to-supervisions)"
        )
    return str(speakers.pop())
