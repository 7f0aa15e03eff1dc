"""What pages and the API ask for: what the watcher saw, and of one batch or job what storage and the ledger know."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from medley import keys
from medley.batches.stored import read_batch, read_outcome, read_result
from medley.cluster import Cluster
from medley.errors import ObjectMissing, ServiceRefused, ServiceUnreachable, UsageError
from medley.media import previews
from medley.records.base import BatchName, JobId
from medley.records.batches import AnyBatch
from medley.records.results import PICTURE_FILE, AnyResult, Outcome, Result, Status, frame_file
from medley_producer.dashboard.actions import decide
from medley_producer.dashboard.catalogue import Catalogue, Row
from medley_producer.dashboard.indexing import Indexer
from medley_producer.dashboard.objects import link, preview
from medley_producer.dashboard.views import (
    Action,
    BatchView,
    Decided,
    FailuresView,
    FrameView,
    InputView,
    JobDetail,
    JobState,
    JobsView,
    JobView,
    PaintingView,
)
from medley_producer.dashboard.watcher import Watcher

T = TypeVar("T")

PAGE_JOBS = 60
"""As many as load quickly, and are still looked through."""

READS_AT_ONCE = 12
"""Reads wait for the network more than for anything here; of storage's 32 connections, the watcher may have 8 and
pictures 8.
"""

GLANCES_KEPT = 4_096
"""Of jobs that are done, what a page of a batch tells: some pages of jobs."""


class Farm:
    """A cluster as it is looked at. Every call raises what storage raises where it does not serve; what Redis alone
    knows is left out while that is away.
    """

    def __init__(self, cluster: Cluster, catalogue: Catalogue, watcher: Watcher) -> None:
        self._cluster = cluster
        self.watcher = watcher
        self._catalogue = catalogue
        self._indexer = Indexer(cluster, catalogue, watcher.changed)
        self._reading = ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="reading")
        self._glance = lru_cache(GLANCES_KEPT)(self._look_at)

    def batch(self, name: BatchName) -> AnyBatch:
        """What was asked for under this name.

        Raises:
            ObjectMissing: there is no such batch.
        """
        return self.watcher.batch(name) or self._stored(name)

    def view(self, name: BatchName) -> BatchView:
        """How far a batch is.

        Raises:
            ObjectMissing: there is no such batch.
        """
        if view := self._seen(name):
            return view
        self.batch(name)
        self.watcher.look()  # it is new
        if view := self._seen(name):
            return view
        raise ServiceUnreachable(f"Batch {name!r} cannot be looked at now. {self.watcher.view.problem}")

    def jobs(self, name: BatchName, text: str, state: JobState | None, page: int) -> JobsView:
        """A page of a batch's jobs, from 1 on; those whose names have a text, or that are in a state."""
        batch = self.batch(name)
        complete = self._indexer.index(batch)
        painting = [each.job for each in self.paintings(name)]
        skip = (page - 1) * PAGE_JOBS
        if state == "painting":
            rows = [row for job in painting if (row := self._catalogue.row(batch, job))]
            rows = [row for row in rows if text.casefold() in row.names.casefold()]
            found, rows = len(rows), rows[skip : skip + PAGE_JOBS]
        else:
            status, but = ("", painting) if state == "waiting" else (state, [])
            rows, found = self._catalogue.find(batch, text, status, but, skip=skip, limit=PAGE_JOBS)
        return JobsView(
            batch=name,
            jobs=self._views(batch, rows),
            found=found,
            page=page,
            pages=max(1, math.ceil(found / PAGE_JOBS)),
            complete=complete,
        )

    def job(self, name: BatchName, job: JobId) -> JobDetail:
        """All about a job of a batch.

        Raises:
            ObjectMissing: there is no such batch, or it has no such job.
            ServiceUnreachable: the batch's manifest is still being read.
        """
        batch = self.batch(name)
        complete = self._indexer.index(batch)
        row = self._catalogue.row(batch, job)
        if row is None:
            if not complete:
                raise ServiceUnreachable(f"The manifest of batch {name!r} is still being read. Try again in a moment.")
            raise ObjectMissing(f"Batch {name!r} has no job {job}.")
        (view,) = self._views(batch, [row])
        own: dict[str, Any] = {"batch": name, "options": batch.options.model_dump(mode="json", exclude_none=True)}
        detail: dict[str, Any] = {"inputs": []}
        if view.state == "done":
            with suppress(UsageError):  # another version wrote it
                result = read_result(self._cluster.storage, job)
                detail = _detail(result) if result else detail
        return JobDetail(**dict(view), **own, **detail)

    def failures(self, name: BatchName) -> FailuresView:
        """Why jobs of a batch failed, as far as that is known; not complete before it is."""
        batch = self.batch(name)
        self._indexer.index(batch)
        return self._indexer.failures(batch)

    def paintings(self, name: BatchName) -> list[PaintingView]:
        """What of a batch is being painted, and what stopped moving."""
        return [painting for painting in self.watcher.view.paintings if painting.batch == name]

    def pieces(self, view: BatchView) -> Mapping[str, str]:
        """What a batch ended with, and where it is shown."""
        if view.state != "finished":
            return {}
        ends = {"video": keys.video, "contact sheet": keys.contact_sheet, "gallery": keys.gallery}
        return {
            what: link(key(view.name)) for what, key in ends.items() if self._cluster.storage.exists(key(view.name))
        }

    def decide(self, name: BatchName, action: Action, who: str) -> Decided:
        """Do what somebody decided about a batch.

        Raises:
            ObjectMissing: there is no such batch (any more).
            MedleyError: of :mod:`medley.batches.control`.
        """
        decided = decide(self._cluster, self._stored(name), action, who)
        self.watcher.look()
        return decided

    def end(self) -> None:
        """Read no more."""
        self._indexer.end()
        self._reading.shutdown(wait=False, cancel_futures=True)

    def _stored(self, name: BatchName) -> AnyBatch:
        if batch := read_batch(self._cluster.storage, name):
            return batch
        raise ObjectMissing(f"There is no batch {name!r} in {self._cluster.storage.root}.")

    def _seen(self, name: BatchName) -> BatchView | None:
        return next((view for view in self.watcher.view.batches if view.name == name), None)

    def _noted(
        self, ask: Callable[[BatchName, list[JobId]], dict[JobId, T]], batch: BatchName, jobs: list[JobId]
    ) -> dict[JobId, T]:
        """What the ledger knows of these jobs; nothing while it is away."""
        if jobs and not self.watcher.view.problem:  # which may be Redis, for which everybody would wait
            with suppress(ServiceUnreachable, ServiceRefused):
                return ask(batch, jobs)
        return {}

    def _views(self, batch: AnyBatch, rows: Sequence[Row]) -> list[JobView]:
        ledger, painting = self._cluster.ledger, {each.job: each for each in self.paintings(batch.name)}
        # The catalogue knows what it was told, and the ledger what holds now.
        ended: dict[JobId, Status] = {row.job: row.status for row in rows if row.status}
        ended |= self._noted(ledger.statuses, batch.name, [row.job for row in rows])
        attempts = self._noted(ledger.attempts, batch.name, [row.job for row in rows if row.job in painting])

        def view(row: Row) -> JobView:
            own: dict[str, Any] = {"place": row.place, "job": row.job, "names": row.names}
            with suppress(ObjectMissing, UsageError):  # it is tried again, or another version wrote it
                match ended.get(row.job):
                    case "done":
                        return JobView(**self._glance(batch.name, batch.created_at, row.job) | own)
                    case "failed":
                        outcome = read_outcome(self._cluster.storage, batch.name, row.job, "failed")
                        return JobView(**_told(outcome) | own)
            if now := painting.get(row.job):
                own |= {"painting": now, "worker": now.worker, "loss": now.loss}
                return JobView(**own, state="painting", attempts=attempts.get(row.job, 1))
            return JobView(**own, state=row.status or "waiting")

        return list(self._reading.map(view, rows))

    def _look_at(self, batch: BatchName, _created_at: datetime, job: JobId) -> dict[str, Any]:
        """What is told of a job that is done; its batch's time tells it from one of its name that is removed."""
        told = _told(read_outcome(self._cluster.storage, batch, job, "done"))
        with suppress(UsageError):  # another version wrote it
            if result := read_result(self._cluster.storage, job):
                told["preview"] = preview(result)
                told["losses"] = sorted(result.losses) if isinstance(result, Result) else []
        return told


