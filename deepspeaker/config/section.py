"""What all sections of a configuration have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: A factor of the frequency or the speed.
WarpFactor = Annotated[float, Field(ge=0.5, le=2.0)]


class Section(BaseModel):
    """Keys with defaults. Unknown ones are refused, and values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
