"""Stage 2: the data directories of augmented copies and conditions, and the trials of the conditions."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deepspeaker.cli.options import FOLDER, commands, config_options, load, seed_option

#: Bytes of a value in an ark, by compression.
_VALUE_BYTES = {"none": 4, "two-byte": 2, "one-byte": 1, "speech-feature": 1}


@commands.command("make-copies")
@config_options
@seed_option
@click.argument("data_dir", type=FOLDER)
def make_copies(config: Path, overrides: tuple[str, ...], seed: int, data_dir: Path) -> None:
    """Stage 2: write the data directories of augmented copies and conditions.

    DATA_DIR is the folder of the prepared data, data/C. The directories (data/C/train_NAME for each of augment.copies,
    data/C/test_conditions for conditions.copies) are printed, so that "fbank" can compute their features. What they
    cost goes to stderr. Directories that exist already stay as they are.
    """
    settings = load(config, overrides)
    if not settings.augment.copies and not settings.conditions.copies:
        return
    from deepspeaker.augmentation import write_copies

    features = settings.features
    folders = write_copies(
        data_dir,
        settings.augment,
        settings.conditions,
        seed,
        sampling_rate=features.sampling_rate,
        bytes_per_second=features.num_bins * _VALUE_BYTES[features.compression] / features.frame_shift,
        say=lambda line: print(line, file=sys.stderr),
    )
    for folder in folders:
        print(folder)


def write_condition_trials(folder: Path) -> str:
    """Write the trials of the conditions whose features are in ``folder``, and return a line about them."""
    from deepspeaker.augmentation import read_description
    from deepspeaker.features import nosil_dir
    from deepspeaker.kaldi import read_table
    from deepspeaker.trials import write_trials_conditions

    degraded: dict[str, dict[str, str]] = {}
    utt2uniq = read_table(nosil_dir(folder) / "utt2uniq")
    for copy, condition in read_table(nosil_dir(folder) / "utt2condition").items():
        degraded.setdefault(condition, {})[utt2uniq[copy]] = copy
    utt2spk = read_table(folder.parent / "test" / "utt2spk")
    path = folder / "trials_conditions"
    target, nontarget = write_trials_conditions(path, utt2spk, degraded, read_description(folder)[0])
    return f"{path}: {target} target, {nontarget} nontarget trials under {len(degraded)} conditions"
