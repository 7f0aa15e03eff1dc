"""A studio for tests that paint whole jobs without a queue: storage in a folder, and the real network on the CPU."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from medley import keys
from medley.jobs import (
    DEFAULT_WEIGHTS,
    ENGINE,
    Batch,
    Picture,
    Sampling,
    Style,
    StyleTransfer,
    StyleTransferOptions,
    Weights,
    job_id,
)
from medley.settings import Settings
from medley.storage import open_storage
from medley_workers.codebook import load_weights
from medley_workers.painting import Studio
from medley_workers.vgg import Network
from medley_workers.weights import find_weights


def open_studio(folder: Path, weights: Weights = DEFAULT_WEIGHTS) -> Studio:
    settings = Settings()
    return Studio(settings, open_storage(folder.as_uri(), settings), _network(weights), "painter")


@cache
def _network(weights: Weights) -> Network:
    return Network(load_weights(find_weights(weights)), "cpu")


def submitted(studio: Studio, path: Path) -> Picture:
    """A picture that is among the inputs in storage."""
    data = path.read_bytes()
    picture = Picture(sha256=hashlib.sha256(data).hexdigest(), ext=path.suffix[1:], name=path.name)
    studio.storage.put(keys.input_picture(picture.input), data)
    return picture


def make_job(
    studio: Studio, content: Path, styles: Mapping[Path, float], options: StyleTransferOptions
) -> StyleTransfer:
    """A job whose inputs are in storage; the styles with their weights."""
    picture = submitted(studio, content)
    blend = tuple(Style(**submitted(studio, path).model_dump(), weight=weight) for path, weight in styles.items())
    return StyleTransfer(id=job_id(picture, blend, options, DEFAULT_WEIGHTS), content=picture, styles=blend)


def make_batch(options: StyleTransferOptions) -> Batch:
    """A batch of these options, which is not in storage."""
    return Batch(
        name="b", sampling=Sampling(content=("c",), styles=("s",)), options=options, weights=DEFAULT_WEIGHTS,
        engine=ENGINE, manifest="0" * 64, pairs=1, jobs=1, created_at=datetime.now(UTC),
    )  # fmt: skip
