"""Removing a batch, and what no batch needs any more.

A sweep and a submission keep out of each other's way: a submission writes ``open/<batch>`` before it uploads anything,
and then looks whether somebody sweeps; a sweep says so before it looks for names in ``open/`` that have no batch yet.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby, islice

from medley import keys
from medley.batches.control import cancel, read_control
from medley.batches.ending import ending_claim
from medley.batches.job_table import JobTable
from medley.batches.stored import read_batch, read_manifest, read_result
from medley.cluster import Cluster
from medley.errors import BatchBusy, ObjectMissing, UsageError
from medley.records.base import BatchName, Digest, JobId
from medley.records.batches import AnyBatch, Batch
from medley.records.pictures import Picture
from medley.storage import Storage
from medley.telling import Told, quiet

AT_ONCE = 16
"""Reading and deleting wait for the network more than for anything here: 800 objects a second where one takes 20 ms."""

CHUNK = 500
"""Jobs, or objects, that are looked at together; a few seconds' work, so that a hold is renewed in time."""

SWEEPING = "sweeping"
"""What a sweep claims in the ledger."""

SWEEPING_S = 120.0
"""A sweep that died keeps submissions off this long; a living one renews its claim at each chunk."""

LOOK_EVERY_S = 0.5
"""How often it is asked whether painters have stopped."""

_ID = 32
"""Letters of a job's id."""

_JOB = re.compile(r"[0-9a-f]{32}")
_INPUT = re.compile(r"([0-9a-f]{64})\.[a-z0-9]{2,5}")
_MODEL = re.compile(r"([0-9a-f]{64})")
"""What medley writes; what else lies there is not its own, and stays."""


def remove_batch(cluster: Cluster, name: BatchName, *, force: bool = False, told: Told = quiet) -> int:
    """Stop a batch, wait for its painters, and delete all that is its own; returns how many objects that were.

    Its pictures stay until a :func:`sweep`, as other batches may share them. If it is cut short, done again it goes on.

    Raises:
        UsageError: there is no such batch; or it runs, or is being submitted, and ``force`` is not given.
        BatchBusy: another command enqueues it, or a painter does not stop.
    """
    storage = cluster.storage
    with cluster.ledger.enqueuing(name) as go_on:
        batch = _stopped(storage, name, force)
        if batch and not storage.exists(keys.finished(name)):
            cancel(cluster, batch)
        _await_painters(cluster, name, go_on, told)
        # The record first: without it nothing more is delivered of this batch.
        deleted = int(storage.exists(keys.batch(name)))
        storage.delete(keys.batch(name))
        own = storage.list(keys.batch_folder(name))
        while chunk := list(islice(own, CHUNK)):
            _delete(storage, chunk)
            deleted += len(chunk)
            told("removing", deleted, 0)
            go_on()
        storage.delete(keys.open_batch(name))
        cluster.ledger.forget(name)
        cluster.ledger.set_control(name, "cancelled")  # for a painter that has not reported yet
    return deleted


def _stopped(storage: Storage, name: BatchName, force: bool) -> AnyBatch | None:
    """The batch, or None if only parts of one are left; see :func:`remove_batch` for what is refused."""
    try:
        batch = read_batch(storage, name)
    except UsageError as error:
        if not force:
            raise UsageError(f"{error} `medley rm {name} --force` removes this batch all the same.") from error
        return None
    is_open = storage.exists(keys.open_batch(name))
    if batch is None and not is_open and next(storage.list(keys.batch_folder(name)), None) is None:
        raise UsageError(f"There is no batch {name!r} in {storage.root}; `medley status` lists those there are.")
    if force:
        return batch
    if batch is None and is_open:
        raise UsageError(
            f"Batch {name!r} is being submitted, or its submission or removal was cut short. "
            f"If nobody is about it, `medley rm {name} --force` removes what there is."
        )
    if batch and read_control(storage, name) == "running" and not storage.exists(keys.finished(name)):
        raise UsageError(f"Batch {name!r} is running. `medley rm {name} --force` stops it and removes it all the same.")
    return batch


