"""Sections of stage 2: changed copies of the speech, to train and to test on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from deepspeaker.config.section import Section, WarpFactor

CopyKind = Literal[
    "speed", "noise", "babble", "reverb", "bandwidth", "telephone", "codec", "gain", "clipping", "clean", "seconds"
]


#: The keys of each kind of copy besides ``kind``, ``name`` and ``weight``, with their defaults.
_COPY_KEYS: dict[str, dict[str, Any]] = {
    "speed": {"factor": 0.9},
    "noise": {"folder": "", "snr": [0, 15]},
    "babble": {"voices": [3, 7], "snr": [13, 20]},
    "reverb": {"folder": ""},
    "bandwidth": {"cutoff": [3400, 8000]},
    "telephone": {},
    "codec": {"codecs": ["opus", "mp3"], "compression": [0.9, 1.0]},
    "gain": {"db": [-20, 6]},
    "clipping": {"db": [5, 20]},
    "clean": {},
    "seconds": {"seconds": 3.0},
}


def _ascending(bounds: list[float]) -> list[float]:
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise ValueError("give the lowest and the highest value, such as [5, 20]")
    return bounds


Bounds = Annotated[list[float], AfterValidator(_ascending)]


class Copy(Section):
    """A changed copy of the training or test part. ``kind`` decides which of the keys it has."""

    kind: CopyKind
    """What is changed; a list may also have the word alone, such as ``[noise, reverb]``."""
    name: str = Field(pattern=r"^[A-Za-z0-9._]+$")
    """Part of the names of the copy's folder and utterances; by default made of the kind and its value."""
    weight: float = Field(1.0, gt=0)
    """How often training draws a crop from this copy, relative to the others and to ``clean_weight``."""
    factor: WarpFactor | None = None
    """``speed``: the factor; its speakers count as new ones. Default: 0.9."""
    folder: str | None = None
    """``noise``, ``reverb``: a folder of noises or impulse responses, or a Lhotse manifest. Default: generated ones."""
    snr: Bounds | None = None
    """``noise``, ``babble``: lowest and highest signal-to-noise ratio in dB. Default: [0, 15], [13, 20]."""
    voices: Bounds | None = None
    """``babble``: lowest and highest number of voices, of other speakers of the part. Default: [3, 7]."""
    cutoff: Bounds | None = None
    """``bandwidth``: lowest and highest cutoff of the low-pass filter in Hz. Default: [3400, 8000]."""
    codecs: list[Literal["opus", "mp3", "vorbis"]] | None = Field(None, min_length=1)
    """``codec``: the codecs to draw from. Default: [opus, mp3]."""
    compression: Bounds | None = None
    """``codec``: lowest and highest compression, from 0 (the highest bit rate) to 1. Default: [0.9, 1]."""
    db: Bounds | None = None
    """``gain``, ``clipping``: lowest and highest gain in dB; clipping: over full scale. Default: [-20, 6], [5, 20]."""
    seconds: float | None = Field(None, gt=0)
    """``seconds``: how much speech is kept, from a random place on. Default: 3."""

    @model_validator(mode="before")
    @classmethod
    def _with_defaults_of_kind(cls, value: Any) -> Any:
        given = {"kind": value} if isinstance(value, str) else value
        if not isinstance(given, dict) or not isinstance(given.get("kind"), str) or given["kind"] not in _COPY_KEYS:
            return given  # pydantic names what is wrong
        keys = _COPY_KEYS[given["kind"]]
        given = {key: v for key, v in given.items() if v is not None or key not in cls.model_fields}
        if other := [key for key in given if key in cls.model_fields and key not in (*keys, "kind", "name", "weight")]:
            known = ", ".join(["name", "weight", *keys])
            raise ValueError(f"{given['kind']} has no key {other[0]}; its keys are {known}")
        complete = keys | given
        if not complete.get("name"):
            complete["name"] = _name_of_copy(complete)
        return complete

    @model_serializer(mode="wrap")
    def _only_own_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if value is not None}

    @property
    def new_speakers(self) -> bool:
        """Whether the voices change, so that the copy's speakers count as new ones."""
        return self.kind == "speed"


def _name_of_copy(copy: dict[str, Any]) -> str:
    kind, snr = copy["kind"], copy.get("snr")
    if kind == "speed":
        return f"sp{copy['factor']}"  # Kaldi's name
    if kind == "seconds":
        return f"{copy['seconds']:g}s"
    if isinstance(snr, list) and len(snr) == 2 and snr[0] == snr[1] >= 0:
        return f"{kind}{snr[0]:g}dB"
    return str(kind)


def _names_differ(copies: list[Copy]) -> list[Copy]:
    names = [copy.name for copy in copies]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two copies are called {twice[0]}; give them different names")
    return copies


Copies = Annotated[list[Copy], AfterValidator(_names_differ)]

#: The conditions of ``conditions.copies=standard``.
_STANDARD_CONDITIONS = [
    "clean",
    *({"kind": "noise", "snr": [snr, snr]} for snr in (20, 10, 5)),
    "reverb",
    "telephone",
    {"kind": "clipping", "db": [15, 15]},
    *({"kind": "seconds", "seconds": seconds} for seconds in (1, 2, 3, 5)),
]


def _standard_conditions(value: Any) -> Any:
    return _STANDARD_CONDITIONS if value == "standard" else value


class Augment(Section):
    """Stage 2: augmented copies of the training part, from which stages 3 and 4 draw crops too."""

    copies: Copies = Field([])
    """The copies; see [augmentation](../augmentation.md)."""
    clean_weight: float = Field(1.0, ge=0)
    """How often training draws a crop from the speech as recorded, relative to the weights of the copies."""

    @model_validator(mode="after")
    def _trains_on_something(self) -> Augment:
        if only := [copy.kind for copy in self.copies if copy.kind in ("clean", "seconds")]:
            raise ValueError(f"{only[0]} is for conditions.copies")
        if not self.copies and self.clean_weight == 0:
            raise ValueError("clean_weight 0 needs copies")
        return self


class Conditions(Section):
    """Stage 2: degraded copies of the test part, on which stage 6 tests too."""

    copies: Annotated[Copies, BeforeValidator(_standard_conditions)] = Field([])
    """The conditions. ``standard``: clean, noise at 20, 10 and 5 dB, reverb, telephone, clipping, 1, 2, 3 and 5 s."""

    @model_validator(mode="after")
    def _same_voices(self) -> Conditions:
        if any(copy.new_speakers for copy in self.copies):
            raise ValueError("speed changes the speakers; it is for augment.copies")
        return self
