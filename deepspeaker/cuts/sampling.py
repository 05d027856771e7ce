"""A sampler of batches with P speakers and K cuts each, which Lhotse lacks, for any CutSet and DataLoader."""

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

#: Crops start at a multiple of the frame shift, or of this many seconds for cuts without features.
GRID_SECONDS = 0.01


class SpeakerCutSampler(CutSampler):  # type: ignore[misc]  # Lhotse has no types
    """Sample batches of ``speakers_per_batch`` (P) speakers with ``cuts_per_speaker`` (K) crops each, as CutSets.

    The speakers and cuts are chosen by ``deepspeaker.training.SpeakerSampler``:

    - In each pass over the data, each speaker is used once.
    - The K cuts of a speaker are different if there are K; otherwise, some are used again with other crops. They are
      adjacent in the batch.
    - A speaker whose only cut is shorter than two crops is left out; ``left_out`` is the number of these speakers.

    A batch depends only on the seed and the number of the batch.

    Parameters
    ----------
    cuts
        The cuts, each with one speaker. A lazy CutSet is read into memory, but not its audio and features.
    speakers_per_batch, cuts_per_speaker
        P and K.
    crop_seconds
        Duration of a crop. It starts at a random frame of a longer cut; a shorter cut is used whole. If a cut is used
        several times in a batch, the ids are ``ID``, ``ID-1`` and so on.
    steps_per_epoch
        Batches per epoch and rank. By default, each speaker is used once. A pass continues in the next epoch.
    seed
        Seed of all choices.
    world_size, rank
        Rank ``rank`` gets every ``world_size``-th batch; all ranks get the same number. The defaults are those of
        Lhotse: RANK and WORLD_SIZE, or torch.distributed.

    Attributes
    ----------
    speakers
        The sorted ids of the speakers that are not left out.

    Raises
    ------
    InputError
        A cut does not have exactly one speaker; names the cut.

    Notes
    -----
    ``state_dict`` and ``load_state_dict`` resume within an epoch. If a DataLoader with workers fetches batches ahead,
    resume with ``seek(epoch, step)`` after the last step that was trained.

    Examples
    --------
    ::

        sampler = SpeakerCutSampler(cuts, speakers_per_batch=32, cuts_per_speaker=4, crop_seconds=1.6)
        loader = DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=4)
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            for batch in loader:
                ...
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
        self.crop_seconds, self._requested_steps = crop_seconds, steps_per_epoch
        self._step = 0
        self._set_cuts(cuts)

    def _set_cuts(self, cuts: Iterable[Any]) -> None:
        self._cuts = list(cuts)
        speaker_of_cut = [speaker_of(cut) for cut in self._cuts]
        speakers = sorted(set(speaker_of_cut))
        cuts_of: dict[str, list[int]] = {speaker: [] for speaker in speakers}
        for index, speaker in enumerate(speaker_of_cut):
            cuts_of[speaker].append(index)
        shifts = (cut.frame_shift for cut in self._cuts if cut.has_features)
        self._shift = float(next(shifts, GRID_SECONDS))
        crop = round(self.crop_seconds / self._shift)
        frames = np.array([self._frames(cut) for cut in self._cuts], dtype=np.int32)
        self._sampler = SpeakerSampler(
            [np.array(indices, dtype=np.int32) for indices in cuts_of.values()],
            self.speakers_per_batch,
            self.cuts_per_speaker,
            int(self.seed),
            frames=frames,
            crop_frames=crop,
        )
        self.left_out = self._sampler.left_out
        self.speakers = [speakers[number] for number in self._sampler.usable]
        batches = len(self.speakers) // self._sampler.speakers
        self.steps_per_epoch = self._requested_steps or max(1, batches // self.world_size)
        digest = hashlib.sha256()
        for cut, speaker in zip(self._cuts, speaker_of_cut, strict=True):
            digest.update(f"{cut.id}\n{speaker}\n{cut.duration}\n".encode())
        self._identity = digest.hexdigest()

    def __len__(self) -> int:
        """Return the number of batches per epoch and rank."""
        return self.steps_per_epoch

    def filter(self, predicate: Callable[[Any], bool]) -> SpeakerCutSampler:
        """Remove the cuts for which ``predicate`` is false."""
        self._set_cuts([cut for cut in self._cuts if predicate(cut)])
        return self

    def seek(self, epoch: int, step: int) -> None:
        """Start the next iteration at batch ``step`` (from 0) of epoch ``epoch``."""
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
        """Return the number of whole frames of a cut."""
        return int(cut.duration / self._shift + 1e-6)

    def _next_batch(self) -> CutSet:
        number = (self.epoch * self.steps_per_epoch + self._step) * self.world_size + self.rank
        batch = self._sampler.batch(number)
        crops: dict[str, Any] = {}
        for index, position in zip(batch.utterances.tolist(), batch.crop_positions.tolist(), strict=True):
            cut, repetition = self._cuts[index], 0
            name = cut.id
            while name in crops:
                repetition += 1
                name = f"{cut.id}-{repetition}"
            crops[name] = self._crop(cut, position).with_id(name)
        return CutSet.from_cuts(crops.values())

    def _crop(self, cut: Any, position: float) -> Any:
        """Crop a longer cut at the frame that ``position`` in [0, 1) selects."""
        frames, crop = self._frames(cut), round(self.crop_seconds / self._shift)
        if frames <= crop:
            return cut
        start = int(position * (frames - crop + 1))
        return cut.truncate(offset=start * self._shift, duration=crop * self._shift, preserve_id=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the sampler, and what must not change before it resumes."""
        return {**super().state_dict(), **self._identifying_state(), "step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from ``state_dict``.

        Raises
        ------
        InputError
            The state is from a sampler with other cuts, options or ranks.
        """
        state = dict(state_dict)
        required = {**self._identifying_state(), "world_size": self.world_size, "seed": self.seed}
        for name, value in required.items():
            if state.get(name) != value:
                raise InputError(f"the sampler's state has another {name.replace('_', ' ')}; restart the training")
        step = state.pop("step")
        super().load_state_dict({name: value for name, value in state.items() if name not in self._identifying_state()})
        self._step = step

    def _identifying_state(self) -> dict[str, Any]:
        return {
            "cuts": self._identity,
            "speakers_per_batch": self.speakers_per_batch,
            "cuts_per_speaker": self.cuts_per_speaker,
            "crop_seconds": self.crop_seconds,
            "steps_per_epoch": self.steps_per_epoch,
        }

    @property
    def num_cuts(self) -> int:
        """Number of cuts to choose from."""
        return len(self._cuts)

    @property
    def remaining_cuts(self) -> int:
        """Number of cuts in the rest of this epoch on this rank."""
        return (self.steps_per_epoch - self._step) * self._sampler.speakers * self.cuts_per_speaker

    @property
    def remaining_duration(self) -> None:
        """None: unknown, since the crops of short cuts are shorter."""
        return