def _await_painters(cluster: Cluster, name: BatchName, go_on: Callable[[], None], told: Told) -> None:
    """Wait until nobody paints for a batch any more.

    A painter that was killed is listed for as long as its lease lasts; one that lives finds the batch cancelled within
    seconds. Twice as long is time for both.
    """
    deadline = time.monotonic() + 2 * cluster.settings.lease_s
    while (painting := cluster.ledger.painting(name, within_s=cluster.settings.lease_s)) or cluster.ledger.is_claimed(
        ending_claim(name)
    ):
        if time.monotonic() > deadline:
            workers = ", ".join(sorted({progress.worker for progress in painting.values()}))
            raise BatchBusy(f"Batch {name!r} is cancelled, but still painted by {workers}. Stop that, and try again.")
        told("waiting for painters to stop", 0, 0)
        time.sleep(LOOK_EVERY_S)
        go_on()


@dataclass
class Swept:
    """What a sweep removed, or would: jobs that no batch names, objects that attempts at others left for nothing,
    inputs and files of weights that no batch names; and how many objects all of that is.
    """

    jobs: int = 0
    leftovers: int = 0
    inputs: int = 0
    models: int = 0
    objects: int = 0


def require_no_sweep(cluster: Cluster) -> None:
    """To be called by a submission that has written ``open/<batch>``, before it uploads anything.

    Raises:
        BatchBusy: a sweep is under way, which does not know what this submission needs.
    """
    if cluster.ledger.is_claimed(SWEEPING):
        raise BatchBusy("Storage is being swept (`medley rm --unused`). Submit again when that has ended.")


def sweep(cluster: Cluster, *, dry_run: bool = False, told: Told = quiet) -> Swept:
    """Delete what no batch needs: jobs, inputs and weights that no manifest names; and of jobs that are done, what
    their results do not name. Of a job that a batch still lacks, everything stays.

    Nothing of it is held in memory but a few hundred jobs; what is in use is noted on disk (:class:`JobTable`).

    Raises:
        BatchBusy: a batch is being submitted, or another sweep is under way.
        UsageError: a batch cannot be read, so that nobody can tell what it needs; nothing was deleted.
    """
    with _claimed(cluster, dry_run) as go_on, JobTable() as jobs, JobTable() as files:
        _require_none_submitted(cluster.storage)
        sweeping = _Sweep(cluster, jobs, files, dry_run, told=told, go_on=go_on)
        for name in cluster.storage.folders(keys.BATCHES):
            sweeping.note(name)
        sweeping.sweep_jobs()
        sweeping.swept.inputs = sweeping.sweep_files(keys.INPUTS, _INPUT)
        sweeping.swept.models = sweeping.sweep_files(keys.MODELS, _MODEL)
    return sweeping.swept


@contextmanager
def _claimed(cluster: Cluster, dry_run: bool) -> Iterator[Callable[[], None]]:
    """Be the only one who sweeps; yields what to call at each chunk."""
    if dry_run:
        yield quiet
        return
    ledger = cluster.ledger
    if not ledger.claim(SWEEPING, SWEEPING_S):
        raise BatchBusy("Storage is being swept by another command. Try again when that has ended.")

    def go_on() -> None:
        if not ledger.is_claimed(SWEEPING):  # a submission may have begun since
            raise BatchBusy("The sweep stopped, as Redis lost its claim, or it was too slow to renew it. Sweep again.")
        ledger.keep_claim(SWEEPING, SWEEPING_S)

    try:
        yield go_on
    finally:
        ledger.end_claim(SWEEPING)


def _require_none_submitted(storage: Storage) -> None:
    for key in storage.list(keys.OPEN):
        name = key.removeprefix(keys.OPEN)
        if not storage.exists(keys.batch(name)):
            raise BatchBusy(
                f"Batch {name!r} is being submitted, or its submission was cut short, so nobody can tell what it "
                f"needs. Wait for it, submit it again, or remove what there is: `medley rm {name} --force`."
            )


