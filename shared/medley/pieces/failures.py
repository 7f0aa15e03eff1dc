"""``failures.jsonl``: what was skipped or failed, and why."""

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from medley import keys
from medley.batches.stored import read_manifest, read_outcome
from medley.errors import ObjectMissing, UsageError
from medley.pieces.source import READS_AT_ONCE, Source
from medley.records.jobs import StyleTransfer
from medley.records.kinds import Job

LINES_AT_ONCE = 500
"""Lines of a manifest that are looked at together."""


def put_failures(source: Source) -> None:
    """Store the list, each file and each pair by name and in the manifest's order."""
    with tempfile.TemporaryDirectory(prefix="medley-") as folder:
        path = Path(folder, "failures.jsonl")
        with path.open("wb") as file:
            for line in _lines(source):
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        source.storage.put_file(keys.failures(source.batch.name), path)


def _lines(source: Source) -> Iterator[dict[str, Any]]:
    yield from ({"skipped": skipped.name, "reason": skipped.reason} for skipped in source.batch.skipped)
    if not source.failed:
        return
    lines = read_manifest(source.storage, source.batch)
    try:
        with ThreadPoolExecutor(READS_AT_ONCE) as threads:
            while chunk := list(islice(lines, LINES_AT_ONCE)):
                source.advance()
                failures = [job for job in chunk if source.has_failed(job.id)]
                yield from threads.map(lambda job: _failure(source, job), failures)
    except (UsageError, ObjectMissing) as error:  # what has ended ends all the same
        yield {"skipped": "the manifest", "reason": str(error)}


def _failure(source: Source, job: Job) -> dict[str, Any]:
    try:
        outcome = read_outcome(source.storage, source.batch.name, job.id, "failed")
    except (UsageError, ObjectMissing) as error:  # another version wrote it; the batch ends all the same
        return {"job": job.id, "kind": "unreadable", "reason": str(error), **_names(job)}
    told = outcome.model_dump(mode="json", include={"job", "kind", "reason", "attempts", "worker", "log"})
    return {**told, **_names(job)}


def _names(job: Job) -> dict[str, Any]:
    if isinstance(job, StyleTransfer):
        return {"content": job.content.name, "styles": [style.name for style in job.styles]}
    return {"frames": [job.first, job.first + job.count - 1]}
