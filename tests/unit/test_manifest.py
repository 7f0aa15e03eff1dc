"""A manifest is read again as it was written, or not at all."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medley import keys
from medley.batches.stored import LINE_BYTES, read_manifest, write_manifest
from medley.errors import UsageError
from medley.records.batches import Batch, Sampling
from medley.records.jobs import ENGINE, JobIds, StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture, Style
from medley.records.weights import DEFAULT_WEIGHTS
from medley.settings import Settings
from medley.storage import Storage, open_storage

OPTIONS = StyleTransferOptions()


def pair(number: int, styles: int = 1, name: str = "photo.jpg") -> StyleTransfer:
    content = Picture(sha256=f"{number:064x}", ext="jpg", name=name)
    painted = tuple(Style(sha256=f"{1_000 + n:064x}", ext="png", name="1.png", weight=0.5) for n in range(styles))
    return StyleTransfer(id=JobIds(OPTIONS, DEFAULT_WEIGHTS).of(content, painted), content=content, styles=painted)


def batch_of(digest: str, pairs: int, jobs: int) -> Batch:
    return Batch(
        name="night", sampling=Sampling(content=("a",), styles=("b",)), options=OPTIONS, weights=DEFAULT_WEIGHTS,
        engine=ENGINE, manifest=digest, pairs=pairs, jobs=jobs, created_at=datetime.now(UTC),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Storage:
    return open_storage((tmp_path / "storage").as_uri(), Settings())


def stored(storage: Storage, path: Path, jobs: Sequence[StyleTransfer]) -> Batch:
    digest, pairs, distinct = write_manifest(path, jobs)
    storage.put_file(keys.manifest("night", digest), path)
    return batch_of(digest, pairs, distinct)


def test_lines_are_read_in_order_and_each_job_is_counted_once(folder: Storage, tmp_path: Path) -> None:
    jobs = [pair(1), pair(2, styles=3), pair(1, name="a copy.jpg"), pair(3)]
    batch = stored(folder, tmp_path / "manifest", jobs)
    assert (batch.pairs, batch.jobs) == (4, 3)
    assert list(read_manifest(folder, batch)) == jobs


def test_of_a_manifest_that_was_changed_not_one_line_is_read(folder: Storage, tmp_path: Path) -> None:
    batch = stored(folder, tmp_path / "manifest", [pair(1), pair(2)])
    folder.put(keys.manifest("night", batch.manifest), pair(1).json_bytes() + b"\n" + pair(3).json_bytes() + b"\n")
    with pytest.raises(UsageError, match=r"batch 'night' was changed in storage.*another name"):
        next(read_manifest(folder, batch))


def test_a_line_that_nobody_could_read_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"1,000 styles takes .* bytes .*lower --styles-per-pair"):
        write_manifest(tmp_path / "manifest", [pair(1), pair(2, styles=1_000)])


def test_a_line_that_medley_never_wrote_is_not_held_in_memory(folder: Storage) -> None:
    data = pair(1).json_bytes() + b"\n" + b"x" * LINE_BYTES + b"\n"
    digest = hashlib.sha256(data).hexdigest()
    folder.put(keys.manifest("night", digest), data)
    lines = read_manifest(folder, batch_of(digest, 2, 2))
    assert next(lines) == pair(1)
    with pytest.raises(UsageError, match=r"a line of over 65,536 bytes"):
        next(lines)
