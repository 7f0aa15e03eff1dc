"""What must hold after a storm: each promise by name, with the evidence where it is broken."""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from conftest import wait_until
from farm import Farm, Worker
from medley import keys
from medley.batches.stored import read_manifest, read_outcome
from medley.errors import MedleyError, ObjectMissing
from medley.records.base import BatchName, JobId, Record
from medley.records.batches import Batch
from medley.records.results import Finished, Outcome, Result
from outcomes import PREVIEWS, Outcomes, list_outcomes

CALM_WITHIN_LEASES = 6
"""Messages that are left over go out and are found ended within a lease, a sweep of the lapsed ones, and a round."""

ROLL_CALLS = 3
"""A worker that has just been started may be too late for the first call."""

RECORDS: dict[str, type[Record]] = {
    r"jobs/[^/]+/result\.json": Result,
    r"batches/[^/]+/outcomes/[^/]+\.json": Outcome,
    r"batches/[^/]+/batch\.json": Batch,
    r"batches/[^/]+/finished\.json": Finished,
}


class Kill(NamedTuple):
    """A SIGKILL: whose, and the job that its worker had in hand, if any."""

    whom: str
    job: JobId | None


def job_in_hand(log: str, batch: BatchName) -> JobId | None:
    """The job that a worker with one painter was at when its log ended so."""
    began = [*re.finditer(rf"Painting .* \(job ([0-9a-f]{{32}}) of {batch}\)\.", log)]
    if not began or re.search(rf"\(job {began[-1][1]} of {batch}\): |Given back|exited with", log[began[-1].end() :]):
        return None
    return str(began[-1][1])


@dataclass(frozen=True)
class Aftermath:
    """A batch that has ended, what its storm did, finished.json as it was first, and the workers that are left."""

    farm: Farm
    dataset: Path
    batch: Batch
    kills: list[Kill]
    finished: bytes
    left: list[Worker]

    @cached_property
    def objects(self) -> dict[str, bytes]:
        """All there is in storage; a storm's pictures are small."""
        storage, found = self.farm.cluster.storage, dict[str, bytes]()
        for key in storage.list():
            with suppress(ObjectMissing):  # of a twin that Redis knows no more, and that discards what it painted
                found[key] = storage.get(key)
        return found

    @cached_property
    def outcomes(self) -> Outcomes:
        """How its jobs ended."""
        return list_outcomes(self.farm.cluster.storage, self.batch.name)

    @cached_property
    def results(self) -> dict[JobId, Result]:
        """Every commit in storage."""
        found = [(key, data) for key, data in self.objects.items() if re.fullmatch(r"jobs/[^/]+/result\.json", key)]
        return {key.split("/")[1]: Result.from_json(data) for key, data in found}

    def paintings(self) -> Counter[JobId]:
        """How often each job's painting began, by the workers' logs."""
        line = re.compile(rf"Painting .* \(job ([0-9a-f]{{32}}) of {self.batch.name}\)\.")
        return Counter(match[1] for worker in self.farm.workers for match in line.finditer(worker.log.read_text()))

    def failures(self) -> list[Outcome]:
        """The outcomes of the jobs that failed."""
        storage = self.farm.cluster.storage
        return [read_outcome(storage, self.batch.name, job, "failed") for job in sorted(self.outcomes.failed)]


def every_job_has_one_outcome(after: Aftermath) -> Iterator[str]:
    asked = {job.id for job in read_manifest(after.farm.cluster.storage, after.batch)}
    yield from (f"{job} has no outcome" for job in asked - after.outcomes.all)
    yield from (f"{job} has an outcome, and is not in the manifest" for job in after.outcomes.all - asked)
    names = Counter(key.split("/")[-1].split(".")[0] for key in after.objects if "/outcomes/" in key)
    yield from (f"{job} has both outcomes" for job, count in names.items() if count > 1)


def every_failure_is_the_jobs_own(after: Aftermath) -> Iterator[str]:
    """All pictures are good, so all that a job can do is be painted where it is killed, again and again."""
    killed = Counter(kill.job for kill in after.kills)
    for outcome in after.failures():
        if outcome.kind != "poison" or killed[outcome.job] < after.farm.settings.attempts:
            yield f"{outcome.job} was killed {killed[outcome.job]} times, and failed: {outcome.json_bytes().decode()}"


def nothing_is_half_written(after: Aftermath) -> Iterator[str]:
    for key, data in after.objects.items():
        record = next((kind for pattern, kind in RECORDS.items() if re.fullmatch(pattern, key)), None)
        try:
            if record:
                record.from_json(data)
            elif key.endswith(".jsonl"):
                for line in data.splitlines():
                    json.loads(line)
            elif key.endswith((".jpg", ".png")):
                Image.open(io.BytesIO(data)).load()
        except (MedleyError, ValueError, OSError) as error:
            yield f"{key} ({len(data)} bytes): {error}"


