"""Sub-commands for anybody's Kaldi tables and data directories: what utils/validate_data_dir.sh and its like run.

Names, options and outputs are those of Kaldi's programs.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from deepspeaker.cli.options import PATH, Function, commands
from deepspeaker.errors import InputError

_MOST_FINDINGS = 20  # of a file; more of them tell no more


def _written(lines: Iterable[bytes], output: str = "-") -> None:
    from deepspeaker.files import atomic_write

    if output == "-":
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.buffer.flush()
    elif Path(output).exists() and not Path(output).is_file():
        Path(output).write_bytes(b"".join(lines))  # /dev/null and the like
    else:
        atomic_write(output, b"".join(lines))


def _validation_options(function: Function) -> Function:
    for option in (
        click.option("--non-print", is_flag=True, help="let text have characters that cannot be printed"),
        click.option("--no-spk-sort", is_flag=True, help="utt2spk need not be sorted by speakers too"),
        click.option("--no-text", is_flag=True, help="text need not be there"),
        click.option("--no-wav", is_flag=True, help="wav.scp need not be there"),
        click.option("--no-feats", is_flag=True, help="feats.scp need not be there"),
    ):
        function = option(function)
    return function


@commands.command("validate-data-dir")
@_validation_options
@click.argument("data_dir", type=PATH)
def validate_data_dir(
    no_feats: bool, no_wav: bool, no_text: bool, no_spk_sort: bool, non_print: bool, data_dir: Path
) -> None:
    """All that is wrong with a data directory, with file, line and mend; status 1 when something is."""
    from deepspeaker.kaldi import validate_data_dir as validate

    findings = validate(
        data_dir,
        feats=not no_feats,
        wav=not no_wav,
        text=not no_text,
        spk_sort=not no_spk_sort,
        printable=not non_print,
    )
    counts: Counter[Path] = Counter()
    for finding in findings:
        counts[finding.file] += 1
        if counts[finding.file] <= _MOST_FINDINGS:
            print(finding, file=sys.stderr)
    for file, count in counts.items():
        if count > _MOST_FINDINGS:
            print(f"{file}: ... and {count - _MOST_FINDINGS} more", file=sys.stderr)
    wrong = sum(not finding.warning for finding in findings)
    if wrong:
        raise InputError(f"{data_dir}: {wrong} finding{'s' if wrong > 1 else ''}, the data directory is not valid")
    print(f"validate_data_dir.sh: Successfully validated data-directory {data_dir}")


@commands.command("fix-data-dir")
@click.option("--utt-extra-files", default="", help="more tables by utterance")
@click.option("--spk-extra-files", default="", help="more tables by speaker")
@click.argument("data_dir", type=PATH)
def fix_data_dir(utt_extra_files: str, spk_extra_files: str, data_dir: Path) -> None:
    """Sorts the tables of a data directory and makes them agree; what they were is in .backup."""
    from deepspeaker.kaldi import fix_data_dir as fix

    fix(data_dir, utt_extra_files.split(), spk_extra_files.split())


@commands.command("utt2spk-to-spk2utt")
@click.argument("utt2spk", default="-")
def utt2spk_to_spk2utt(utt2spk: str) -> None:
    """Writes spk2utt on stdout."""
    from deepspeaker.kaldi import read_lines, spk2utt_lines

    _written(spk2utt_lines(read_lines(utt2spk), utt2spk))


@commands.command("spk2utt-to-utt2spk")
@click.argument("spk2utt", default="-")
def spk2utt_to_utt2spk(spk2utt: str) -> None:
    """Writes utt2spk on stdout."""
    from deepspeaker.kaldi import read_lines, utt2spk_lines

    _written(utt2spk_lines(read_lines(spk2utt), spk2utt))


@commands.command("filter-scp")
@click.option("--exclude", is_flag=True, help="the lines that are not in the list")
@click.option("-f", "column", type=click.IntRange(1), default=1, show_default=True, help="the column that holds the id")
@click.argument("id_list")
@click.argument("scp", default="-")
def filter_scp(exclude: bool, column: int, id_list: str, scp: str) -> None:
    """Writes the lines of SCP (or stdin) on stdout whose id stands in the first column of ID_LIST."""
    from deepspeaker.kaldi import filter_lines, keys_of, read_lines

    ids = keys_of(read_lines(id_list))
    if b"" in ids:
        raise InputError(f"{id_list}:{ids.index(b'') + 1}: empty line; remove it")
    _written(filter_lines(read_lines(scp), set(ids), column, exclude, scp))


@commands.command("split-scp")
@click.option("-j", "job", type=(int, int), default=None, metavar="JOBS JOB", help="one piece only, JOB from 0")
@click.option("--one-based", is_flag=True, help="JOB from 1")
@click.option("--utt2spk", type=PATH, default=None, help="part no speaker")
@click.argument("scp")
@click.argument("outputs", nargs=-1)
def split_scp(
    job: tuple[int, int] | None, one_based: bool, utt2spk: Path | None, scp: str, outputs: Sequence[str]
) -> None:
    """Splits SCP into as many pieces as there are OUTPUTS."""
    from deepspeaker.kaldi import read_lines, speaker_of_utterance, split_by_speaker, split_lines

    pieces = len(outputs)
    if job is not None:
        pieces = job[0]
        first = 1 if one_based else 0
        if not first <= job[1] < pieces + first or len(outputs) > 1:
            raise click.UsageError(f"-j {job[0]} {job[1]}: jobs {first} to {pieces + first - 1} and one output")
    elif not outputs:
        raise click.UsageError("as many outputs as there are to be pieces are wanted")
    lines = read_lines(scp)
    if utt2spk is None:
        split = split_lines(lines, pieces, scp)
    else:
        split = split_by_speaker(lines, pieces, speaker_of_utterance(read_lines(utt2spk), utt2spk), scp)
    if job is not None:
        _written(split[job[1] - first], outputs[0] if outputs else "-")
    else:
        for piece, output in zip(split, outputs, strict=True):
            _written(piece, output)


@commands.command("split-data")
@click.option("--per-utt", is_flag=True, help="speakers may be in several pieces; into splitNutt")
@click.argument("data_dir", type=PATH)
@click.argument("pieces", type=click.IntRange(1))
def split_data(per_utt: bool, data_dir: Path, pieces: int) -> None:
    """Splits a data directory into DATA_DIR/splitN/1 to N."""
    from deepspeaker.kaldi import split_data as split

    split(data_dir, pieces, per_utt)


@commands.command("subset-data-dir")
@click.option("--per-spk", "mode", flag_value="per-spk", help="N utterances of each speaker")
@click.option("--speakers", "mode", flag_value="speakers", help="whole speakers until there are N utterances")
@click.option("--shortest", "mode", flag_value="shortest", help="the N shortest utterances")
@click.option("--first", "mode", flag_value="first", help="the first N utterances")
@click.option("--last", "mode", flag_value="last", help="the last N utterances")
@click.option("--spk-list", default=None, help="the speakers to keep; there is no N then")
@click.option("--utt-list", default=None, help="the utterances to keep; there is no N then")
@click.argument("arguments", nargs=-1, metavar="SOURCE [N] OUTPUT")
def subset_data_dir(mode: str | None, spk_list: str | None, utt_list: str | None, arguments: Sequence[str]) -> None:
    """A data directory with some utterances of another: N of them spread evenly, unless an option says otherwise."""
    from deepspeaker.kaldi import subset_data_dir as subset

    listed = spk_list or utt_list
    if sum(option is not None for option in (mode, spk_list, utt_list)) > 1:
        raise click.UsageError("one of --per-spk, --speakers, ... only")
    if len(arguments) != (2 if listed else 3):
        raise click.UsageError(f"SOURCE {'' if listed else 'N '}OUTPUT wanted")
    count = None
    if not listed:
        if not arguments[1].isdecimal():
            raise click.UsageError(f"{arguments[1]}: a number of utterances is wanted")
        count = int(arguments[1])
    subset(arguments[0], arguments[-1], count, f"{'spk' if spk_list else 'utt'}-list" if listed else mode or "", listed)


@commands.command("combine-data")
@click.option("--extra-files", default="", help="more tables to combine")
@click.option("--skip-fix", type=bool, default=False, help="do not run fix_data_dir.sh at the end")
@click.argument("output", type=PATH)
@click.argument("sources", nargs=-1, type=PATH, required=True)
def combine_data(extra_files: str, skip_fix: bool, output: Path, sources: Sequence[Path]) -> None:
    """One data directory of several."""
    from deepspeaker.kaldi import combine_data as combine

    combine(output, sources, extra_files.split(), skip_fix)


@commands.command("copy-data-dir")
@click.option("--spk-prefix", default="")
@click.option("--spk-suffix", default="")
@click.option("--utt-prefix", default="")
@click.option("--utt-suffix", default="")
@click.option("--validate-opts", default="", help="options of validate_data_dir.sh")
@click.argument("source", type=PATH)
@click.argument("output", type=PATH)
def copy_data_dir(
    spk_prefix: str, spk_suffix: str, utt_prefix: str, utt_suffix: str, validate_opts: str, source: Path, output: Path
) -> None:
    """A copy of a data directory, with a prefix or suffix to the ids of utterances and speakers."""
    from deepspeaker.kaldi import copy_data_dir as copy

    names = {"--no-feats": "feats", "--no-wav": "wav", "--no-text": "text"}
    names |= {"--no-spk-sort": "spk_sort", "--non-print": "printable"}
    for option in validate_opts.split():
        if option not in names:
            raise click.UsageError(f"--validate-opts: {option} is no option of validate_data_dir.sh")
    options = {names[option]: False for option in validate_opts.split()}
    if not copy(source, output, (spk_prefix, spk_suffix), (utt_prefix, utt_suffix), options):
        raise InputError(f"{output}: is not a valid data directory; the lines above say why")
