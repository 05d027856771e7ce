"""What stages 3 and 4 train on: the features of the speakers, and augmented copies of them."""

from __future__ import annotations

from pathlib import Path

from deepspeaker.augmentation import copy_part
from deepspeaker.config import Augment
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.training.augmented import Sources
from deepspeaker.training.distributed import rank


def open_features(
    data_dir: Path, patience: int, augment: Augment
) -> tuple[FeatureIndex, FeatureIndex | None, Sources | None]:
    """Return the features of the training speakers, of the development speakers if any, and what is drawn of copies."""
    copies = augment.copies
    index = FeatureIndex(data_dir / "train_nosil", [data_dir / f"{copy_part(copy.name)}_nosil" for copy in copies])
    sources = Sources(
        [augment.clean_weight, *(copy.weight for copy in copies)], [False, *(copy.new_speakers for copy in copies)]
    )
    _check_spk2utt(index)
    if len(index.speakers) < 2:
        raise InputError(f"{index.data_dir}: training needs two speakers at least, there is one")
    single = int((index.of_speaker.sizes() == 1).sum())
    report(
        f"{len(index.speakers)} speakers ({single} with a single utterance), {len(index)} utterances, "
        f"{index.feature_dim} bins"
    )
    dev_index = FeatureIndex(data_dir / "dev_nosil") if (data_dir / "dev_nosil").is_dir() else None
    if dev_index is not None and dev_index.feature_dim != index.feature_dim:
        raise InputError(f"{dev_index.data_dir}: has {dev_index.feature_dim} bins, training {index.feature_dim}")
    if dev_index is None or len(dev_index.speakers) < 2 or (dev_index.of_speaker.sizes() < 2).all():
        effect = ", and patience has no effect" if patience else ""
        report(f"too few development speakers for a development EER; checkpoint_best is the last one{effect}")
    if copies:
        report(f"{len(copies)} augmented copies of each utterance: {', '.join(copy.name for copy in copies)}")
    return index, dev_index, sources if copies else None


def _check_spk2utt(index: FeatureIndex) -> None:
    """Raise ``InputError`` if ``spk2utt`` contradicts ``utt2spk``.

    Only the numbers of utterances are compared, because a corpus may have millions.
    """
    path = index.data_dir / "spk2utt"
    if not path.is_file():
        return
    listed = {}
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if words := line.split():
                listed[words[0]] = len(words) - 1
    expected = dict(zip(index.speakers, index.of_speaker.sizes().tolist(), strict=True))
    for speaker in [*expected, *listed]:
        if listed.get(speaker, 0) != expected.get(speaker, 0):
            raise InputError(
                f"{path}: {speaker} has {listed.get(speaker, 0)} utterances, by utt2spk and feats.scp "
                f"{expected.get(speaker, 0)}; fix them by utils/fix_data_dir.sh {index.data_dir}"
            )


def report(line: str) -> None:
    """Print a line; only rank 0 does."""
    if rank() == 0:
        print(line, flush=True)
