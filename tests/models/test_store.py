"""Model files: what goes in comes out, and nothing else is let in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.preprocessing import FunctionTransformer

from models import store
from models.errors import ModelError
from models.prediction import Predictor
from models.training import Model


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    return store.save_model(model, tmp_path)


def test_round_trip(model: Model, folder: Path, predictor: Predictor) -> None:
    loaded = store.load_model(folder)
    texts = ["Where is my order?", "太差了", "Love it"]
    assert loaded.version == model.version
    assert np.array_equal(loaded.weights, model.weights)
    assert Predictor(loaded).predict(texts).equals(predictor.predict(texts))


def test_saving_twice_is_one_folder(model: Model, folder: Path) -> None:
    assert store.save_model(model, folder.parent) == folder
    assert [path.name for path in folder.parent.iterdir()] == [model.version]


def test_no_pickle_inside(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"model.skops", "metadata.json"}
    assert skops.io.get_untrusted_types(file=folder / "model.skops") == []


def test_untrusted_types_are_refused(folder: Path) -> None:
    skops.io.dump(FunctionTransformer(np.linalg.norm), folder / "model.skops")
    with pytest.raises(ModelError, match="types that a model file never has"):
        store.load_model(folder)


def test_other_content_is_refused(folder: Path) -> None:
    skops.io.dump({"weights": np.ones(3)}, folder / "model.skops")
    with pytest.raises(ModelError, match="does not hold a Hearback model"):
        store.load_model(folder)


def test_tampered_weights_are_refused(model: Model, folder: Path) -> None:
    parts = {part: getattr(model, part) for part in store._PARTS}
    parts["weights"] = model.weights * 2
    skops.io.dump(parts, folder / "model.skops")
    with pytest.raises(ModelError, match="not what its metadata says"):
        store.load_model(folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x80\x04pickle"])
def test_damaged_file_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.skops").write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        store.load_model(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", "0.1", "format"),
        ("features", "0", "version of the features"),
        ("cues_sha256", "0", "list of cues"),
        ("sklearn", "0.20.1", "scikit-learn"),
    ],
)
def test_model_of_another_version_is_refused(
    folder: Path, key: str, value: str, words: str
) -> None:
    path = folder / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ModelError, match=words):
        store.load_model(folder)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xff"])
def test_damaged_metadata_is_refused(folder: Path, content: bytes) -> None:
    (folder / "metadata.json").write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        store.load_model(folder)


def test_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model at"):
        store.load_model(tmp_path / "none")
    with pytest.raises(ModelError, match="no model at"):
        store.write_pointer(tmp_path, "none")


def test_pointer_is_not_moved_to_a_broken_model(model: Model, folder: Path) -> None:
    store.write_pointer(folder.parent, model.version)
    broken = folder.parent / "broken"
    shutil.copytree(folder, broken)
    (broken / "model.skops").write_bytes(b"")
    with pytest.raises(ModelError):
        store.write_pointer(folder.parent, "broken")
    assert store.read_pointer(folder.parent) == model.version


def test_own_model_that_does_not_fit_is_not_replaced(model: Model, folder: Path) -> None:
    store.write_pointer(folder.parent, model.version)
    path = folder / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"features": "0"}))
    with pytest.raises(ModelError, match="version of the features"):
        store.load_current_model(folder.parent)


def test_shipped_model_that_does_not_fit_is_trained_anew(model: Model, tmp_path: Path) -> None:
    old = store.save_model(model, tmp_path)
    metadata = json.loads((old / "metadata.json").read_text())
    old.rename(tmp_path / "0.9-old")
    changed = metadata | {"is_default": True, "features": "0"}
    (tmp_path / "0.9-old" / "metadata.json").write_text(json.dumps(changed))
    (tmp_path / "current").write_text("0.9-old")
    assert store.load_current_model(tmp_path).version == model.version
    assert store.read_pointer(tmp_path) == model.version
    assert set(store.list_versions(tmp_path)) == {"0.9-old", model.version}
