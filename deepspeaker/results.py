"""Schema of ``results.json``: everything a scoring run measures, identical for two runs with the same seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write
from deepspeaker.metrics import P_TARGETS

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Range = Annotated[list[Fraction], Field(min_length=2, max_length=2)]

#: Maximum number of bootstrap draws for the interval of one condition, as there are many conditions.
CONDITION_DRAWS = 200

#: Shown in tables for a missing value.
MISSING = "-"


def format_rate(rate: float | None, ci95: list[float] | None = None) -> str:
    """Return a rate, given as a fraction, and its interval in percent.

    >>> format_rate(0.0299, [0.0157, 0.0563])
    '2.99 [1.57, 5.63]'
    """
    if rate is None:
        return MISSING
    return f"{100 * rate:.2f}" + (f" [{100 * ci95[0]:.2f}, {100 * ci95[1]:.2f}]" if ci95 else "")


def corpus_title(corpus: str, synthetic: bool) -> str:
    """Return the name of a corpus, marked if its speech is synthetic."""
    return f"{corpus} (synthetic speech)" if synthetic else corpus


class _Record(BaseModel):
    """A record whose keys are checked strictly. Unknown keys, from later versions, are kept as attributes."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)


class TrialListInfo(_Record):
    """The size of a trial list, and its checksum, which shows whether two results are based on the same trials."""

    target: Count
    """Number of target trials."""
    nontarget: Count
    """Number of non-target trials."""
    speakers: Count
    """Number of distinct speakers in the list."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Checksum of the list's file."""
    models: Count | None = None
    """Number of enrolment models, if the first column names models of several utterances."""
    chosen_by: str | None = None
    """The system and back end that chose the non-target trials (``trials_hard``). The list is biased against them."""


class OperatingPoint(_Record):
    """The lowest threshold at which a false-acceptance rate is not exceeded, and the miss rate there."""

    threshold: float | None
    """The threshold. None if rejecting every trial is the only solution."""
    p_miss: Fraction
    """Share of the target trials below the threshold."""


class Condition(_Record):
    """The error rates of one system on the trials of a list that share a condition."""

    by: str
    """``gender``, ``duration``, or the X of a ``utt2X`` file (``X.2`` for its second column)."""
    value: str
    """The value that both sides of a trial have, or both values, sorted, if they differ: ``a, b``.

    For the session: ``same`` or ``different``; non-target trials count with both.
    """
    target: Count
    """Number of target trials."""
    nontarget: Count
    """Number of non-target trials."""
    speakers: Count
    """Number of distinct speakers in these trials."""
    eer: Fraction | None = None
    """Equal error rate. None if a class has no trial."""
    eer_ci95: Range | None = None
    """95 % interval from at most ``CONDITION_DRAWS`` draws. None if there are too few speakers."""
    min_dcf: dict[str, Fraction] | None = None
    """minDCF by target prior."""


