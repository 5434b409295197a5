"""The shipped model, trained once a worker."""

from __future__ import annotations

import pytest

from models.prediction import Predictor
from models.training import Model, default_labels, train


@pytest.fixture(scope="session")
def model() -> Model:
    return train(default_labels())


@pytest.fixture(scope="session")
def predictor(model: Model) -> Predictor:
    return Predictor(model)
