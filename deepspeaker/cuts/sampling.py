"""P speakers x K cuts: a sampler for anybody's CutSet and DataLoader. Lhotse has none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from lhotse import CutSet
from lhotse.dataset.sampling.base import CutSampler

from deepspeaker.cuts.speakers import speaker_of
from deepspeaker.errors import InputError
from deepspeaker.training import SpeakerSampler

#: Crops begin at a frame; without features, every so many seconds.
GRID_SECONDS = 0.01


class SpeakerCutSampler(CutSampler):  # type: ignore[misc]  # Lhotse has no types
    """Batches of ``speakers_per_batch`` (P) speakers with ``cuts_per_speaker`` (K) crops each, as CutSets.

    >>> sampler = SpeakerCutSampler(cuts, speakers_per_batch=32, cuts_per_speaker=4, crop_seconds=1.6)
    >>> loader = DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=4)
    >>> for epoch in range(epochs):
    ...     sampler.set_epoch(epoch)
    ...     for batch in loader: ...

    The choice is that of ``deepspeaker.training.SpeakerSampler``: each speaker once a pass, of each K different cuts
    where there are so many, else some of them again in other crops; the K cuts of a speaker follow each other. A
    speaker with a single cut that is shorter than two crops is left out (``left_out`` counts them). A longer cut gives
    a random ``crop_seconds`` of itself, beginning at one of its frames; a shorter one comes whole. A cut that comes
    twice in a batch is told apart by its id (``ID``, ``ID-1``, ...).

    A batch is a function of the seed and its number, and of nothing else. Of ``world_size`` processes (by default as
    Lhotse finds them out: RANK and WORLD_SIZE, or torch.distributed), process ``rank`` gets every
    ``world_size``-th batch; all get the same number. An epoch has ``steps_per_epoch`` batches a process, by default as
    many as let each speaker come once; epochs continue each other's passes.

    ``state_dict`` and ``load_state_dict`` go on within an epoch. Workers of a DataLoader fetch ahead: ``seek(epoch,
    step)`` then goes on after the step that was really trained. Cuts need one speaker each (``InputError`` names the
    cut otherwise); a CutSet that is opened lazily is read into memory, its audio and features are not.

    Attributes
    ----------
    speakers
        The sorted ids of the speakers that can come.
    """

    def __init__(
        self,
        cuts: CutSet,
        speakers_per_batch: int,
        cuts_per_speaker: int,
        crop_seconds: float,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        world_size: int | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__(shuffle=True, drop_last=True, world_size=world_size, rank=rank, seed=seed)
        if min(speakers_per_batch, cuts_per_speaker) < 1 or crop_seconds <= 0 or (steps_per_epoch or 1) < 1:
            raise ValueError("speakers_per_batch, cuts_per_speaker, crop_seconds and steps_per_epoch must be positive")
        self.speakers_per_batch, self.cuts_per_speaker = speakers_per_batch, cuts_per_speaker
        self.crop_seconds, self._wanted_steps = crop_seconds, steps_per_epoch
        self._step = 0
        self._use(cuts)

    def _use(self, cuts: Iterable[Any]) -> None:
        """Takes these cuts: their speakers, lengths, and what identifies them."""
        self._cuts = list(cuts)
        owners = [speaker_of(cut) for cut in self._cuts]
        everybody = sorted(set(owners))
        number = {speaker: index for index, speaker in enumerate(everybody)}
        of_speaker: list[list[int]] = [[] for _ in everybody]
        for index, owner in enumerate(owners):
            of_speaker[number[owner]].append(index)
        shifts = (cut.frame_shift for cut in self._cuts if cut.has_features)
        self._shift = float(next(shifts, GRID_SECONDS))
        crop = round(self.crop_seconds / self._shift)
        frames = np.array([self._frames(cut) for cut in self._cuts], dtype=np.int32)
        self._sampler = SpeakerSampler(
            [np.array(own, dtype=np.int32) for own in of_speaker],
            self.speakers_per_batch,
            self.cuts_per_speaker,
            int(self.seed),
            frames=frames,
            crop_frames=crop,
        )
        self.left_out = self._sampler.left_out
        self.speakers = [everybody[speaker] for speaker in self._sampler.usable]
        batches = len(self.speakers) // self._sampler.speakers
        self.steps_per_epoch = self._wanted_steps or max(1, batches // self.world_size)
        digest = hashlib.sha256()
        for cut, owner in zip(self._cuts, owners, strict=True):
            digest.update(f"{cut.id}\n{owner}\n{cut.duration}\n".encode())
        self._identity = digest.hexdigest()

    def __len__(self) -> int:
        """Batches of an epoch that this process gets."""
        return self.steps_per_epoch

    def filter(self, predicate: Callable[[Any], bool]) -> SpeakerCutSampler:
        """Leaves out the cuts for which ``predicate`` is false, for good."""
        self._use([cut for cut in self._cuts if predicate(cut)])
        return self

    def seek(self, epoch: int, step: int) -> None:
        """The next iteration begins at the batch number ``step`` (from 0) of epoch ``epoch``."""
        self.set_epoch(epoch)
        self._step = step
        self._just_restored_state = True

    def __iter__(self) -> SpeakerCutSampler:
        if not self._just_restored_state:
            self._step = 0
            self.diagnostics.reset_current_epoch()
        return self

    def __next__(self) -> CutSet:
        self.allow_iter_to_reset_state()
        if self._step >= self.steps_per_epoch:
            raise StopIteration
        batch = self._next_batch()
        self._step += 1
        for transform in self._transforms:
            batch = transform(batch)
        self.diagnostics.keep(batch)
        return batch

    def _frames(self, cut: Any) -> int:
        """Whole frames of a cut."""
        return int(cut.duration / self._shift + 1e-6)

    def _next_batch(self) -> CutSet:
        number = (self.epoch * self.steps_per_epoch + self._step) * self.world_size + self.rank
        batch = self._sampler.batch(number)
        crops: dict[str, Any] = {}
        for index, position in zip(batch.utterances.tolist(), batch.crop_positions.tolist(), strict=True):
            cut, again = self._cuts[index], 0
            name = cut.id
            while name in crops:
                again += 1
                name = f"{cut.id}-{again}"
            crops[name] = self._cropped(cut, position).with_id(name)
        return CutSet.from_cuts(crops.values())

    def _cropped(self, cut: Any, position: float) -> Any:
        """``crop_seconds`` of a longer cut, beginning at a frame; ``position`` in [0, 1) decides where."""
        frames, wanted = self._frames(cut), round(self.crop_seconds / self._shift)
        if frames <= wanted:
            return cut
        start = int(position * (frames - wanted + 1))
        return cut.truncate(offset=start * self._shift, duration=wanted * self._shift, preserve_id=True)

    def state_dict(self) -> dict[str, Any]:
        """Where the sampler is, and what must be the same when it goes on."""
        return {**super().state_dict(), **self._own_state(), "step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from ``state_dict``; raises ``InputError`` for that of other cuts, options or processes."""
        state = dict(state_dict)
        own = {**self._own_state(), "world_size": self.world_size, "seed": self.seed}
        for name, value in own.items():
            if state.get(name) != value:
                raise InputError(f"the sampler's state is of another {name.replace('_', ' ')}; start anew")
        step = state.pop("step")
        super().load_state_dict({name: value for name, value in state.items() if name not in self._own_state()})
        self._step = step

    def _own_state(self) -> dict[str, Any]:
        return {
            "cuts": self._identity,
            "speakers_per_batch": self.speakers_per_batch,
            "cuts_per_speaker": self.cuts_per_speaker,
            "crop_seconds": self.crop_seconds,
            "steps_per_epoch": self.steps_per_epoch,
        }

    @property
    def num_cuts(self) -> int:
        """How many cuts there are to choose from."""
        return len(self._cuts)

    @property
    def remaining_cuts(self) -> int:
        """How many more this epoch of this process will have."""
        return (self.steps_per_epoch - self._step) * self._sampler.speakers * self.cuts_per_speaker

    @property
    def remaining_duration(self) -> None:
        """Not known: the crops of short cuts are shorter."""
        return