class SystemResult(_Record):
    """The metrics of one model with one back end on one trial list. Rates are fractions."""

    name: str
    """The source of the embeddings: ``untrained``, ``softmax``, ``triplet``, ``ivector`` ..."""
    model: str
    """Kind of network: ``rescnn`` or ``gru``, or both for a fusion; or ``ivector``."""
    parameters: Count
    """Number of parameters of the network, or of UBM and total variability matrix."""
    backend: str
    """The back end, as in ``scoring.backends`` or ``ivector.backends``; ``model`` for an exported model's own score."""
    trials: str
    """Key of the trial list in `Results.trials`."""
    eer: Fraction
    """Equal error rate."""
    eer_threshold: float
    """The score at which misses and false alarms are equally frequent."""
    min_dcf: dict[str, Fraction]
    """minDCF by target prior, at least ``"0.05"``, ``"0.01"`` and ``"0.001"``. Both errors have equal costs."""
    rank1: Fraction | None = None
    """Share of rows whose target ranks first. None if the list has no rows of one target and 99 non-targets."""
    min_cllr: Annotated[float, Field(ge=0)] | None = None
    """Cllr after the best calibration, in bits."""
    roc_auc: Fraction | None = None
    """Area under the ROC curve."""
    cllr: Annotated[float, Field(ge=0)] | None = None
    """Cllr, in bits. None, like ``act_dcf``, unless the scores are log-likelihood ratios."""
    act_dcf: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Actual DCF by target prior: the cost at the threshold that the prior implies."""
    eer_ci95: Range | None = None
    """95 % confidence interval from a bootstrap over speakers. None if there are too few speakers."""
    min_dcf_ci95: dict[str, Range] | None = None
    """95 % confidence intervals of ``min_dcf``."""
    min_dcf_threshold: dict[str, float | None] | None = None
    """The threshold with the lowest cost. None if rejecting every trial costs least."""
    at_false_acceptance: dict[str, OperatingPoint] | None = None
    """Operating points by false-acceptance rate, such as ``"0.01"``."""
    trials_left_out: Count = 0
    """Number of trials that lack an embedding."""
    shared_speakers: Count = 0
    """Number of speakers of the list who were in the training data. If above 0, the results are optimistic."""
    conditions: list[Condition] = []
    """Results on the same trials by gender, duration, and every ``utt2X`` file of the test part."""

    @field_validator("min_dcf")
    @classmethod
    def _has_default_priors(cls, value: dict[str, float]) -> dict[str, float]:
        missing = [str(prior) for prior in P_TARGETS if str(prior) not in value]
        if missing:
            raise ValueError(f"the target prior {missing[0]} is missing")
        return dict(sorted(value.items(), key=lambda item: -float(item[0])))


class EnrolmentResult(_Record):
    """The metrics of a system for a number of enrolment utterances: a cell of the paper's enrolment table.

    All lists of the table have the same test utterances and the same non-targets.
    """

    name: str
    """The source of the embeddings, as for `SystemResult`."""
    backend: str
    """The back end, as in ``scoring.backends``."""
    enrolment: Literal["average", "exact"]
    """``average``: score the mean embedding. ``exact``: score the likelihood of all utterances (PLDA)."""
    utterances: Annotated[int, Field(ge=1)]
    """Number of enrolment utterances of each model."""
    trials: str
    """Key of the trial list in `Results.trials`."""
    eer: Fraction
    """Equal error rate."""
    eer_ci95: Range | None = None
    """95 % confidence interval from a bootstrap over speakers. None if there are too few speakers."""
    min_dcf: dict[str, Fraction]
    """minDCF by target prior."""
    rank1: Fraction
    """Share of the rows of one target and 99 non-targets in which the target scores highest."""
    trials_left_out: Count = 0
    """Number of trials that lack an embedding."""
    shared_speakers: Count = 0
    """Number of speakers of the list who were in the training data."""


class Comparison(_Record):
    """The EER of one system minus that of another on one trial list, with a paired bootstrap test over speakers."""

    systems: Annotated[list[str], Field(min_length=2, max_length=2)]
    """The two systems, by name."""
    backends: Annotated[list[str], Field(min_length=2, max_length=2)]
    """The back ends of the two systems."""
    trials: str
    """Key of the trial list in `Results.trials`."""
    eer_difference: Annotated[float, Field(ge=-1, le=1)]
    """EER of the first system minus that of the second."""
    ci95: Annotated[list[float], Field(min_length=2, max_length=2)]
    """95 % confidence interval of the difference."""
    p_value: Fraction
    """Two-sided: the probability of a difference at least this large if the systems were equally good."""


class Results(_Record):
    """The content of ``results.json``, schema 1."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    """Version of the format."""
    corpus: str
    """Name of the corpus."""
    synthetic: bool
    """Whether the speech comes from a synthesiser."""
    seed: int
    """The seed of the run."""
    config: dict[str, JsonValue]
    """The training configuration that was used, with sorted keys."""
    trials: dict[str, TrialListInfo]
    """The trial lists, by name."""
    systems: Annotated[list[SystemResult], Field(min_length=1)]
    """One record for each system, back end and trial list, in the order of the tables."""
    comparisons: list[Comparison] = []
    """Each trained network against the one before it and against i-vectors, and the back ends of the last system."""
    enrolment_table: list[EnrolmentResult] = []
    """One record for each cell of the enrolment table, by system, back end, enrolment and number of utterances."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Results:
        seen = set()
        for system in self.systems:
            if system.trials not in self.trials:
                raise ValueError(f"system {system.name} names the trial list {system.trials}, which trials lacks")
            key = (system.name, system.backend, system.trials)
            if key in seen:
                raise ValueError(f"system {' / '.join(key)} appears twice")
            seen.add(key)
        for row in self.enrolment_table:
            if row.trials not in self.trials:
                raise ValueError(f"enrolment_table names the trial list {row.trials}, which trials lacks")
        return self

    @property
    def title(self) -> str:
        """The corpus, marked if its speech is synthetic."""
        return corpus_title(self.corpus, self.synthetic)

    @property
    def first_list(self) -> str:
        """The main trial list: the one that plots show."""
        return self.systems[0].trials

    def is_leading(self, row: SystemResult | EnrolmentResult) -> bool:
        """Return whether a result is of its system's first back end, and of averaged enrolment."""
        first = next((system.backend for system in self.systems if system.name == row.name), None)
        return row.backend == first and (isinstance(row, SystemResult) or row.enrolment == "average")

    def label(self, row: SystemResult | EnrolmentResult) -> str:
        """Return the name of the system, with its back end unless that is the first one of all."""
        return row.name if row.backend == self.systems[0].backend else f"{row.name}, {row.backend}"

    def featured(self, trials: str) -> list[SystemResult]:
        """Return the systems that plots show: all with their first back end, and the last one with all back ends."""
        systems = [system for system in self.systems if system.trials == trials]
        return [system for system in systems if self.is_leading(system) or system.name == systems[-1].name]

    def write(self, path: str | Path) -> None:
        """Write the file atomically. Equal results give equal bytes.

        Keys are in the order of the fields above, except that those of the configuration are sorted. Floats have the
        shortest form that reads back as the same number.
        """
        content = self.model_dump(mode="json", by_alias=True)
        content["config"] = json.loads(json.dumps(content["config"], sort_keys=True))
        atomic_write(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """Read and check a file. Unknown keys are kept and written again.

        Raises
        ------
        InputError
            If the file does not exist or is not JSON, or if a key is missing or invalid. The message names the first
            such key.
        """
        fix = "run stage 6 again to rewrite it"
        try:
            return cls.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; stage 6 writes it") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not JSON ({error}); {fix}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            raise InputError(f"{path}: {f'key {key}: ' if key else ''}{reason}; {fix}") from error
