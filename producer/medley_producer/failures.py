"""What failed in a batch: from ``failures.jsonl`` once it has ended, before that from the outcomes themselves."""

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from medley import keys
from medley.batches.stored import each_outcome, read_outcome
from medley.cluster import Cluster
from medley.errors import ObjectMissing, UsageError
from medley.records.base import JobId
from medley.records.batches import AnyBatch
from medley.storage import Storage
from medley.telling import shown
from medley_producer.status import BatchStatus

READS_AT_ONCE = 16
"""Reads wait for the network more than for anything here."""

CHUNK = 500
"""Outcomes that are read together, and held in memory."""

MOST_BYTES = 4 * 2**20
"""Of a line of ``failures.jsonl``: a reason, some names, and the last lines of a log."""

Failure = dict[str, Any]
"""``skipped`` and ``reason`` of a file that could not be used; of a job ``job, kind, reason, attempts, worker, log``,
and its pictures, as ``content`` and ``styles`` or as ``names``.
"""


def each_failure(cluster: Cluster, status: BatchStatus) -> Iterator[Failure]:
    """What was skipped and what failed, read as it is used."""
    if status.finished:
        with suppress(ObjectMissing):  # it is being made anew, or there was no room for it
            yield from _listed(cluster.storage, status.batch)
        return
    yield from ({"skipped": file.name, "reason": file.reason} for file in status.batch.skipped)
    if status.failed:
        yield from _failed(cluster.storage, status.batch)


def failure_lines(failure: Failure) -> Iterator[str]:
    """A failure for people: a line, and what its worker's log said below it."""
    told = reason_line(failure)
    if "skipped" in failure:
        yield f"  skipped {told}"
        return
    times = failure.get("attempts", 0)
    attempts = f", attempt {times}" if isinstance(times, int) and times > 1 else ""
    kind, worker = (shown(str(failure.get(name, "unknown"))) for name in ("kind", "worker"))
    yield f"  {told} [{kind}; by {worker}{attempts}]"
    yield from (f"      {shown(str(line))}" for line in _list(failure.get("log")))


def reason_line(failure: Failure) -> str:
    """Which file or pair it is, and why."""
    return named(str(failure.get("skipped") or names_of(failure)), str(failure.get("reason", "")))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def named(name: str, reason: str) -> str:
    """A reason that begins with the name, as most do by themselves."""
    reason = shown(reason)
    return reason if reason.startswith(shown(name)) else f"{shown(name)}: {reason}"


def names_of(failure: Failure) -> str:
    """What people call the job that failed: its pictures, or its id."""
    if "content" in failure:
        return f"{failure['content']} x {', '.join(map(str, _list(failure.get('styles'))))}"
    return str(failure.get("names") or failure.get("job"))


def _listed(storage: Storage, batch: AnyBatch) -> Iterator[Failure]:
    with tempfile.TemporaryDirectory(prefix="medley-") as folder:
        path = Path(folder, "failures.jsonl")
        storage.get_file(keys.failures(batch.name), path)
        with path.open("rb") as file:  # not as text: names may hold other ends of lines
            while line := file.readline(MOST_BYTES):
                yield _failure(line)


def _failure(line: bytes) -> Failure:
    try:
        failure = json.loads(line)
    except (ValueError, RecursionError):
        failure = None
    if not isinstance(failure, dict):
        raise UsageError(
            "The failures.jsonl of this batch has a line that is no JSON object: it was changed in storage."
        )
    return failure


def _failed(storage: Storage, batch: AnyBatch) -> Iterator[Failure]:
    def read(job: JobId) -> Failure | None:
        try:
            outcome = read_outcome(storage, batch.name, job, "failed")
        except ObjectMissing:  # a retry was sooner
            return None
        except UsageError as error:  # another version wrote it
            return {"job": job, "kind": "unreadable", "reason": str(error)}
        fields = {"job", "kind", "reason", "attempts", "worker", "log", "names"}
        return outcome.model_dump(mode="json", include=fields)

    jobs = (job for job, status in each_outcome(storage, batch.name) if status == "failed")
    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        while chunk := list(islice(jobs, CHUNK)):
            yield from filter(None, threads.map(read, chunk))
