"""Fixtures of the network's weights: the float32 originals, which no package has."""

import os
from pathlib import Path

import pytest

from medley.settings import Settings
from medley_workers.compressing.sources import FLOAT_WEIGHTS

CACHE = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep where `make float-weights` put the file, before any test may change the environment."""
    config.stash[CACHE] = Settings().cache


@pytest.fixture(scope="session")
def float_weights(pytestconfig: pytest.Config) -> Path:
    """The Keras file of the float32 originals, read-only; skipped without it, a failure in CI."""
    path = pytestconfig.stash[CACHE] / FLOAT_WEIGHTS.name
    if not path.is_file():
        absent = f"The float32 weights are not in {path.parent}: run `make float-weights`."
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    return path
