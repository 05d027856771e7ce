"""``results.json``: what a scoring run measured, and nothing that differs between two runs of one seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write
from deepspeaker.metrics import P_TARGETS

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Range = Annotated[list[Fraction], Field(min_length=2, max_length=2)]

#: The bootstrap draws at most so many times for the intervals of a breakdown, of which there are many.
CONDITION_DRAWS = 200

#: What tables show where there is no figure.
NOTHING = "-"


def shown_rate(rate: float | None, ci95: list[float] | None) -> str:
    """Return a rate and its interval in percent, such as ``2.99 [1.57, 5.63]``."""
    if rate is None:
        return NOTHING
    return f"{100 * rate:.2f}" + (f" [{100 * ci95[0]:.2f}, {100 * ci95[1]:.2f}]" if ci95 else "")


class _Record(BaseModel):
    """Keys of this version are checked strictly; keys of later ones are kept, and reachable as attributes."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)


class TrialListInfo(_Record):
    """What a trial list holds, so that two results can be known to rest on the same trials."""

    target: Count
    """Number of target trials."""
    nontarget: Count
    """Number of non-target trials."""
    speakers: Count
    """Number of distinct speakers in the list."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the bytes of the list's file."""
    models: Count | None = None
    """Number of enrolment models, where the first column names models of several utterances."""
    chosen_by: str | None = None
    """The system and back end that chose the non-target trials (``trials_hard``), whose own figures suffer from it."""


class OperatingPoint(_Record):
    """The lowest threshold that keeps to a false-acceptance rate, and what it misses."""

    threshold: float | None
    """None where only accepting nobody keeps to the rate."""
    p_miss: Fraction


class Condition(_Record):
    """The figures of one system on those trials of a list that share a condition."""

    by: str
    """``gender``, ``duration``, or the X of a ``utt2X`` file (``X.2`` for its second column)."""
    value: str
    """Of the sides of the trials: one value where both have it, else both, sorted, ``a, b``."""
    target: Count
    nontarget: Count
    speakers: Count
    eer: Fraction | None = None
    """Absent where a class has no trial."""
    eer_ci95: Range | None = None
    """By at most ``CONDITION_DRAWS`` draws; absent where there are too few speakers."""
    min_dcf: dict[str, Fraction] | None = None


class SystemResult(_Record):
    """The figures of one model with one back end on one trial list; rates and shares are fractions."""

    name: str
    """Where its embeddings come from: ``untrained``, ``softmax``, ``triplet`` ..."""
    model: str
    parameters: Count
    backend: str
    trials: str
    """Key of the trial list in `Results.trials`."""
    eer: Fraction
    eer_threshold: float
    min_dcf: dict[str, Fraction]
    """By target prior as it is written, ``"0.05"``, ``"0.01"`` and ``"0.001"`` at least; equal costs."""
    rank1: Fraction | None = None
    """Absent where the list is not in rows of one target and 99 non-targets."""
    min_cllr: Annotated[float, Field(ge=0)] | None = None
    """In bits: the cost of the scores over all operating points, were they calibrated at best."""
    roc_auc: Fraction | None = None
    cllr: Annotated[float, Field(ge=0)] | None = None
    """In bits; of log-likelihood ratios only, like ``act_dcf``."""
    act_dcf: dict[str, Annotated[float, Field(ge=0)]] | None = None
    eer_ci95: Range | None = None
    """95 % confidence interval, by bootstrap over speakers; absent where there are too few of them."""
    min_dcf_ci95: dict[str, Range] | None = None
    min_dcf_threshold: dict[str, float | None] | None = None
    """Where minDCF is reached; None where that is by accepting nobody."""
    at_false_acceptance: dict[str, OperatingPoint] | None = None
    """By false-acceptance rate as it is written, ``"0.01"``."""
    trials_left_out: Count = 0
    """Trials of the list without an embedding of one side."""
    shared_speakers: Count = 0
    """Speakers of the list who were in training: above 0 the figures say little of unknown speakers."""
    conditions: list[Condition] = []
    """Breakdown of the same trials: by gender, duration, and every ``utt2X`` of the test part."""

    @field_validator("min_dcf")
    @classmethod
    def _has_default_priors(cls, value: dict[str, float]) -> dict[str, float]:
        missing = [str(prior) for prior in P_TARGETS if str(prior) not in value]
        if missing:
            raise ValueError(f"the target prior {missing[0]} is missing")
        return dict(sorted(value.items(), key=lambda item: -float(item[0])))


