"""What the farm is at, looked at again and again by one thread, whoever asks for it and however many do."""

import itertools
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

from medley import keys
from medley.broker.paintings import Progress
from medley.broker.queue import QUEUES
from medley.broker.roster import Painter
from medley.cluster import Cluster
from medley.errors import MedleyError
from medley.records.base import BatchName, JobId
from medley.records.batches import AnyBatch
from medley.records.jobs import ENGINE
from medley.telling import shown
from medley_producer.dashboard.tracking import Tracked
from medley_producer.dashboard.views import FarmView, PaintingView, QueueView, WorkerView
from medley_producer.status import BatchStatus, being_painted, found_status

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""While somebody watches: a person sees that things move, and S3 is asked for three objects of each open batch."""

IDLE_EVERY_S = 30.0
"""While nobody does: rates are known when somebody comes, and Prometheus is told what is not too old."""

WATCHED_FOR_S = 60.0
"""After somebody asked for anything."""

BATCHES_AT_ONCE = 8
"""Batches that are asked for at once: asking waits for the network more than for anything here."""

SETTLED_AT_ONCE = 4
"""Of the batches that have ended, so many are seen to be there still at each look, in turn."""


class Watcher(threading.Thread):
    """Looks; ``view`` is what it saw last, and ``version`` another text whenever what is shown has changed."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(name="watcher", daemon=True)
        self._cluster = cluster
        self._tracked: dict[BatchName, Tracked] = {}
        self._settled: list[BatchName] = []
        self._looking = threading.Lock()
        self._looked_at = float("-inf")
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._watched_at = float("-inf")
        # Never those of a dashboard that was started before.
        self._versions = map(f"{secrets.token_hex(4)}.{{}}".format, itertools.count())
        self.version = next(self._versions)
        self.view = FarmView(
            at=datetime.now(UTC), problem="Nothing was looked at yet.", batches=[], unreadable={}, workers=[],
            paintings=[], stopped={}, queues=[], set_aside=0,
        )  # fmt: skip

    @property
    def age_s(self) -> float:
        """Since the farm was looked at."""
        return (datetime.now(UTC) - self.view.at).total_seconds()

    def run(self) -> None:
        """Look until :meth:`end`."""
        while not self._ended.is_set():
            self.look()
            watched = time.monotonic() - self._watched_at < WATCHED_FOR_S
            self._wake.wait(LOOK_EVERY_S if watched else IDLE_EVERY_S)
            self._wake.clear()

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self._wake.set()

    def watched(self) -> None:
        """Somebody asks: look often from now on."""
        if time.monotonic() - self._watched_at > WATCHED_FOR_S:
            self._wake.set()
        self._watched_at = time.monotonic()

    def changed(self) -> None:
        """Something else that is shown is known now."""
        self.version = next(self._versions)

    def batch(self, name: BatchName) -> AnyBatch | None:
        """A batch that was seen; None if none of this name was."""
        tracked = self._tracked.get(name)
        return tracked.status.batch if tracked else None

    def look(self) -> None:
        """Look once, unless somebody else begins to before it is our turn. What cannot be asked keeps what was seen
        before, and the reason is told.
        """
        asked_at = time.monotonic()
        with self._looking:
            if self._looked_at > asked_at:
                return
            self._looked_at = time.monotonic()
            before = self.view
            try:
                self.view = self._look()
            except MedleyError as error:
                self.view = before.model_copy(update={"problem": str(error)})
            except Exception as error:  # whatever it is, the next look must come
                log.exception("The farm could not be looked at.")
                problem = f"{type(error).__name__}: {error}. The log has more."
                self.view = before.model_copy(update={"problem": problem})
            if _apart_from_seconds(before) != _apart_from_seconds(self.view):
                self.changed()

    def _look(self) -> FarmView:
        unreadable = self._look_at_batches()
        paintings = self._paintings()
        stuck = Counter(painting.batch for painting in paintings if painting.stuck)
        ledger = self._cluster.ledger
        workers = [self._worker(painter, silent_s, paintings) for painter, silent_s in ledger.painters_heard()]
        batches = [tracked.view(stuck[name]) for name, tracked in self._tracked.items()]
        return FarmView(
            at=datetime.now(UTC),
            problem="",
            batches=sorted(batches, key=lambda batch: batch.created_at, reverse=True),
            unreadable=unreadable,
            workers=workers,
            paintings=paintings,
            stopped={shown(name): shown(why) for name, why in ledger.stopped().items()},
            queues=self._queues(workers),
            set_aside=ledger.set_aside_messages(),
        )

    def _look_at_batches(self) -> dict[str, str]:
        """Those that are open are asked for each time; of the others nothing changes but that they are opened again, or
        removed.
        """
        storage = self._cluster.storage
        names = set(storage.folders(keys.BATCHES))
        is_open = {key.removeprefix(keys.OPEN) for key in storage.list(keys.OPEN)}
        for gone in self._tracked.keys() - names:
            del self._tracked[gone]
        settled = {name for name in names - is_open if name in self._tracked and self._tracked[name].is_settled}
        wanted = sorted(names - settled) + self._next_settled(settled)
        unreadable: dict[str, str] = {}
        with ThreadPoolExecutor(BATCHES_AT_ONCE) as threads:
            for name, found in zip(wanted, threads.map(partial(found_status, self._cluster), wanted), strict=True):
                if isinstance(found, BatchStatus):
                    self._note(name, found)
                    continue
                self._tracked.pop(name, None)
                if found:
                    unreadable[name] = found
        return unreadable

    def _note(self, name: BatchName, status: BatchStatus) -> None:
        if tracked := self._tracked.get(name):
            tracked.note(self._cluster, status)
        else:
            self._tracked[name] = Tracked(self._cluster, status)

    def _next_settled(self, settled: set[BatchName]) -> list[BatchName]:
        """Some of those, in turn: a folder's storage keeps the empty folder of a batch that was removed."""
        if not self._settled:
            self._settled = sorted(settled)
        some, self._settled = self._settled[:SETTLED_AT_ONCE], self._settled[SETTLED_AT_ONCE:]
        return [name for name in some if name in settled]

    def _paintings(self) -> list[PaintingView]:
        """What is being painted, and what stopped moving: its painter may hang, until MEDLEY_STALL_S has it ended, or
        be gone without another that would take the job.
        """
        settings = self._cluster.settings
        within_s = settings.stall_s + settings.lease_s
        return [
            self._painting(name, job, progress)
            for name, tracked in self._tracked.items()
            if not tracked.is_settled
            for job, progress in being_painted(self._cluster, tracked.status.batch, within_s).items()
        ]

    def _painting(self, batch: BatchName, job: JobId, progress: Progress) -> PaintingView:
        silent_s = max(0.0, time.time() - progress.at)
        stuck = silent_s > self._cluster.settings.lease_s
        return PaintingView(batch=batch, job=job, **dict(progress), silent_s=silent_s, stuck=stuck)

    def _worker(self, painter: Painter, silent_s: float, paintings: Sequence[PaintingView]) -> WorkerView:
        speed = painter.pixel_steps_s
        return WorkerView(
            **dict(painter),
            ours=painter.engine == ENGINE,
            megapixel_steps_s=None if speed is None else speed / 1e6,
            silent_s=silent_s,
            silent=silent_s > self._cluster.ledger.silent_after_s,
            painting=[painting for painting in paintings if painting.worker == painter.name],
        )

    def _queues(self, workers: Sequence[WorkerView]) -> list[QueueView]:
        ledger = self._cluster.ledger
        served = {name for worker in workers if not worker.silent for name in worker.queues}
        waiting = {QUEUES[kind]: length for kind, length in ledger.queue_lengths().items()}
        waiting |= ledger.foreign_queue_lengths()
        since, held, now = ledger.waiting_since(), ledger.held_messages(), time.time()
        oldest = {QUEUES[kind]: max(0.0, now - at) for kind, at in since.items() if kind in QUEUES}
        return [
            QueueView(
                name=name,
                waiting=length,
                unacknowledged=held.get(name, 0),
                oldest_s=oldest.get(name),
                served=name in served,
            )
            for name, length in waiting.items()
        ]


def _apart_from_seconds(view: FarmView) -> dict[str, Any]:
    """What people would see that has changed; not that everything is two seconds older."""
    painting = {"__all__": {"silent_s"}}
    seen = view.model_dump(
        exclude={
            "at": True,
            "batches": {"__all__": {"eta_s"}},
            "workers": {"__all__": {"silent_s": True, "painting": painting}},
            "paintings": painting,
            "queues": {"__all__": {"oldest_s"}},
        }
    )
    ages_s = [*(worker.silent_s for worker in view.workers), *(queue.oldest_s or 0.0 for queue in view.queues)]
    return seen | {"minutes": [age_s // 60 for age_s in ages_s]}
