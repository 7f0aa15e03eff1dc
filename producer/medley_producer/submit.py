"""Pairs, or a walk, become a batch: inputs uploaded once, a manifest, batch.json, and messages. Safe to do twice."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from medley import keys
from medley.batches.control import require_running
from medley.batches.enqueuing import enqueue_missing
from medley.batches.notifying import ask_to_be_told
from medley.batches.removing import require_no_sweep
from medley.batches.stored import read_batch, write_manifest
from medley.cluster import Cluster
from medley.errors import BatchConflict, DatasetError, ImageError, ObjectMissing, UsageError
from medley.files import digest_of
from medley.records.base import BatchName, Digest, InputName
from medley.records.batches import AnyBatch, Batch, QueueKind, Sampling
from medley.records.jobs import ENGINE, StyleTransfer
from medley.records.networks import WalkOptions
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture
from medley.records.walks import WalkBatch, stretches
from medley.storage import Storage
from medley.telling import Told, quiet, shown
from medley_producer.choosing import Choice, Pools, check_options, choose, refuse_skipped
from medley_producer.datasets.buckets import Buckets
from medley_producer.weights import DEFAULT, Vgg, weights_here

UPLOADS_AT_ONCE = 8
"""Uploads wait for the network more than for anything here."""

UPLOADS_AHEAD = 512
"""Uploads that wait for a thread, each in 2 KB of memory: so many that the threads seldom wait for the last of them."""

Chosen = Callable[[Choice, int], None]
"""Called with what was chosen and how many distinct jobs it comes to; what it raises ends the submission."""


@dataclass(frozen=True)
class Request:
    """What a person asks for under a name.

    ``init`` is where the picture lies that ``options.init`` names, if it does; with ``strict``, nothing is submitted
    where anything has to be skipped; ``vgg`` is which weights paint; ``notify`` is the URL that is told of the end.
    """

    name: BatchName
    sampling: Sampling
    options: StyleTransferOptions
    init: str | None = None
    strict: bool = False
    vgg: Vgg = DEFAULT
    notify: str | None = None


@dataclass(frozen=True)
class Submitted:
    """What came of it: the batch, and how many messages went out."""

    batch: Batch
    enqueued: int


def submit(
    cluster: Cluster,
    request: Request,
    queue: QueueKind,
    told: Told,
    pools: Pools | None = None,
    *,
    chosen: Chosen = quiet,
) -> Submitted:
    """Make the batch unless it exists, and enqueue what it lacks.

    Args:
        cluster: where to
        request: what is asked for
        queue: which queue its messages go to
        told: hears of progress
        pools: the request's pools, where they are scanned already
        chosen: called before anything is uploaded, unless the batch exists

    Raises:
        BatchConflict: the name belongs to a batch that was asked for differently.
        BatchStopped: it belongs to one that is paused or cancelled.
        UsageError, DatasetError: the request cannot be met; nothing was enqueued.
        ServiceUnreachable, ServiceRefused: submitting again goes on from there.
    """
    check_options(request.options, request.vgg.weights)
    batch = read_batch(cluster.storage, request.name) or _create(cluster, request, queue, told, pools, chosen)
    if not isinstance(batch, Batch):
        raise BatchConflict(f"A batch {batch.name!r} exists, and it is a walk. Choose another name.")
    if differences := batch.differences(request.sampling, request.options, request.vgg.weights):
        raise BatchConflict(
            f"A batch {batch.name!r} exists with other arguments ({'; '.join(differences)}). "
            "Choose another name, or repeat its arguments to go on with it."
        )
    if request.strict:
        refuse_skipped(batch.skipped)
    require_running(cluster.storage, batch.name)
    if request.notify and not cluster.storage.exists(keys.finished(batch.name)):
        ask_to_be_told(cluster, batch.name, request.notify)  # before anything is painted, as it may be painted already
    told("enqueuing", 0, batch.jobs)
    enqueued = enqueue_missing(cluster, batch, queue, told=told)
    return Submitted(batch, enqueued)


def _create(
    cluster: Cluster, request: Request, queue: QueueKind, told: Told, pools: Pools | None, chosen: Chosen
) -> AnyBatch:
    """Write weights, inputs, manifest and batch.json, in this order; returns the batch that stands under the name."""
    storage = cluster.storage
    pools = pools or Pools.scan(request.sampling, cluster.settings, told)
    choice = Choice(cluster.settings, request.strict)
    with tempfile.TemporaryDirectory(prefix="medley-") as folder:
        path = Path(folder, "manifest.jsonl")
        jobs = choose(pools, request.sampling, request.options, choice, request.vgg.weights)
        manifest, pairs, distinct = write_manifest(path, _counted(jobs, told, request.sampling.pairs or 0))
        chosen(choice, distinct)
        _begin(cluster, request.name)
        _upload_weights(cluster, request.vgg, told)
        _upload(cluster, choice.inputs | _first_picture(request), told)
        storage.put_file(keys.manifest(request.name, manifest), path)
    batch = Batch(
        name=request.name,
        sampling=request.sampling,
        options=request.options,
        weights=request.vgg.weights,
        engine=ENGINE,
        queue=queue,
        manifest=manifest,
        pairs=pairs,
        jobs=distinct,
        skipped=tuple(choice.skipped),
        created_at=datetime.now(UTC),
    )
    return _stand(cluster, batch)


def submit_walk(cluster: Cluster, name: BatchName, options: WalkOptions, queue: QueueKind, told: Told) -> WalkBatch:
    """Make the batch of a walk unless it exists, and enqueue what it lacks.

    Raises:
        BatchConflict: the name belongs to another batch.
        BatchStopped: it belongs to one that is paused or cancelled.
        ServiceUnreachable, ServiceRefused: submitting again goes on from there.
    """
    batch = read_batch(cluster.storage, name) or _create_walk(cluster, name, options, queue)
    if not isinstance(batch, WalkBatch) or batch.options != options or batch.engine != ENGINE:
        raise BatchConflict(
            f"A batch {name!r} exists, and it is not this walk. Choose another name, or repeat its arguments."
        )
    require_running(cluster.storage, name)
    enqueue_missing(cluster, batch, queue, told=told)
    return batch


def _create_walk(cluster: Cluster, name: BatchName, options: WalkOptions, queue: QueueKind) -> AnyBatch:
    with tempfile.TemporaryDirectory(prefix="medley-") as folder:
        path = Path(folder, "manifest.jsonl")
        manifest, lines, jobs = write_manifest(path, stretches(options))
        _begin(cluster, name)
        cluster.storage.put_file(keys.manifest(name, manifest), path)
    batch = WalkBatch(
        name=name, options=options, engine=ENGINE, queue=queue, manifest=manifest, pairs=lines, jobs=jobs,
        created_at=datetime.now(UTC),
    )  # fmt: skip
    return _stand(cluster, batch)


def _begin(cluster: Cluster, name: BatchName) -> None:
    """Open a batch before anything of it is uploaded, so that no sweep takes that for unused."""
    cluster.storage.put(keys.open_batch(name), b"")
    require_no_sweep(cluster)


def _stand(cluster: Cluster, batch: AnyBatch) -> AnyBatch:
    """Write batch.json, behind all that it names; returns the batch that stands under the name, as another may have
    been sooner.
    """
    storage = cluster.storage
    with cluster.ledger.enqueuing(batch.name) as go_on:
        if sooner := read_batch(storage, batch.name):
            return sooner
        # What another batch of this name left behind must not be taken for this one's.
        cluster.ledger.forget(batch.name)
        for key in storage.list(keys.batch_folder(batch.name)):
            if key != keys.manifest(batch.name, batch.manifest):
                storage.delete(key)
                go_on()
        if storage.put_new(keys.batch(batch.name), batch.json_bytes()):
            return batch
    return read_batch(storage, batch.name) or batch


def _counted(jobs: Iterable[StyleTransfer], told: Told, total: int) -> Iterator[StyleTransfer]:
    for count, job in enumerate(jobs, start=1):
        told("choosing", count, total)
        yield job


def _first_picture(request: Request) -> dict[InputName, str]:
    init = request.options.init
    return {init.input: request.init} if isinstance(init, Picture) and request.init else {}


def _upload(cluster: Cluster, inputs: Mapping[InputName, str], told: Told) -> None:
    """Upload what storage does not have yet.

    Raises:
        DatasetError: a picture changed since its digest was taken.
    """
    storage, buckets = cluster.storage, Buckets(cluster.settings)

    def upload(item: tuple[InputName, str]) -> None:
        name, where = item
        key = keys.input_picture(name)
        if storage.exists(key):
            return
        try:
            with buckets.here(where) as path:
                if not path.exists():
                    raise DatasetError(f"{shown(where)} is gone since it was looked at. Submit again without it.")
                unchanged = _put_as(storage, key, path, name.partition(".")[0])
        except (ImageError, ObjectMissing) as error:
            raise DatasetError(f"{shown(where)} cannot be fetched again. {error}") from error
        if not unchanged:
            raise DatasetError(f"{shown(where)} changed while it was submitted. Submit it again.")

    items, done = iter(inputs.items()), 0
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as threads:
        while some := list(islice(items, UPLOADS_AHEAD)):
            for _ in threads.map(upload, some):
                done += 1
                told("uploading", done, len(inputs))


def _upload_weights(cluster: Cluster, vgg: Vgg, told: Told) -> None:
    """Upload the weights, unless storage has them or every worker does.

    Raises:
        UsageError: the file changed, or is gone, since its digest was taken.
    """
    key = keys.model(vgg.weights.sha256)
    if vgg.where is None or cluster.storage.exists(key):
        return
    told("uploading the weights", 0, 0)
    with weights_here(vgg.where, cluster.settings) as path:
        if not path.exists() or not _put_as(cluster.storage, key, path, vgg.weights.sha256):
            raise UsageError(f"{shown(vgg.where)} (MEDLEY_VGG) changed while it was submitted. Submit again.")


def _put_as(storage: Storage, key: str, path: Path, sha256: Digest) -> bool:
    """Store a file; false, and nothing is stored, if its bytes are not those of the digest any more."""
    storage.put_file(key, path)
    # Looked at afterwards: what was read before may have changed while it was sent.
    if digest_of(path) == sha256:
        return True
    storage.delete(key)
    return False
