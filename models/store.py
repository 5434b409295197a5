"""Model files: skops and JSON only, never pickle.

A model is a folder `<version>/` with `model.skops` (arrays, lists, numbers) and `metadata.json`.
The file `current` beside the folders names the version in use.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import sklearn
import skops.io

from models.errors import ModelError
from models.training import (
    DEFAULT_SEED,
    Model,
    default_labels,
    expected_ingredients,
    labels_digest,
    train,
)

MODEL_FILE, METADATA_FILE, POINTER = "model.skops", "metadata.json", "current"
_ADVICE = "train it again with `hearback train`"
_PARTS = (
    "buckets",
    "idf",
    "weights",
    "intercepts",
    "thresholds",
    "rule_scores",
    "keywords",
    "keyword_idf",
)


def save_model(model: Model, folder: Path) -> Path:
    """Write `folder/<version>/`, whole or not at all; returns it. An equal model is left alone."""
    target = folder / model.version
    if (target / METADATA_FILE).exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        skops.io.dump({part: getattr(model, part) for part in _PARTS}, aside / MODEL_FILE)
        text = json.dumps(model.metadata, ensure_ascii=False, indent=1)
        (aside / METADATA_FILE).write_text(text, encoding="utf-8")
        aside.chmod(0o755)
        with contextlib.suppress(FileExistsError):
            os.rename(aside, target)
    except OSError as error:
        if not (target / METADATA_FILE).exists():
            raise ModelError(f"cannot write model to {target}: {error.strerror}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def load_model(folder: Path) -> Model:
    """Read a model's folder.

    ModelError when files are missing or damaged, hold types that skops does not trust, or were made
    by another version of Hearback or scikit-learn.
    """
    metadata = _read_metadata(folder)
    wrong = _find_mismatch(metadata)
    if wrong:
        raise ModelError(f"model {folder} was made with another {wrong}; {_ADVICE}")
    parts = _read_parts(folder / MODEL_FILE)
    model = Model(**parts, metadata=metadata)
    if model.fingerprint() != metadata.get("model_version"):
        raise ModelError(f"{folder / MODEL_FILE} is not what its metadata says; {_ADVICE}")
    return model


def read_pointer(folder: Path) -> str | None:
    """The version in use, or None when none was chosen yet."""
    try:
        return (folder / POINTER).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def write_pointer(folder: Path, version: str) -> None:
    """Put a version into use; ModelError when it is not there or cannot be loaded."""
    load_model(folder / version)
    aside = folder / f".{POINTER}.new"
    aside.write_text(version + "\n", encoding="utf-8")
    os.replace(aside, folder / POINTER)


def load_current_model(folder: Path) -> Model:
    """The model in use, trained from the labels that come with Hearback when there is none yet.

    A shipped model that was made with an older version or older labels is trained anew; a chosen
    model of the user's own labels never is: then ModelError says what does not fit.
    """
    version = read_pointer(folder)
    if version is None:
        return _train_default(folder)
    metadata = _read_metadata(folder / version)
    if not metadata.get("is_default"):
        return load_model(folder / version)
    has_same_labels = metadata.get("labels_sha256") == labels_digest(default_labels())
    if has_same_labels and _find_mismatch(metadata) is None:
        return load_model(folder / version)
    return _train_default(folder)


def _train_default(folder: Path) -> Model:
    model = train(default_labels(), seed=DEFAULT_SEED)
    model.metadata["is_default"] = True
    save_model(model, folder)
    write_pointer(folder, model.version)
    return model


def _read_metadata(folder: Path) -> dict[str, Any]:
    try:
        metadata = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"no model at {folder}; {_ADVICE}") from None
    except ValueError as error:
        raise ModelError(f"{folder / METADATA_FILE} is damaged; {_ADVICE}") from error
    if not isinstance(metadata, dict):
        raise ModelError(f"{folder / METADATA_FILE} is damaged; {_ADVICE}")
    return metadata


def _find_mismatch(metadata: dict[str, Any]) -> str | None:
    for name, value in expected_ingredients().items():
        if metadata.get(name) != value:
            return {"features": "version of the features", "cues_sha256": "list of cues"}.get(
                name, name
            )
    trained_with = str(metadata.get("sklearn", "")).split(".")[:2]
    if trained_with != sklearn.__version__.split(".")[:2]:
        return f"scikit-learn ({metadata.get('sklearn')}, here {sklearn.__version__})"
    return None


def _read_parts(path: Path) -> dict[str, Any]:
    try:
        unknown = skops.io.get_untrusted_types(file=path)
        if unknown:
            raise ModelError(
                f"{path} holds types that a model file never has ({', '.join(sorted(unknown))}); "
                f"do not use it: {_ADVICE}"
            )
        # The schema is JSON inside a zip; anything else in it is refused above.
        parts = skops.io.load(path)
    except FileNotFoundError:
        raise ModelError(f"no model at {path}; {_ADVICE}") from None
    except (BadZipFile, KeyError, ValueError, TypeError, EOFError, OSError) as error:
        raise ModelError(f"{path} is damaged ({type(error).__name__}); {_ADVICE}") from error
    if not isinstance(parts, dict) or set(parts) != set(_PARTS):
        raise ModelError(f"{path} does not hold a Hearback model; {_ADVICE}")
    return parts


def list_versions(folder: Path) -> list[str]:
    """Versions stored in a folder, the newest file first."""
    found = [path.parent for path in folder.glob(f"*/{METADATA_FILE}")]
    return [path.name for path in sorted(found, key=lambda path: -path.stat().st_mtime)]