def every_result_names_its_files(after: Aftermath) -> Iterator[str]:
    for job, result in after.results.items():
        if result.job_id != job:
            yield f"{job} has the result of {result.job_id}"
        expected = {"pastiche.png", *PREVIEWS} | {
            keys.frame("", "", step).rpartition("//")[2] for step in result.frames
        }
        if set(result.files) != expected:
            yield f"{job} has the files {sorted(result.files)}, not {sorted(expected)}"
        for file in result.files.values():
            data = after.objects.get(file.key)
            if data is None:
                yield f"{job} names {file.key}, which is not there"
            elif (len(data), hashlib.sha256(data).hexdigest()) != (file.bytes, file.sha256):
                yield f"{job} names {file.key}, which has other bytes"


def results_and_outcomes_agree(after: Aftermath) -> Iterator[str]:
    yield from (f"{job} is painted, and not done" for job in after.results.keys() - after.outcomes.done)
    yield from (f"{job} is done, and has no result" for job in after.outcomes.done - after.results.keys())


def the_batch_is_finished_once(after: Aftermath) -> Iterator[str]:
    """And nothing that comes later changes that."""
    finished = Finished.from_json(after.finished)
    ended = len(after.outcomes.done), len(after.outcomes.failed)
    if (finished.done, finished.failed) != ended:
        yield f"finished.json has {finished.done} done and {finished.failed} failed, where {ended} are"
    name = after.batch.name
    made = [keys.failures(name), keys.contact_sheet(name), keys.video(name), keys.gallery(name)]
    yield from (f"{key} is not there" for key in made if key not in after.objects)
    if after.objects.get(keys.finished(after.batch.name)) != after.finished:
        yield "finished.json was written again"
    yield from (f"{key} still stands" for key in after.objects if key.startswith(keys.OPEN))


def redis_holds_no_message(after: Aftermath) -> Iterator[str]:
    ledger = after.farm.cluster.ledger

    def held() -> tuple[int, int]:
        return sum(ledger.queue_lengths().values()), ledger.unacknowledged()

    try:
        wait_until(lambda: held() == (0, 0), CALM_WITHIN_LEASES * after.farm.settings.lease_s, "no messages")
    except AssertionError as error:
        yield f"{held()} messages wait and are unacknowledged: {error}"


def no_message_was_set_aside(after: Aftermath) -> Iterator[str]:
    yield from (f"{aside}" for aside in after.farm.cluster.ledger.aside(limit=10))


def no_worker_is_deaf(after: Aftermath) -> Iterator[str]:
    """Each that is left takes a job, where each has one to take; others would paint what a deaf one leaves."""
    for call in range(ROLL_CALLS):
        heard = {worker.log: worker.deliveries() for worker in after.left}
        batch = after.farm.submit(f"roll-call-{call}", after.dataset, pairs=len(after.left), num_steps=60)
        after.farm.await_end(batch)
        deaf = [worker for worker in after.left if worker.deliveries() == heard[worker.log]]
        if not deaf:
            return
    yield from (f"{worker.log.name} took none of {ROLL_CALLS} jobs: {worker.program.log_tail()}" for worker in deaf)


PROMISES: tuple[Callable[[Aftermath], Iterator[str]], ...] = (
    redis_holds_no_message,  # first, so that all that may still come has come
    every_job_has_one_outcome,
    every_failure_is_the_jobs_own,
    nothing_is_half_written,
    every_result_names_its_files,
    results_and_outcomes_agree,
    the_batch_is_finished_once,
    no_message_was_set_aside,
    no_worker_is_deaf,  # last, as it has more painted
)


def broken_promises(after: Aftermath) -> list[str]:
    """Each promise that was broken, with the evidence."""
    return [f"{promise.__name__}: {evidence}" for promise in PROMISES for evidence in promise(after)]


def figures(after: Aftermath) -> str:
    """The figures of a storm in a line."""
    done, paintings = len(after.outcomes.done), after.paintings()
    kinds = Counter(outcome.kind for outcome in after.failures())
    whom = Counter(kill.whom for kill in after.kills)
    busy = sum(kill.job is not None for kill in after.kills)
    return (
        f"{after.batch.jobs} jobs, {done} done, failed {dict(kinds)}, {len(after.kills)} kills {dict(whom)}, "
        f"{busy} of them in a painting, {paintings.total() / max(done, 1):.3f} paintings per done job"
    )