@dataclass
class _Sweep:
    """One sweep: first what is in use is noted, then all else is deleted. ``files`` are noted by the first half of
    their digests, which is as long as a job's id.
    """

    cluster: Cluster
    jobs: JobTable
    files: JobTable
    dry_run: bool
    told: Told
    go_on: Callable[[], None]
    swept: Swept = field(default_factory=Swept)
    painted: set[JobId] = field(default_factory=set)

    def note(self, name: BatchName) -> None:
        """Note what a batch needs, and what is being painted of it."""
        try:
            if (batch := read_batch(self.cluster.storage, name)) is None:
                return
            if isinstance(batch, Batch):
                self._note_files([batch.weights.sha256])
                if isinstance(batch.options.init, Picture):
                    self._note_files([batch.options.init.sha256])
            lines = read_manifest(self.cluster.storage, batch)
            while some := list(islice(lines, CHUNK)):
                self.jobs.put((job.id, "") for job in some)
                self._note_files(picture.sha256 for job in some for picture in job.pictures)
                self.told("reading what batches need", len(self.jobs), 0)
                self.go_on()
        except (UsageError, ObjectMissing) as error:
            raise UsageError(
                f"Nothing was swept, as nobody can tell what batch {name!r} needs: {error} "
                f"`medley rm {name} --force` removes it."
            ) from error
        self.painted |= self.cluster.ledger.painting(name, within_s=self.cluster.settings.lease_s).keys()

    def _note_files(self, digests: Iterable[Digest]) -> None:
        self.files.put((digest[:_ID], "") for digest in digests)

    def sweep_jobs(self) -> None:
        """Delete the jobs that are not in use, and what attempts at the others left for nothing."""
        groups = groupby(self.cluster.storage.list(keys.JOBS), key=lambda key: key.split("/")[1])
        found = ((job, list(own)) for job, own in groups if _JOB.fullmatch(job))
        while chunk := dict(islice(found, CHUNK)):
            used = self.jobs.values(list(chunk))
            unused = {job: own for job, own in chunk.items() if job not in used}
            with ThreadPoolExecutor(AT_ONCE) as threads:
                left = threads.map(self._leftovers, ((job, chunk[job]) for job in used))
                leftovers = [key for some in left for key in some]
            # The commits first: a result whose files are gone would be taken for a picture by a later batch.
            self._delete([keys.result(job) for job, own in unused.items() if keys.result(job) in own])
            self._delete([key for job, own in unused.items() for key in own if key != keys.result(job)])
            self._delete(leftovers)
            self.swept.jobs += len(unused)
            self.swept.leftovers += len(leftovers)

    def _leftovers(self, item: tuple[JobId, list[str]]) -> list[str]:
        """The keys of a job that is done, but for its result and what that names."""
        job, own = item
        attempts = {key.split("/")[2] for key in own if key.count("/") > 2}
        if job in self.painted or keys.result(job) not in own:
            return []
        if len(attempts) == 1 and keys.checkpoint(job) not in own:
            return []  # the one that the result names
        try:
            result = read_result(self.cluster.storage, job)
        except UsageError:  # another version wrote it, and knows what it names
            return []
        named = {file.key for file in result.files.values()} if result else set(own)
        return [key for key in own if key not in named and key != keys.result(job)]

    def sweep_files(self, prefix: str, name: re.Pattern[str]) -> int:
        """Delete the files of this prefix that are not in use; returns how many that are."""
        count, listed = 0, self.cluster.storage.list(prefix)
        while chunk := list(islice(listed, CHUNK)):
            digests = {key: found[1][:_ID] for key in chunk if (found := name.fullmatch(key.removeprefix(prefix)))}
            used = self.files.values(list(set(digests.values())))
            unused = [key for key, digest in digests.items() if digest not in used]
            self._delete(unused)
            count += len(unused)
        return count

    def _delete(self, unused: list[str]) -> None:
        self.go_on()
        if not self.dry_run:
            _delete(self.cluster.storage, unused)
        self.swept.objects += len(unused)
        self.told("sweeping", self.swept.objects, 0)


def _delete(storage: Storage, unwanted: Iterable[str]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for _ in threads.map(storage.delete, unwanted):
            pass
