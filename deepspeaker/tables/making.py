"""Run the experiments of the wanted tables, and write the tables."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from deepspeaker.errors import InputError
from deepspeaker.kaldi import read_table
from deepspeaker.tables.cells import MIN_SPEAKERS, PHRASES, sessions
from deepspeaker.tables.content import section
from deepspeaker.tables.definitions import TITLES, orderings, rows_of
from deepspeaker.tables.experiments import PROCESSES, Experiment, Setting, command, experiments_of, ordered
from deepspeaker.tables.output import write_tables
from deepspeaker.tables.sections import Measurements

#: Tables whose cells are error rates; tables 1, 2 and 4 need no training.
_OF_ERRORS = range(5, 12)


def make_tables(
    wanted: Sequence[int], setting: Setting, root: Path, origin: Path, say: Callable[[str], None] = print
) -> Path:
    """Run what the tables need, and write ``exp/NAME/{RESULTS.md,tables.html,tables.json}``.

    Experiments that have finished with the same settings are not run again.

    Parameters
    ----------
    wanted
        Numbers of tables; all if empty. A wanted table that the corpora do not allow is an error; without ``wanted``
        it is left out, with the reason in its place.
    setting
        Corpora, seeds and sizes.
    root, origin
        The recipe's folder, and the one to which relative paths in the options refer.
    say
        Prints lines for the user.

    Returns
    -------
    Path
        The folder of the tables.

    Raises
    ------
    InputError
        A table is not possible, or an experiment fails. Its log is named.
    """
    experiments = experiments_of(setting)
    tables = sorted(set(wanted)) or sorted(TITLES)
    for table in wanted:
        _refuse(table, _without_corpus(table, setting))
    measurements = Measurements(setting, experiments, root)
    logs = root / "exp" / setting.name / "log"
    corpora = {experiments[name].corpus for table in tables for name in _needed(table, setting, experiments)}
    corpora |= {"main"} if corpora else set(setting.corpora) if 4 in tables else set()
    first = {corpus: next(name for name, one in experiments.items() if one.corpus == corpus) for corpus in corpora}
    for corpus in [corpus for corpus in setting.corpora if corpus in corpora]:
        say(f"corpus {setting.corpora[corpus].data}: data and trial lists")
        words = command(setting, first[corpus], experiments[first[corpus]], setting.seeds[0])
        _run([*words, "--stop-stage", "1"], root, origin, logs / f"{corpus}.log")
    reasons = {table: _without_corpus(table, setting) or _without_data(table, measurements) for table in tables}
    for table in wanted:
        _refuse(table, reasons[table])
    names = ordered(
        (name for table in tables if not reasons[table] for name in _needed(table, setting, experiments)), experiments
    )
    runs = [(name, seed) for seed in setting.seeds for name in names]
    for number, (name, seed) in enumerate(runs, 1):
        begin, one = time.monotonic(), experiments[name]
        end = ""
        try:
            _run(command(setting, name, one, seed), root, origin, logs / f"{name}_{seed}.log")
        except InputError as error:
            if not one.optional:
                raise
            end = f"; left out: {error}"
        minutes = (time.monotonic() - begin) / 60
        say(f"{number} of {len(runs)}: {one.what}, seed {seed}: {minutes:.1f} min{end}")
    sections = [section(table, measurements, reasons[table]) for table in tables]
    commands = [command(setting, name, experiments[name], seed) for name, seed in runs]
    write_tables(sections, measurements, commands, names)
    for verdict in (verdict for table in sections for verdict in table.verdicts):
        say(verdict.sentence)
    folder = root / "exp" / setting.name
    say(f"tables: {folder}/RESULTS.md, tables.html, tables.json")
    return folder


def _needed(table: int, setting: Setting, experiments: dict[str, Experiment]) -> list[str]:
    """Return the experiments with cells of a table, as far as there are corpora for them."""
    if table == 3:
        names: Iterable[str] = [f"hard{count}" for count in PROCESSES]
    elif table in _OF_ERRORS:
        cells = [row.cell for row in rows_of(table) if row.cell]
        cells += [cell for one in orderings() if one.table == table for part in one.parts for _, cell in part.terms]
        names = dict.fromkeys(cell.experiment for cell in cells)
    else:
        names = []
    return [name for name in names if experiments[name].corpus in setting.corpora]


def _refuse(table: int, reason: str) -> None:
    if reason:
        raise InputError(f"--table {table}: {reason}")


def _without_corpus(table: int, setting: Setting) -> str:
    """Return why a table is not possible with the corpora that were given; empty if it is."""
    if table == 9 and "phrase" not in setting.corpora:
        return f"no corpus with a fixed phrase; give --phrase-corpus-dir DIR, with DIR/test/{' or '.join(PHRASES)}"
    if table == 10 and "language" not in setting.corpora:
        return "no corpus in another language; give --other-corpus-dir DIR"
    return ""


def _without_data(table: int, measurements: Measurements) -> str:
    """Return why a table is not possible with the data of stage 1; empty if it is."""
    if table in (1, 2, 4):
        return ""
    main = measurements.data("main")
    test, train = (set(read_table(main / part / "utt2spk").values()) for part in ("test", "train"))
    if table in _OF_ERRORS and len(test) < MIN_SPEAKERS:
        return f"the test part has {len(test)} speakers; comparisons need {MIN_SPEAKERS}"
    if table == 7 and len(train) < 8:
        return f"the training part has {len(train)} speakers; a quarter of them must be two at least"
    if table == 8 and not (main / "test" / "trials_enrol_5").is_file():
        return "no list of enrolment models; they need test speakers with six utterances, and 99 utterances of others"
    if table == 11 and not sessions(main / "test"):
        return "no speaker of the test part has two sessions in utt2session, or two chapters in ids as in LibriSpeech"
    return ""


def _run(words: Sequence[str], root: Path, origin: Path, log: Path) -> None:
    """Run a command of the recipe with its output in a log; raise ``InputError`` with its last line if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run([str(root / words[0]), *words[1:]], cwd=origin, stdout=stream, stderr=stream, check=False)
    if done.returncode:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        last = lines[-1].removeprefix("deepspeaker: ") if lines else "run.sh failed"
        raise InputError(f"{last} (log: {log})")
