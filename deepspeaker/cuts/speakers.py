"""The speaker of a Lhotse cut."""

from __future__ import annotations

from typing import Any

from deepspeaker.errors import InputError


def speaker_of(cut: Any) -> str:
    """Return the speaker of a cut.

    Raises
    ------
    InputError
        The supervisions name no speaker, or several.
    """
    speakers = {supervision.speaker for supervision in cut.supervisions} - {None, ""}
    if not speakers:
        raise InputError(f"cut {cut.id}: none of its supervisions has a speaker; add one or leave the cut out")
    if len(speakers) > 1:
        raise InputError(
            f"cut {cut.id}: has several speakers ({', '.join(sorted(speakers))}); split it first "
            "(lhotse cut trim-to-supervisions)"
        )
    return str(speakers.pop())