def _told(outcome: Outcome) -> dict[str, Any]:
    return dict(outcome) | {"state": outcome.status}


def _detail(result: AnyResult) -> dict[str, Any]:
    """What a result tells of its job, beside what its outcome does."""

    def at(name: str) -> str:
        return link(result.files[name].key) if name in result.files else ""

    losses = dict(result.losses) if isinstance(result, Result) else {}
    facts = {"device": result.device, "worker": result.worker, "engine": str(result.engine)}
    facts |= dict(result.versions)
    inputs: list[InputView] = []
    if isinstance(result, Result):
        facts |= {"weights": result.weights.name, "computed in": result.precision, "economy": result.economy}
        facts |= {"arithmetic": result.chosen.arithmetic} if result.chosen else {}
        content = result.content
        inputs = [InputView(role="content", name=content.label or content.name, url=at(previews.CONTENT))]
        for number, style in enumerate(result.styles):
            url = at(previews.style(number))
            inputs.append(InputView(role="style", name=style.label or style.name, url=url))
    return {
        "inputs": inputs,
        "frames": [FrameView(step=step, url=at(frame_file(step)), loss=losses.get(step)) for step in result.frames],
        "picture": at(PICTURE_FILE),
        "size": result.size,
        "facts": {name: value for name, value in facts.items() if value},
    }
