"""Keeps the catalogue up to date with those batches that somebody looks at: their manifests, how their jobs ended, and
why some failed.
"""

import hashlib
import logging
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from medley.batches.stored import each_outcome
from medley.cluster import Cluster
from medley.records.base import BatchName
from medley.records.batches import AnyBatch
from medley_producer.dashboard.catalogue import Catalogue
from medley_producer.dashboard.views import FailureGroup, FailuresView
from medley_producer.failures import Failure, each_failure, names_of
from medley_producer.status import BatchStatus, stored_status

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Batches whose manifests are read at once: reading is this program's work, and others should be served meanwhile."""

WAIT_S = 0.1
"""Before a page is shown without what is still being read, which it shows as soon as that is known."""

EVERY_S = 2.0
"""A batch that is looked at is seen to have changed this often at most, and in a tenth of the time at most."""

MOST_JOBS = 3_000_000
"""In the catalogue, of the batches that were looked at last: under a gigabyte of disk."""

FAILURES_READ = 1_000
"""Of a batch of which more failed, reasons are told of the first ones."""

EXAMPLES = 5
"""Jobs that are named of those that failed of the same."""

NOT_YET = FailuresView(groups=[], skipped=[], complete=False)


@dataclass
class _Indexed:
    """A batch; ``seen`` is where it stood when it was indexed last, ``due`` when it is to be looked at again."""

    batch: AnyBatch
    due: float = 0.0
    at_work: Future[None] | None = None
    seen: tuple[bool, int, int] | None = None
    failures: FailuresView = NOT_YET


class Indexer:
    """For several threads; ``changed`` is called when something is known that was not."""

    def __init__(self, cluster: Cluster, catalogue: Catalogue, changed: Callable[[], None]) -> None:
        self._cluster = cluster
        self._catalogue = catalogue
        self._changed = changed
        self._indexed: OrderedDict[tuple[BatchName, str], _Indexed] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="indexing")

    def index(self, batch: AnyBatch) -> bool:
        """Have a batch indexed, if that is due; whether all of its manifest is in the catalogue.

        That is done on a thread of its own, for which we wait if it is the first time and does not take long.
        """
        indexed = self._of(batch)
        with self._lock:
            if time.monotonic() >= indexed.due:
                indexed.due = math.inf
                indexed.at_work = self._threads.submit(self._index, indexed)
            at_work = indexed.at_work
        if at_work and not self._catalogue.knows(batch):
            with suppress(TimeoutError):
                at_work.result(WAIT_S)
        return self._catalogue.knows(batch)

    def failures(self, batch: AnyBatch) -> FailuresView:
        """Why jobs of a batch failed, as far as that is known; not complete before it is."""
        return self._of(batch).failures

    def end(self) -> None:
        """Read no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _of(self, batch: AnyBatch) -> _Indexed:
        key = batch.name, batch.manifest
        with self._lock:
            indexed = self._indexed.setdefault(key, _Indexed(batch))
            self._indexed.move_to_end(key)
            while len(self._indexed) > 1 and sum(each.batch.jobs for each in self._indexed.values()) > MOST_JOBS:
                _, dropped = self._indexed.popitem(last=False)
                self._threads.submit(self._catalogue.forget, dropped.batch)
        return indexed

    def _index(self, indexed: _Indexed) -> None:
        batch, begun = indexed.batch, time.monotonic()
        try:
            status = stored_status(self._cluster, batch)
            seen = status.finished, status.done, status.failed
            if seen == indexed.seen and self._catalogue.knows(batch):
                return
            self._catalogue.learn(self._cluster.storage, batch)
            self._catalogue.note(batch, each_outcome(self._cluster.storage, batch.name))
            indexed.failures = _failures(self._cluster, status)
            indexed.seen = seen
            self._changed()
        except Exception as error:  # storage may be away, the disk full, or the catalogue closed as the program ends
            log.warning("Batch %s could not be indexed, which is tried again: %s", batch.name, error)
        finally:
            indexed.due = time.monotonic() + max(EVERY_S, 10 * (time.monotonic() - begun))


def _failures(cluster: Cluster, status: BatchStatus) -> FailuresView:
    groups: dict[tuple[str, str], list[Failure]] = {}
    failed = (failure for failure in each_failure(cluster, status) if "skipped" not in failure)
    read = list(islice(failed, FAILURES_READ + 1))
    for failure in read[:FAILURES_READ]:
        groups.setdefault(_same(failure), []).append(failure)
    return FailuresView(
        groups=sorted((_group(same, some) for same, some in groups.items()), key=lambda group: -group.jobs),
        skipped=[(file.name, file.reason) for file in status.batch.skipped[:FAILURES_READ]],
        complete=len(read) <= FAILURES_READ,
    )


def _same(failure: Failure) -> tuple[str, str]:
    """What failures of one reason have in common: what stands in the reason but for names and numbers."""
    reason = str(failure.get("reason", ""))
    return str(failure.get("kind", "unknown")), re.sub(r"[^\s:]*\d[^\s:]*|'[^']*'", "…", reason)


def _group(same: tuple[str, str], some: Sequence[Failure]) -> FailureGroup:
    first = some[0]
    return FailureGroup(
        id=hashlib.sha256("\n".join(same).encode()).hexdigest()[:12],
        kind=str(first.get("kind", "unknown")),
        reason=str(first.get("reason", "")),
        jobs=len(some),
        examples=[(str(failure["job"]), names_of(failure)) for failure in some[:EXAMPLES]],
        log=tuple(map(str, first.get("log") or ())),
    )
