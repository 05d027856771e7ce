"""The configuration: what it accepts, what it refuses, and the errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from deepspeaker.config import Config, GRUModel, ResCNNModel, dump_config, load_config
from deepspeaker.errors import InputError
from docs import make_reference

CONF = Path(__file__).resolve().parents[1] / "conf"


def refused(folder: Path, content: str, *overrides: str) -> str:
    path = folder / "x.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as raised:
        load_config(path, overrides)
    assert "\n" not in str(raised.value)
    return str(raised.value).replace(str(path), "x.yaml")


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.name)
def test_the_files_in_conf_load(path: Path) -> None:
    config = load_config(path)
    assert config.features.num_bins > 0


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    for content in ("", "# nothing\n", "{}\n"):
        (tmp_path / "x.yaml").write_text(content)
        assert load_config(tmp_path / "x.yaml") == Config()


def test_the_defaults_are_the_documented_features() -> None:
    features = Config().features
    assert (features.num_bins, features.low_freq, features.high_freq) == (64, 20.0, 7600.0)
    assert (features.frame_length, features.frame_shift, features.sampling_rate) == (0.025, 0.010, 16000)
    assert tuple(features.vad.model_dump().values()) == (5.5, 0.5, 2, 0.12)


def test_every_key_has_a_description_of_one_line() -> None:
    def check(section: type[BaseModel]) -> None:
        meaning = make_reference.meanings(section)
        for name, field in section.model_fields.items():
            assert meaning.get(name) and "\n" not in meaning[name], f"{section.__name__}.{name}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                check(field.annotation)

    for section in (Config, ResCNNModel, GRUModel):
        check(section)


def test_dump_and_load_give_the_same(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("model: {channels: [8, 16]}\ntriplet: {margin: 0.2, optimizer: {name: sgd}}\n")
    config = load_config(tmp_path / "x.yaml", ["softmax.epochs=3", "features.vad.frames_context=5"])
    (tmp_path / "complete.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "complete.yaml") == config
    complete = yaml.safe_load(dump_config(config))
    assert complete == config.model_dump()
    assert complete["features"]["vad"]["frames_context"] == 5
    assert list(complete) == list(Config.model_fields)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("softmax.epochs=3", "softmax", "epochs", 3),
        ("triplet.margin=2.5e-1", "triplet", "margin", 0.25),
        ("model.channels=[1, 2]", "model", "channels", [1, 2]),
        ("model.batch_norm=channel", "model", "batch_norm", "channel"),
        ("features.compression='none'", "features", "compression", "none"),
        ("softmax.epochs= 4", "softmax", "epochs", 4),
    ],
)
def test_set_accepts_a_yaml_value(tmp_path: Path, override: str, section: str, key: str, value: object) -> None:
    (tmp_path / "x.yaml").write_text("model: {blocks: 2}\nsoftmax:\n")
    config = load_config(tmp_path / "x.yaml", [override]).model_dump()
    assert config[section][key] == value
    assert config["model"]["blocks"] == 2


def test_set_reaches_nested_sections_and_the_last_value_wins(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("softmax: {optimizer: {learning_rate: 0.5}}\n")
    overrides = ["softmax.optimizer.momentum=0.5", "softmax.epochs=1", "softmax.epochs=2"]
    config = load_config(tmp_path / "x.yaml", overrides)
    assert config.softmax.optimizer.learning_rate == 0.5
    assert config.softmax.optimizer.momentum == 0.5
    assert config.softmax.epochs == 2
    assert config.triplet == Config().triplet


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("modell: {}\n", "x.yaml: modell is unknown; did you mean model?"),
        ("model: {chanels: [1]}\n", "x.yaml: model.chanels is unknown; did you mean channels?"),
        (
            "softmax: {optimizer: {lerning_rate: 1}}\n",
            "x.yaml: softmax.optimizer.lerning_rate is unknown; did you mean learning_rate?",
        ),
        ("softmax: {optimiser: {}}\n", "x.yaml: softmax.optimiser is unknown; did you mean optimizer?"),
        ("triplet: {history: 9}\n", "x.yaml: triplet.history is unknown; known keys: epochs, "),
        ("features: {vad: {zzz: 1}}\n", "x.yaml: features.vad.zzz is unknown; known keys: energy_threshold, "),
        ("model: {blocks: many}\n", "x.yaml: model.blocks: "),
        ("model: {channels: [64, 0]}\n", "x.yaml: model.channels.1: "),
        ("model: {channels: [64, no]}\n", "x.yaml: model.channels.1: "),
        ("model: {channels: []}\n", "x.yaml: model.channels: "),
        ("softmax: {epochs: -1}\n", "x.yaml: softmax.epochs: "),
        ("triplet: {margin: .nan}\n", "x.yaml: triplet.margin: "),
        ("features: {compression: zip}\n", "x.yaml: features.compression: "),
        ("model: 3\n", "x.yaml: model: "),
        ("- model\n", "x.yaml: expected sections with keys"),
        ("just words\n", "x.yaml: expected sections with keys"),
        ("model: [\n", "x.yaml: not valid YAML"),
        ("a: b: c\n", "x.yaml: not valid YAML"),
        ("model: !!python/object/apply:os.getcwd []\n", "x.yaml: not valid YAML"),
        ("1: 2\n", "x.yaml: 1"),
    ],
)
def test_wrong_files_are_one_line_that_names_the_key(tmp_path: Path, content: str, message: str) -> None:
    assert refused(tmp_path, content).startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("softmax.epoch=3", "--set softmax.epoch=3: softmax.epoch is unknown; did you mean epochs?"),
        ("sofmax.epochs=3", "--set sofmax.epochs=3: sofmax is unknown; did you mean softmax?"),
        ("softmax.epochs=x", "--set softmax.epochs=x: softmax.epochs: "),
        ("softmax.epochs", "--set softmax.epochs: the form is section.key=value"),
        ("epochs=3", "--set epochs=3: the form is section.key=value"),
        ("", "--set : the form is section.key=value"),
        ("softmax.epochs.x=3", "--set softmax.epochs.x=3: epochs is a value, it has no keys"),
        ("model.channels=[1", "--set model.channels=[1: the value is not valid YAML"),
        ("softmax.epochs=", "--set softmax.epochs=: softmax.epochs: "),
        (".=1", "--set .=1:  is unknown"),
    ],
)
def test_wrong_overrides_are_one_line_that_names_the_key(tmp_path: Path, override: str, message: str) -> None:
    assert refused(tmp_path, "softmax: {epochs: 2}\n", override).startswith(message)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such configuration file"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"model: \xff\n")
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "x.yaml")
