"""Paired tests between the systems of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from deepspeaker.ivector import IVECTOR
from deepspeaker.metrics import Replicates, paired_difference
from deepspeaker.results import Comparison, SystemResult, TrialListInfo


def comparisons_of(
    systems: Sequence[SystemResult],
    replicates: Mapping[tuple[str, str, str], Replicates],
    info: Mapping[str, TrialListInfo],
) -> list[Comparison]:
    """Compare systems on each trial list.

    These are each network with the one before it and with i-vectors, by the first back end, and the last system's other
    back ends with its first one.

    Parameters
    ----------
    systems
        All results, in the order of the tables.
    replicates
        The bootstrap's replicates by name, back end and list, for the results that can be compared.
    info
        The trial lists, by name.
    """
    comparisons = []
    for trials in info:
        comparable = [s for s in systems if s.trials == trials and (s.name, s.backend, trials) in replicates]
        if not comparable:
            continue
        first_backend, last_system = comparable[0].backend, comparable[-1].name
        networks = [s for s in comparable if s.backend == first_backend and s.name != IVECTOR]
        pairs = list(pairwise(networks))
        pairs += [(s, network) for s in comparable if s.name == IVECTOR for network in networks]
        of_last = [s for s in comparable if s.name == last_system]
        pairs += [(of_last[0], other) for other in of_last[1:]]
        for before, after in pairs:
            after_drawn, before_drawn = (replicates[s.name, s.backend, trials].eer for s in (after, before))
            difference, interval, p_value = paired_difference(
                (after.eer, before.eer), (after_drawn, before_drawn), info[trials].speakers
            )
            comparisons.append(
                Comparison(
                    systems=[after.name, before.name],
                    backends=[after.backend, before.backend],
                    trials=trials,
                    eer_difference=difference,
                    ci95=list(interval),
                    p_value=p_value,
                )
            )
    return comparisons
