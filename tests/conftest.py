"""What all tests share: a clean environment, small pictures, a real Redis, and waiting for a condition."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from PIL import Image

from medley.cluster import Cluster
from medley.settings import Settings
from medley_producer.local import private_redis

pytest_plugins = ["fixtures_s3", "fixtures_vgg"]

# Tests, and the workers that they start, share two cores; OpenMP's barriers crawl where threads wait for a core.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees what the person who runs it has set for medley, Celery or S3."""
    for name in list(os.environ):
        if name.startswith(("MEDLEY_", "CELERY_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MEDLEY_BUNDLE", "1")  # tests count messages by jobs, but for those of bundles
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], within_s: float, what: str) -> T:
    """Ask until the answer is true, and return it; fail with ``what`` when the time is over."""
    deadline = time.monotonic() + within_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)
    return answer


@pytest.fixture
def redis_url() -> Iterator[str]:
    """An empty Redis for one test."""
    with private_redis() as url:
        yield url


@pytest.fixture
def cluster(tmp_path: Path, redis_url: str) -> Cluster:
    """A Redis and a folder, at the default settings; a module whose tests need other ones has its own."""
    return Cluster.open(Settings(redis_url=redis_url, storage_url=(tmp_path / "storage").as_uri()))


def draw_picture(path: Path, seed: int, size: tuple[int, int] = (96, 72)) -> Path:
    """A picture with structure, gradients and shapes, that no other seed gives."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    planes = [np.sin(x * a + b) * np.cos(y * c + b) for a, b, c in rng.uniform(0.05, 0.4, (3, 3))]
    pixels = ((np.stack(planes, axis=-1) + 1) * 100).astype(np.uint8)
    for left, top, red, green, blue in rng.integers(0, 200, (6, 5)):
        pixels[top % height :, left % width :][:14, :20] = (red, green, blue)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder with four contents and three styles."""
    for n in range(4):
        draw_picture(tmp_path / "data" / "contents" / f"photo{n}.jpg", seed=n)
    for n in range(3):
        draw_picture(tmp_path / "data" / "styles" / f"paint{n}.png", seed=100 + n)
    return tmp_path / "data"
