"""Utterances whose features have values that are not finite numbers: named, and too many of them stop training."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.files import atomic_write
from deepspeaker.training.distributed import process_count, process_rank

#: Training stops when more of the utterances have values that are not finite.
MOST_NOT_FINITE = 0.01


class NotFinite:
    """The list of such utterances of ``index``, in ``folder``: each process adds to ``not_finite.RANK``.

    It goes on where a training is ``resumed``, less the utterances that were mended; otherwise it begins anew. The list
    decides nothing but when there are too many.
    """

    def __init__(self, index: FeatureIndex, folder: Path, resumed: bool) -> None:
        self.index, self.folder = index, folder
        self._file = folder / f"not_finite.{process_rank()}"
        self._noted: set[int] = set()
        for path in self._lists():
            if int(path.suffix[1:]) % process_count() == process_rank():
                still = [name for name in path.read_text(encoding="utf-8").split() if resumed and self._is_bad(name)]
                if still:
                    atomic_write(path, "".join(f"{name}\n" for name in still))
                else:
                    path.unlink()

    def note(self, utterance: int) -> None:
        """Adds an utterance, unless a list has it; raises ``InputError`` when they are more than 1 % of all."""
        if utterance in self._noted:
            return
        self._noted.add(utterance)
        name = self.index.utterance_id(utterance)
        listed = b"\n" + b"".join(path.read_bytes() for path in self._lists())
        count = listed.count(b"\n") - 1
        if f"\n{name}\n".encode() in listed:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(f"{name}\n")
        if count < 10:
            print(f"left out: {name} has values that are not finite numbers; all in {self._file}", flush=True)
        if count + 1 > MOST_NOT_FINITE * len(self.index):
            raise InputError(
                f"{self.index.data_dir}/feats.scp: {count + 1} of {len(self.index)} utterances have values that are "
                f"not finite numbers, more than 1 % (list: {self.folder}/not_finite.*); make them again"
            )

    def _lists(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("not_finite.*") if path.suffix[1:].isdigit())

    def _is_bad(self, name: str) -> bool:
        place = bisect_left(range(len(self.index)), name, key=self.index.utterance_id)
        there = place < len(self.index) and self.index.utterance_id(place) == name
        return there and not np.isfinite(self.index.read(place)).all()