class EnrolmentResult(_Record):
    """A system's figures when speakers enrol with a number of utterances: a cell of the paper's enrolment table.

    The lists of one table have the same tests and the same non-targets; only the enrolment grows.
    """

    name: str
    backend: str
    enrolment: Literal["average", "exact"]
    """The mean of the embeddings as if it were one, or the exact likelihood of all (PLDA)."""
    utterances: Annotated[int, Field(ge=1)]
    trials: str
    """Key of the trial list in `Results.trials`."""
    eer: Fraction
    eer_ci95: Range | None = None
    min_dcf: dict[str, Fraction]
    rank1: Fraction
    trials_left_out: Count = 0
    shared_speakers: Count = 0


class Comparison(_Record):
    """The EER of one system minus that of another on one trial list, tested by paired bootstrap over speakers."""

    systems: Annotated[list[str], Field(min_length=2, max_length=2)]
    backends: Annotated[list[str], Field(min_length=2, max_length=2)]
    trials: str
    eer_difference: Annotated[float, Field(ge=-1, le=1)]
    ci95: Annotated[list[float], Field(min_length=2, max_length=2)]
    p_value: Fraction
    """How probable a difference of this size, either way, is between systems that are equally good."""


class Results(_Record):
    """The content of ``results.json``, schema 1."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    corpus: str
    synthetic: bool
    """Whether the speech was made by a synthesiser."""
    seed: int
    config: dict[str, JsonValue]
    """The training configuration as used; written with sorted keys."""
    trials: dict[str, TrialListInfo]
    systems: Annotated[list[SystemResult], Field(min_length=1)]
    """In the order in which tables show them."""
    comparisons: list[Comparison] = []
    enrolment_table: list[EnrolmentResult] = []
    """By system, back end and way of enrolment, then by number of utterances."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Results:
        seen = set()
        for system in self.systems:
            if system.trials not in self.trials:
                raise ValueError(f"system {system.name} names the trial list {system.trials}, not among trials")
            key = (system.name, system.backend, system.trials)
            if key in seen:
                raise ValueError(f"system {' / '.join(key)} appears twice")
            seen.add(key)
        for row in self.enrolment_table:
            if row.trials not in self.trials:
                raise ValueError(f"enrolment_table names the trial list {row.trials}, not among trials")
        return self

    @property
    def first_list(self) -> str:
        """The trial list that figures are drawn of."""
        return self.systems[0].trials

    def featured(self, trials: str) -> list[SystemResult]:
        """Those of a list that figures show: every system with the first back end, the last system with all."""
        own = [system for system in self.systems if system.trials == trials]
        return [s for s in own if s.backend == own[0].backend or s.name == own[-1].name]

    def write(self, path: str | Path) -> None:
        """Writes the file atomically; equal results give equal bytes.

        Keys stand in the order of the fields above, those of the configuration sorted, floats in the shortest
        form that reads back as the same number.
        """
        content = self.model_dump(mode="json", by_alias=True)
        content["config"] = json.loads(json.dumps(content["config"], sort_keys=True))
        atomic_write(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """Reads and checks a file; unknown keys are kept and written again.

        Raises:
            InputError: no such file, not JSON, or a key that is missing or wrong (the first is named).
        """
        mend = "run stage 6 again to write it anew"
        try:
            return cls.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; stage 6 writes it") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not JSON ({error}); {mend}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            raise InputError(f"{path}: {f'key {key}: ' if key else ''}{reason}; {mend}") from error
