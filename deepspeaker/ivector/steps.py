"""The steps of a training in ``exp/E/ivector``. Each is one command, alone or as an array of jobs.

    k-means -> UBM 0; for each iteration: statistics of each shard -> sum, next UBM
    Baum-Welch statistics of all utterances, by the last UBM, kept on disk
    for each iteration: statistics of each shard -> sum, next extractor
    i-vectors of all parts, by the last extractor

The files between the steps are in ``.work``. A step whose result exists does nothing, so that an interrupted training
continues.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepspeaker.embedding import collect_embeddings
from deepspeaker.errors import InputError
from deepspeaker.features import nosil_dir, shard_of
from deepspeaker.files import atomic_write, remove_folder
from deepspeaker.ivector.arrays import add, load_arrays, save_arrays
from deepspeaker.ivector.extractor import (
    Extractor,
    ExtractorStatistics,
    accumulate_extractor,
    initial_extractor,
    ivectors,
    update_extractor,
)
from deepspeaker.ivector.initialisation import initial_ubm, sample_rows
from deepspeaker.ivector.mfcc_shard import mfcc_dir
from deepspeaker.ivector.mixture import Ubm
from deepspeaker.ivector.statistics import (
    UtteranceStatistics,
    read_posteriors,
    statistics_of_given,
    utterance_statistics,
)
from deepspeaker.ivector.ubm import UbmStatistics, accumulate_given, accumulate_ubm, update_ubm
from deepspeaker.kaldi import ArkWriter, read_header_of, read_matrix, read_table, read_vector

Model = Literal["ubm", "extractor"]

#: The name of the system, and of its folder.
IVECTOR = "ivector"
#: Iterations with full covariances, which follow those with diagonal ones.
FULL_ITERATIONS = 4
#: Frames for k-means: at least this number, and this number for each component.
_SAMPLE, _SAMPLE_PER_COMPONENT = 100_000, 200
#: Bytes of Baum-Welch statistics that are in memory at once.
_CHUNK = 1 << 27


@dataclass(frozen=True)
class IVectorTraining:
    """A training of UBM and extractor.

    Attributes
    ----------
    data_dir
        The folder of the parts, ``data/C``.
    folder
        The folder of the system, ``exp/E/ivector``.
    posteriors
        An scp with the frame posteriors of all utterances, which then take the place of the UBM's alignment.
    components, dim
        The sizes of the models. Given posteriors decide the number of components.
    full_covariance
        Whether components have full covariances.
    ubm_iterations, iterations
        Iterations of EM for the UBM and the extractor.
    variance_floor
        See `update_ubm`.
    seed
        Of k-means and of the initial extractor.
    """

    data_dir: Path
    folder: Path
    posteriors: Path | None
    components: int
    dim: int
    full_covariance: bool
    ubm_iterations: int
    iterations: int
    variance_floor: float
    seed: int

    @property
    def parts(self) -> list[str]:
        """The parts that exist, the training part first."""
        return [part for part in ("train", "dev", "test") if (nosil_dir(self.data_dir / part) / "utt2spk").is_file()]

    @property
    def all_ubm_iterations(self) -> int:
        """The number of updates of the UBM after k-means."""
        if self.posteriors:
            return 1
        return self.ubm_iterations + (FULL_ITERATIONS if self.full_covariance else 0)

    # ---- the steps ---------------------------------------------------------------------------------------

    def accumulate(self, model: Model, iteration: int, job: int, num_jobs: int) -> None:
        """Write the statistics of a shard of the training part under the model of the iteration before."""
        path = self._shard(model, iteration, job)
        if self._is_finished or self._model(model, iteration).is_file() or path.is_file():
            return
        if model == "extractor":
            save_arrays(path, self._accumulate_extractor(iteration, job, num_jobs))
        elif self.posteriors:
            save_arrays(path, self._accumulate_given(job, num_jobs))
        else:
            ubm = load_arrays(self._model("ubm", iteration - 1), Ubm)
            if iteration > self.ubm_iterations:
                ubm = ubm.with_full_covariances()
            save_arrays(path, accumulate_ubm(ubm, (frames for _, frames in self._frames("train", job, num_jobs))))

    def update(self, model: Model, iteration: int, num_jobs: int) -> str:
        """Write the model of an iteration; iteration 0 of the UBM is k-means.

        Returns
        -------
        str
            A line for the user, empty if there was nothing to do.

        Raises
        ------
        InputError
            A shard is missing, a component is empty, a covariance is singular, or there is too little speech.
        """
        path = self._model(model, iteration)
        if self._is_finished or path.is_file() or (self.posteriors and model == "ubm" and not iteration):
            return ""
        if model == "ubm" and not iteration:
            sample = self._sample()
            save_arrays(path, initial_ubm(sample, self.components, self.seed, variance_floor=self.variance_floor))
            return f"UBM: {self.components} components by k-means of {len(sample)} frames"
        shards = [self._shard(model, iteration, job) for job in range(1, num_jobs + 1)]
        likelihood: float
        if model == "ubm":
            ubm, likelihood = update_ubm(_sum(shards, UbmStatistics), self.variance_floor)
            save_arrays(path, ubm)
            total, name = self.all_ubm_iterations, "UBM"
        else:
            before = self._extractor(iteration - 1)
            extractor, likelihood = update_extractor(before, _sum(shards, ExtractorStatistics))
            save_arrays(path, extractor)
            total, name = self.iterations, "total variability"
        for shard in shards:
            shard.unlink()
        if self.posteriors and model == "ubm":
            return f"UBM: means and covariances of the {len(ubm.weights)} classes of {self.posteriors}"
        return f"{name}, iteration {iteration} of {total}: log-likelihood per frame {likelihood:.4f} before it"

    def statistics(self, job: int, num_jobs: int) -> None:
        """Write the Baum-Welch statistics of a shard of each part, a matrix [N F] of (C, 1 + D) for an utterance."""
        if self._is_finished:
            return
        ubm = self._last_ubm
        for part in self.parts:
            ark = self.folder / ".work" / f"statistics_{part}.{job}.ark"
            if self._statistics(part, job).is_file():
                continue
            with ArkWriter(ark, self._statistics(part, job)) as writer:
                if self.posteriors:
                    for utterance, frames, posteriors in self._with_posteriors(part, job, num_jobs):
                        writer.write(utterance, _joined(statistics_of_given(ubm, [(posteriors, frames)])))
                else:
                    for utterance, frames in self._frames(part, job, num_jobs):
                        writer.write(utterance, _joined(utterance_statistics(ubm, [frames])))

    def extract(self, job: int) -> None:
        """Write the i-vectors of a shard of each part, with length 1."""
        if self._is_finished:
            return
        extractor = self._extractor(self.iterations)
        for part in self.parts:
            output = self.embeddings_dir(part)
            if (output / ".shards" / f"xvector.{job}").is_file() or (output / "xvector.scp").is_file():
                continue
            with ArkWriter(output / f"xvector.{job}.ark", output / ".shards" / f"xvector.{job}") as writer:
                for utterances, statistics in self._chunks(part, job):
                    vectors = ivectors(extractor, statistics)
                    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
                    for utterance, vector in zip(utterances, vectors, strict=True):
                        writer.write(utterance, vector)

    def collect(self, num_jobs: int, config: dict[str, Any]) -> Iterator[str]:
        """Join the i-vectors, keep the models, and describe the system; yield lines for the user."""
        if self._is_finished:
            return
        for part in self.parts:
            output = self.embeddings_dir(part)
            if (output / ".shards").is_dir():  # otherwise joined before an interruption
                yield collect_embeddings(mfcc_dir(self.data_dir / part), output, num_jobs)
        ubm, extractor = self._last_ubm, self._extractor(self.iterations)
        save_arrays(self.folder / "ubm.npz", ubm)
        save_arrays(self.folder / "extractor.npz", extractor)
        dim = ubm.means.shape[1]
        covariances = len(ubm.means) * dim * (dim + 1) // 2 if ubm.is_full else ubm.covariances.size
        system = {
            "model": IVECTOR,
            "checkpoint": "extractor.npz",
            "reason": "the only one",
            "parameters": len(ubm.weights) + ubm.means.size + covariances + extractor.loadings.size,
            "stage": IVECTOR,
            "config": config,
            "speakers": sorted(set(read_table(mfcc_dir(self.data_dir / "train") / "utt2spk").values())),
        }
        atomic_write(self.folder / "network.json", json.dumps(system, indent=1) + "\n")
        remove_folder(self.folder / ".work")
        yield f"{self.folder}: {system['parameters']:,} parameters"

    def embeddings_dir(self, part: str) -> Path:
        """Return the folder of a part's i-vectors."""
        return self.folder / f"embeddings_{part}"

    # ---- files -------------------------------------------------------------------------------------------

    @property
    def _is_finished(self) -> bool:
        return (self.folder / "network.json").is_file() and not (self.folder / ".work").is_dir()

    @property
    def _last_ubm(self) -> Ubm:
        return load_arrays(self._model("ubm", self.all_ubm_iterations), Ubm)

    def _extractor(self, iteration: int) -> Extractor:
        if iteration:
            return load_arrays(self._model("extractor", iteration), Extractor)
        return initial_extractor(self._last_ubm, self.dim, self.seed)

    def _model(self, model: Model, iteration: int) -> Path:
        return self.folder / ".work" / f"{model}.{iteration}.npz"

    def _shard(self, model: Model, iteration: int, job: int) -> Path:
        return self.folder / ".work" / f"{model}_statistics.{iteration}.{job}.npz"

    def _statistics(self, part: str, job: int) -> Path:
        return self.folder / ".work" / f"statistics_{part}.{job}.scp"

    # ---- data --------------------------------------------------------------------------------------------

    def _frames(self, part: str, job: int, num_jobs: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
        table = list(read_table(mfcc_dir(self.data_dir / part) / "feats.scp").items())
        for utterance, location in shard_of(table, job, num_jobs):
            yield utterance, read_matrix(location)

    def _with_posteriors(
        self, part: str, job: int, num_jobs: int
    ) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
        """Yield utterances with frames (frames, D) and posteriors (frames, C), of all frames or of speech frames."""
        assert self.posteriors is not None
        given, vad_scp = read_table(self.posteriors), self.data_dir / part / "vad.scp"
        vad = read_table(vad_scp) if vad_scp.is_file() else {}
        for utterance, frames in self._frames(part, job, num_jobs):
            if utterance not in given:
                raise InputError(f"{self.posteriors}: has no posteriors of {utterance}; give those of all utterances")
            of_speech = read_header_of(given[utterance]).rows == len(frames) or utterance not in vad
            speech = None if of_speech else read_vector(vad[utterance]) > 0
            yield utterance, frames, read_posteriors(given[utterance], frames, speech)

    def _sample(self) -> NDArray[np.float32]:
        folder = mfcc_dir(self.data_dir / "train")
        lengths, feats = read_table(folder / "utt2num_frames"), read_table(folder / "feats.scp")
        count = max(_SAMPLE, _SAMPLE_PER_COMPONENT * self.components)
        rows = sample_rows([int(lengths[utterance]) for utterance in feats], count, self.seed)
        return np.concatenate([read_matrix(location)[row] for location, row in zip(feats.values(), rows, strict=True)])

    def _accumulate_given(self, job: int, num_jobs: int) -> UbmStatistics:
        assert self.posteriors is not None
        firsts = (self.posteriors, mfcc_dir(self.data_dir / "train") / "feats.scp")
        sizes = [read_header_of(next(iter(read_table(scp).values()))).cols for scp in firsts]
        full = self.full_covariance
        total = accumulate_given(*(np.zeros((0, size)) for size in sizes), full=full)
        for _, frames, posteriors in self._with_posteriors("train", job, num_jobs):
            total = add(total, accumulate_given(posteriors, frames, full=full))
        return total

    def _accumulate_extractor(self, iteration: int, job: int, num_jobs: int) -> ExtractorStatistics:
        extractor = self._extractor(iteration - 1)
        components, features = extractor.offsets.shape
        nothing = UtteranceStatistics(np.zeros((0, components)), np.zeros((0, components, features), dtype=np.float32))
        total = accumulate_extractor(extractor, nothing)
        for _, statistics in self._chunks("train", job):
            total = add(total, accumulate_extractor(extractor, statistics))
        return total

    def _chunks(self, part: str, job: int) -> Iterator[tuple[list[str], UtteranceStatistics]]:
        """Yield the utterances of a shard with their statistics, some at a time."""
        table = list(read_table(self._statistics(part, job)).items())
        if not table:
            return
        header = read_header_of(table[0][1])
        size = max(1, _CHUNK // (4 * header.rows * header.cols))
        for start in range(0, len(table), size):
            chunk = table[start : start + size]
            values = np.stack([read_matrix(location) for _, location in chunk])
            yield [name for name, _ in chunk], UtteranceStatistics(values[:, :, 0].astype(np.float64), values[:, :, 1:])


def _sum(shards: list[Path], kind: type[Any]) -> Any:
    """Return the sum of the statistics of all shards, with two of them in memory."""
    total = None
    for number, shard in enumerate(shards, 1):
        if not shard.is_file():
            raise InputError(f"{shard}: shard {number} of {len(shards)} is missing; run stage 5 again")
        total = load_arrays(shard, kind) if total is None else add(total, load_arrays(shard, kind))
    return total


def _joined(statistics: UtteranceStatistics) -> NDArray[np.float32]:
    """Return the statistics of one utterance as a matrix (C, 1 + D)."""
    return np.concatenate([statistics.counts[0][:, None].astype(np.float32), statistics.first[0]], axis=1)
