"""ONNX graphs in onnxruntime, compared with torch and with the recipe's stages 2 and 5."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from deepspeaker.audio import read_audio
from deepspeaker.config import Features
from deepspeaker.errors import InputError
from deepspeaker.export import OPSET, halve, quantise, write_network_onnx, write_onnx
from deepspeaker.features import FbankExtractor, FrontEnd, energy_vad, mean_variance_normalised
from deepspeaker.kaldi import ArkWriter, read_matrix
from deepspeaker.models import Network, folded, parameter_count
from tests.inference.signals import KINDS, NETWORKS, signal, trained

Floats = NDArray[np.float32]
CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora"
FOLDERS = [CORPORA / "speechocean", CORPORA / "libri"]
NORMS = ["channel", "sequence"]


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", params=[(name, norm) for name in NETWORKS for norm in NORMS], ids="-".join)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    """A network, and its graph from samples."""
    network = trained(*request.param)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(network, Features(), path)
    return network, path


def recipe_features(signals: list[Floats], folder: Path) -> list[str]:
    """Compute features as stage 2 does, and return where they are in a compressed ark."""
    extractor, features, locations = FbankExtractor(), Features(), []
    with ArkWriter(folder / "fbank.ark", folder / "fbank.scp", features.compression) as writer:
        for number, samples in enumerate(signals):
            log_mel, log_energy = extractor(samples)
            speech = energy_vad(log_energy, **features.vad.model_dump())
            normalised = mean_variance_normalised(log_mel[speech > 0], features.variance_floor)
            locations.append(writer.write(f"{number:06d}", normalised))
    return locations


def recipe_embeddings(network: Network, locations: list[str]) -> Floats:
    """Embed features as stage 5 does."""
    network = folded(network)
    with torch.inference_mode():
        return np.stack([network.embed(torch.from_numpy(read_matrix(at))[None])[0].numpy() for at in locations])


def check_cosines(path: Path, signals: list[Floats], expected: Floats) -> None:
    """Check the cosines of the graph's embeddings with the expected ones."""
    run = session(path).run
    got = np.stack([run(["embedding"], {"samples": samples})[0] for samples in signals])
    assert np.abs(np.linalg.norm(got, axis=1) - 1).max() < 1e-5
    cosines = (got * expected).sum(axis=1)
    assert cosines.min() >= 0.9999
    # The embeddings of a network that was not trained differ little, so this is compared with how much they do.
    between = np.median((expected @ expected.T)[~np.eye(len(expected), dtype=bool)])
    assert 1 - cosines.min() < 0.01 * (1 - between)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [160, 400, 401, 1999, 16000, 40003, 333333])
def test_the_graph_equals_torch(exported: tuple[Network, Path], samples: int, kind: str) -> None:
    network, path = exported
    wave = signal(samples, kind, samples)
    embedding, speech, log_energy, log_mel = session(path).run(None, {"samples": wave})
    with torch.inference_mode():
        output = FrontEnd(Features(compression="none"))(torch.from_numpy(wave))
    assert np.array_equal(speech, output.speech.numpy())
    assert np.abs(log_energy - output.log_energy.numpy()).max() < 1e-5
    power, expected = np.exp(log_mel.astype(np.float64)), np.exp(output.log_mel.numpy().astype(np.float64))
    assert np.all(np.abs(power - expected) <= 1e-5 * expected.max(axis=1, keepdims=True))
    assert embedding.shape == (32,)
    assert all(array.dtype == np.float32 for array in (embedding, speech, log_energy, log_mel))
    if not speech.any():
        assert not embedding.any()
        return
    # From the graph's own frames, so that only the network and the rounding of the ark are compared.
    with torch.inference_mode():
        front_end = FrontEnd(Features())
        features = front_end._normalised(torch.from_numpy(log_mel), torch.from_numpy(speech))
        own = folded(network).embed(features[None])[0].numpy()
    assert float(own @ embedding) > 0.99999


def test_a_minute_through_the_graph(exported: tuple[Network, Path], tmp_path: Path) -> None:
    network, path = exported
    signals = [signal(960000 + 77, kind, 5) for kind in ("speech", "silent ends")]
    check_cosines(path, signals, recipe_embeddings(network, recipe_features(signals, tmp_path)))


def test_equals_the_recipe_on_synthetic_speech(exported: tuple[Network, Path], tmp_path: Path) -> None:
    network, path = exported
    generator = np.random.default_rng(3)
    signals = [
        signal(int(generator.integers(16000, 200000)), kind, int(generator.integers(1000)))
        for kind in KINDS
        for _ in range(4)
    ]
    check_cosines(path, signals, recipe_embeddings(network, recipe_features(signals, tmp_path)))


def real_signals(number: int) -> list[Floats]:
    """Return pieces of 1 to 60 s of joined real files, a third of them with silences inserted, a tenth clipped."""
    generator = np.random.default_rng(11)
    pools = [sorted(folder.glob("*/audio/*")) for folder in FOLDERS]
    signals = []
    for index, seconds in enumerate(np.geomspace(1.0, 60.0, number)):
        size, pool, parts = int(16000 * seconds) + index, pools[index % 2], []
        while sum(map(len, parts)) < size:
            parts.append(read_audio(str(pool[generator.integers(len(pool))])))
            if index % 3 == 0:
                silence = generator.normal(size=int(generator.integers(8000, 48000)))
                parts.append((silence * (1e-4 if index % 2 else 0.0)).astype(np.float32))
        joined = np.concatenate(parts)
        begin = 0 if index % 3 == 0 else int(generator.integers(len(joined) - size + 1))  # with speech in it
        cut = joined[begin : begin + size]
        signals.append(np.clip(8 * cut, -1, 1) if index % 10 == 7 else np.ascontiguousarray(cut))
    return signals


