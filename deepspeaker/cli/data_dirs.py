"""Sub-commands for any Kaldi tables and data directories, which utils/validate_data_dir.sh and others run.

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

_MAX_FINDINGS = 20  # shown of a file


def _write(lines: Iterable[bytes], output: str = "-") -> None:
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
        click.option("--non-print", is_flag=True, help="allow characters in text that cannot be printed"),
        click.option("--no-spk-sort", is_flag=True, help="utt2spk need not be sorted by speaker"),
        click.option("--no-text", is_flag=True, help="text may be missing"),
        click.option("--no-wav", is_flag=True, help="wav.scp may be missing"),
        click.option("--no-feats", is_flag=True, help="feats.scp may be missing"),
    ):
        function = option(function)
    return function


@commands.command("validate-data-dir")
@_validation_options
@click.argument("data_dir", type=PATH)
def validate_data_dir(
    no_feats: bool, no_wav: bool, no_text: bool, no_spk_sort: bool, non_print: bool, data_dir: Path
) -> None:
    """List the problems of a data directory.

    Each problem is a line with the file, the line number and the fix. The exit status is 1 if there are any.
    """
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
        if counts[finding.file] <= _MAX_FINDINGS:
            print(finding, file=sys.stderr)
    for file, count in counts.items():
        if count > _MAX_FINDINGS:
            print(f"{file}: ... and {count - _MAX_FINDINGS} more", file=sys.stderr)
    errors = sum(not finding.warning for finding in findings)
    if errors:
        raise InputError(f"{data_dir}: is not a valid data directory ({errors} problem{'s' if errors > 1 else ''})")
    print(f"validate_data_dir.sh: Successfully validated data-directory {data_dir}")


@commands.command("fix-data-dir")
@click.option("--utt-extra-files", default="", help="additional tables by utterance")
@click.option("--spk-extra-files", default="", help="additional tables by speaker")
@click.argument("data_dir", type=PATH)
def fix_data_dir(utt_extra_files: str, spk_extra_files: str, data_dir: Path) -> None:
    """Sort a data directory and drop incomplete entries.

    Afterwards all tables have the same utterances and speakers. The original tables are kept in .backup.
    """
    from deepspeaker.kaldi import fix_data_dir as fix

    fix(data_dir, utt_extra_files.split(), spk_extra_files.split())


@commands.command("utt2spk-to-spk2utt")
@click.argument("utt2spk", default="-")
def utt2spk_to_spk2utt(utt2spk: str) -> None:
    """Convert utt2spk to spk2utt.

    The result goes to stdout. Without UTT2SPK, stdin is read.
    """
    from deepspeaker.kaldi import read_lines, spk2utt_lines

    _write(spk2utt_lines(read_lines(utt2spk), utt2spk))


@commands.command("spk2utt-to-utt2spk")
@click.argument("spk2utt", default="-")
def spk2utt_to_utt2spk(spk2utt: str) -> None:
    """Convert spk2utt to utt2spk.

    The result goes to stdout. Without SPK2UTT, stdin is read.
    """
    from deepspeaker.kaldi import read_lines, utt2spk_lines

    _write(utt2spk_lines(read_lines(spk2utt), spk2utt))


@commands.command("filter-scp")
@click.option("--exclude", is_flag=True, help="keep the lines whose id is not in the list")
@click.option("-f", "column", type=click.IntRange(1), default=1, show_default=True, help="column of SCP with the id")
@click.argument("id_list")
@click.argument("scp", default="-")
def filter_scp(exclude: bool, column: int, id_list: str, scp: str) -> None:
    """Select the lines of a table whose id is in a list.

    The ids are the first column of ID_LIST. The lines of SCP, or of stdin, go to stdout.
    """
    from deepspeaker.kaldi import filter_lines, keys_of, read_lines

    ids = keys_of(read_lines(id_list))
    if b"" in ids:
        raise InputError(f"{id_list}:{ids.index(b'') + 1}: empty line; remove it")
    _write(filter_lines(read_lines(scp), set(ids), column, exclude, scp))


@commands.command("split-scp")
@click.option("-j", "job", type=(int, int), default=None, metavar="JOBS JOB", help="write only piece JOB, from 0")
@click.option("--one-based", is_flag=True, help="count JOB from 1")
@click.option("--utt2spk", type=PATH, default=None, help="keep all utterances of a speaker in one piece")
@click.argument("scp")
@click.argument("outputs", nargs=-1)
def split_scp(
    job: tuple[int, int] | None, one_based: bool, utt2spk: Path | None, scp: str, outputs: Sequence[str]
) -> None:
    """Split a table into pieces.

    There are as many pieces as OUTPUTS.
    """
    from deepspeaker.kaldi import read_lines, speaker_of_utterance, split_by_speaker, split_lines

    pieces = len(outputs)
    if job is not None:
        pieces = job[0]
        first = 1 if one_based else 0
        if not first <= job[1] < pieces + first or len(outputs) > 1:
            last = pieces + first - 1
            raise click.UsageError(f"-j {job[0]} {job[1]}: give a job from {first} to {last} and at most one output")
    elif not outputs:
        raise click.UsageError("give an output for each piece")
    lines = read_lines(scp)
    if utt2spk is None:
        split = split_lines(lines, pieces, scp)
    else:
        split = split_by_speaker(lines, pieces, speaker_of_utterance(read_lines(utt2spk), utt2spk), scp)
    if job is not None:
        _write(split[job[1] - first], outputs[0] if outputs else "-")
    else:
        for piece, output in zip(split, outputs, strict=True):
            _write(piece, output)


@commands.command("split-data")
@click.option("--per-utt", is_flag=True, help="allow a speaker in several pieces; write to splitNutt")
@click.argument("data_dir", type=PATH)
@click.argument("pieces", type=click.IntRange(1))
def split_data(per_utt: bool, data_dir: Path, pieces: int) -> None:
    """Split a data directory into N pieces.

    N is PIECES. The pieces are DATA_DIR/splitN/1 to DATA_DIR/splitN/N.
    """
    from deepspeaker.kaldi import split_data as split

    split(data_dir, pieces, per_utt)


@commands.command("subset-data-dir")
@click.option("--per-spk", "mode", flag_value="per-spk", help="select N utterances of each speaker")
@click.option("--speakers", "mode", flag_value="speakers", help="select whole speakers until there are N utterances")
@click.option("--shortest", "mode", flag_value="shortest", help="select the N shortest utterances")
@click.option("--first", "mode", flag_value="first", help="select the first N utterances")
@click.option("--last", "mode", flag_value="last", help="select the last N utterances")
@click.option("--spk-list", default=None, help="select the speakers in this file, without N")
@click.option("--utt-list", default=None, help="select the utterances in this file, without N")
@click.argument("arguments", nargs=-1, metavar="SOURCE [N] OUTPUT")
def subset_data_dir(mode: str | None, spk_list: str | None, utt_list: str | None, arguments: Sequence[str]) -> None:
    """Select some utterances of a data directory.

    By default, N utterances are selected at even distances.
    """
    from deepspeaker.kaldi import subset_data_dir as subset

    listed = spk_list or utt_list
    if sum(option is not None for option in (mode, spk_list, utt_list)) > 1:
        raise click.UsageError("give at most one of the options --per-spk to --utt-list")
    if len(arguments) != (2 if listed else 3):
        raise click.UsageError(f"give the arguments SOURCE {'' if listed else 'N '}OUTPUT")
    count = None
    if not listed:
        if not arguments[1].isdecimal():
            raise click.UsageError(f"{arguments[1]}: is not a number of utterances")
        count = int(arguments[1])
    subset(arguments[0], arguments[-1], count, f"{'spk' if spk_list else 'utt'}-list" if listed else mode or "", listed)


@commands.command("combine-data")
@click.option("--extra-files", default="", help="additional tables to combine")
@click.option("--skip-fix", type=bool, default=False, help="do not run fix_data_dir.sh at the end")
@click.argument("output", type=PATH)
@click.argument("sources", nargs=-1, type=PATH, required=True)
def combine_data(extra_files: str, skip_fix: bool, output: Path, sources: Sequence[Path]) -> None:
    """Combine data directories into one."""
    from deepspeaker.kaldi import combine_data as combine

    combine(output, sources, extra_files.split(), skip_fix)


@commands.command("copy-data-dir")
@click.option("--spk-prefix", default="", help="prepended to speaker ids")
@click.option("--spk-suffix", default="", help="appended to speaker ids")
@click.option("--utt-prefix", default="", help="prepended to utterance ids")
@click.option("--utt-suffix", default="", help="appended to utterance ids")
@click.option("--validate-opts", default="", help="options of validate_data_dir.sh")
@click.argument("source", type=PATH)
@click.argument("output", type=PATH)
def copy_data_dir(
    spk_prefix: str, spk_suffix: str, utt_prefix: str, utt_suffix: str, validate_opts: str, source: Path, output: Path
) -> None:
    """Copy a data directory, with a prefix or suffix on ids."""
    from deepspeaker.kaldi import copy_data_dir as copy

    names = {"--no-feats": "feats", "--no-wav": "wav", "--no-text": "text"}
    names |= {"--no-spk-sort": "spk_sort", "--non-print": "printable"}
    for option in validate_opts.split():
        if option not in names:
            raise click.UsageError(f"--validate-opts: {option} is not an option of validate_data_dir.sh")
    options = {names[option]: False for option in validate_opts.split()}
    if not copy(source, output, (spk_prefix, spk_suffix), (utt_prefix, utt_suffix), options):
        raise InputError(f"{output}: is not a valid data directory; see the lines above")