@pytest.mark.skipif(not all(map(Path.is_dir, FOLDERS)), reason=f"no real speech in {CORPORA}")
def test_equals_the_recipe_on_real_speech(tmp_path: Path) -> None:
    signals = real_signals(100)
    features = recipe_features(signals, tmp_path)
    for name in NETWORKS:
        network = trained(name, "channel")
        write_onnx(network, Features(), tmp_path / "model.onnx")
        check_cosines(tmp_path / "model.onnx", signals, recipe_embeddings(network, features))


@pytest.mark.parametrize("samples", [0, 1, 79, 80, 159, 160, 1000, 50000])
def test_without_speech_the_embedding_is_zero(exported: tuple[Network, Path], samples: int) -> None:
    outputs = session(exported[1]).run(None, {"samples": np.zeros(samples, dtype=np.float32)})
    assert not outputs[0].any()
    assert outputs[1].shape == ((samples + 80) // 160,)
    assert not outputs[1].any()
    assert all(np.isfinite(array).all() for array in outputs)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (1, 2), (5, 17), (2, 333), (1, 6000), (3, 1000)])
def test_the_network_alone_equals_torch(name: str, norm: str, batch: int, frames: int, tmp_path: Path) -> None:
    network = trained(name, norm)
    write_network_onnx(network, tmp_path / "network.onnx")
    features = torch.randn(batch, frames, 64)
    with torch.inference_mode():
        expected = network.embed(features).numpy()
    (got,) = session(tmp_path / "network.onnx").run(None, {"features": features.numpy()})
    assert np.abs(got - expected).max() < 2e-6


def test_graphs_use_standard_operators_and_tell_their_rate(exported: tuple[Network, Path]) -> None:
    model = onnx.load(exported[1])
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in model.graph.node} == {""}
    assert {entry.key: entry.value for entry in model.metadata_props} == {"sampling_rate": "16000"}
    assert [value.name for value in model.graph.input] == ["samples"]
    assert [value.name for value in model.graph.output] == ["embedding", "speech", "log_energy", "log_mel"]


def test_other_features_and_rates(tmp_path: Path) -> None:
    features = Features(sampling_rate=8000, num_bins=30, high_freq=3700.0)
    network = trained("rescnn", "sequence", feature_dim=30)
    write_onnx(network, features, tmp_path / "model.onnx")
    wave = signal(20001, rate=8000)
    embedding, *_ = session(tmp_path / "model.onnx").run(None, {"samples": wave})
    with torch.inference_mode():
        own = network.embed(FrontEnd(features)(torch.from_numpy(wave)).features[None])[0].numpy()
    assert float(own @ embedding) > 0.9999


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    script = """
from pathlib import Path
from deepspeaker.config import Features
from deepspeaker.export import quantise, write_network_onnx, write_onnx
from tests.inference.signals import NETWORKS, trained
import sys
for name in NETWORKS:
    folder, network = Path(sys.argv[1]) / name, trained(name, "channel")
    write_onnx(network, Features(), folder / "model.onnx")
    write_network_onnx(network, folder / "network.onnx")
    quantise(folder / "model.onnx", folder / "model.int8.onnx")
"""
    root = str(Path(__file__).resolve().parents[2])
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / seed)], env=environment, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert "onnx" not in done.stderr.lower(), done.stderr
    for name in NETWORKS:
        files = sorted(path.name for path in (tmp_path / "1" / name).iterdir())
        assert files == ["model.int8.onnx", "model.onnx", "network.onnx"]  # and no temporary file
        for file in files:
            one, other = (tmp_path / seed / name / file for seed in ("1", "2"))
            assert one.read_bytes() == other.read_bytes(), (name, file)


def test_exporting_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network = trained("rescnn", "channel").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    write_onnx(network, Features(), tmp_path / "model.onnx")
    write_network_onnx(network, tmp_path / "network.onnx")
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_quantised_graphs_have_nearly_the_same_embeddings(exported: tuple[Network, Path], tmp_path: Path) -> None:
    quantise(exported[1], tmp_path / "int8.onnx")
    quantised, plain = session(tmp_path / "int8.onnx"), session(exported[1])
    for seed in range(4):
        samples = {"samples": signal(32000 + seed, seed=seed)}
        got, expected = quantised.run(None, samples), plain.run(None, samples)
        assert float(got[0] @ expected[0]) > 0.98
        assert all(np.array_equal(one, other) for one, other in zip(got[1:], expected[1:], strict=True))


@pytest.mark.parametrize("name", ["rescnn", "gru"])
def test_weights_in_16_bits_have_nearly_the_same_embeddings(name: str, tmp_path: Path) -> None:
    path, half = tmp_path / "model.onnx", tmp_path / "half.onnx"
    write_onnx(trained(name, "channel"), Features(), path)
    shutil.copy(path, half)
    halve(half)
    network = parameter_count(trained(name, "channel"))
    assert path.stat().st_size - half.stat().st_size > 1.7 * network  # small weights and new nodes take some bytes
    for seed in range(4):
        samples = {"samples": signal(32000 + seed, seed=seed)}
        got, expected = session(half).run(None, samples), session(path).run(None, samples)
        assert float(got[0] @ expected[0]) > 1 - 1e-5
        assert all(np.array_equal(one, other) for one, other in zip(got[1:], expected[1:], strict=True))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="onnx is missing"):
        write_network_onnx(trained("gru", "channel"), tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


def test_graphs_run_without_torch(exported: tuple[Network, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", signal(20000))
    script = f"""
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession({str(exported[1])!r}, providers=["CPUExecutionProvider"])
session.run(None, {{"samples": np.load("samples.npy")}})
assert not {{"torch", "onnx", "lhotse", "deepspeaker"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
