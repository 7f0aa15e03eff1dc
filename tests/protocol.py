"""A farm in one process: commands, deliveries and the reconciler, interleaved step by step, with what they promise.

All that decides anything is the real code, on a real Redis and in a real folder; only the painter has no network. What
must hold at every moment is looked at as it happens, see :class:`Farm`; :meth:`Farm.settle` sees that nothing is lost.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain, cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

from medley import keys
from medley.batches.chains import Followers
from medley.batches.control import cancel, pause, read_control, resume, retry
from medley.batches.ending import finish_batch
from medley.batches.reconciling import reconcile_all
from medley.batches.stored import read_batch, read_finished, read_manifest, read_result
from medley.broker.paintings import Progress
from medley.broker.queue import QUEUES, Sent, make_celery, publish_again
from medley.broker.roster import Painter
from medley.cluster import Cluster
from medley.errors import (
    BatchBusy,
    ImageError,
    JobHeld,
    NumbersError,
    OutOfMemory,
    PaintingStopped,
    RedisUnreachable,
    ServiceRefused,
    ServiceUnreachable,
    UsageError,
)
from medley.records.base import BatchName, JobId
from medley.records.batches import AnyBatch, Batch, QueueKind
from medley.records.jobs import StyleTransfer
from medley.records.kinds import Job
from medley.records.results import AnyResult, Result, Seconds
from medley.settings import Settings
from medley.storage import Storage
from medley.storage.folder import FolderStorage
from medley.telling import quiet
from medley_producer.submit import Request, submit
from medley_workers.jobs.attempt import Attempt
from medley_workers.jobs.delivery import deliver_message
from medley_workers.jobs.desk import CONTROL_READ_EVERY_S, Desk
from medley_workers.jobs.watching import Watch
from medley_workers.numbers.transfer import Step
from medley_workers.pulse import Pulse
from outcomes import Outcomes, list_outcomes
from stepping import Clock, Memory, Process, SteppingLedger, SteppingStorage, age, here, step

Fate = Literal["well", "image", "numbers", "memory", "bug"]
"""What comes of a painting, if nothing happens to its process."""

Command = Literal["submit", "pause", "cancel", "resume", "retry", "reconcile"]

WORKERS = ("w1#0", "w2#0", "w3#0")

GIVEN_BACK = (ServiceUnreachable, ServiceRefused, JobHeld, OutOfMemory, PaintingStopped, BatchBusy)
"""What a task gives its message back for, see medley_workers/tasks.py."""

REFUSED = (UsageError, BatchBusy, ServiceUnreachable, ServiceRefused)
"""What a command tells its user, who then knows that it was not done, or not all of it."""

LOOK_S = 30.0
"""No more time passes at once, as a painter that is well reports within any 35 s (a lease less a renewal)."""

BUNDLE = 3
"""Jobs that share a message."""

ROUNDS = 30
"""Of looking after everything, a lease each, within which nothing must be left to do."""


class _NoPulse:
    """Of painters that renew what they hold only while time passes."""

    def advance(self) -> None:
        """A step was made."""


class Delivery:
    """A message in a worker's hands. ``retries``, and ``lapses`` of its jobs, are those of when it was taken.

    Its ``fate`` is that of the one job in the midst of the others, which are painted well. ``again`` are the jobs that
    it was sent anew for.
    """

    def __init__(
        self, worker: str, message: Any, fate: Fate, taken_at: float, retries: Counter[tuple[BatchName, JobId]]
    ) -> None:
        self.worker, self.message, self.fate, self.taken_at, self.retries = worker, message, fate, taken_at, retries
        name, *jobs = message.payload[0]
        self.batch: BatchName = name
        self.jobs = [StyleTransfer.model_validate(job) for job in chain(*jobs)]
        self.lapses: dict[JobId, int] = {}
        self.paints: set[JobId] = set()
        self.again: set[JobId] = set()
        kind = next(kind for kind, queue in QUEUES.items() if queue == message.delivery_info["routing_key"])
        self.sent = Sent(kind, message.headers["at"], bool(message.delivery_info.get("redelivered")))

    def __str__(self) -> str:
        jobs = ", ".join(job.id[:4] for job in self.jobs)
        return f"{self.worker} {f'paints {jobs} of' if self.jobs else 'ends'} {self.batch}"

    def fate_of(self, job: JobId) -> Fate:
        """What comes of a job's painting."""
        return self.fate if job == self.jobs[len(self.jobs) // 2].id else "well"


class Farm:
    """One farm on an empty Redis and an empty folder, over these requests for batches that share jobs.

    What is broken of the following is said at once:

    - finished.json stands only where every job has an outcome;
    - an outcome that says done has a result whose files stand there, with their digests;
    - a message is acknowledged only where its job has an outcome, or its batch was stopped or is gone;
    - what is painted, or being painted, is painted again only where a hold ran out, or Redis was lost;
    - by the ledger a batch has no more jobs than it has;
    - a batch that runs and has not ended is open, for the reconciler to find.
    """

    def __init__(
        self, redis_url: str, folder: Path, requests: dict[BatchName, tuple[Request, QueueKind]], clock: Clock
    ) -> None:
        self.settings = Settings(redis_url=redis_url, storage_url=folder.as_uri(), bundle=BUNDLE)
        self.storage: Storage = FolderStorage(folder)
        self.ledger = SteppingLedger(self.settings)
        self.ledger.redis.flushall()
        stepping = cast(Storage, SteppingStorage(self.storage, self._see))
        self.cluster = Cluster(self.settings, stepping, self.ledger, make_celery(self.settings))
        self._memory = Memory(redis_url)
        self.commands: dict[Process, float] = {}
        self.deliveries: dict[Process, Delivery] = {}
        self.paintings: Counter[JobId] = Counter()
        self._requests, self._clock = requests, clock
        self._channel = self.cluster.app.connection_for_read().channel()
        self._desks = {worker: Desk(self.cluster, worker, self._paint) for worker in WORKERS}
        self._desks[WORKERS[-1]].paint_together = self._paint_together
        self._jobs: dict[BatchName, set[JobId]] = {}
        self._lapses: Counter[JobId] = Counter()
        self._losses = 0
        self._retries: Counter[tuple[BatchName, JobId]] = Counter()
        self._committed: dict[JobId, int] = {}
        self._stopped_until: dict[BatchName, float] = {}
        self._finished_at: dict[BatchName, float] = {}
        self._overtaken: set[BatchName] = set()
        self._greet()

    def close(self) -> None:
        """Kill what is under way."""
        for process in self.under_way:
            process.go_on(0, "killed")
        self._channel.connection.client.close()

    @property
    def under_way(self) -> list[Process]:
        """The processes that have not ended."""
        return [process for process in (*self.commands, *self.deliveries) if not process.ended]

    @property
    def free_workers(self) -> list[str]:
        """Those with nothing in their hands."""
        busy = {delivery.worker for process, delivery in self.deliveries.items() if not process.ended}
        return [worker for worker in WORKERS if worker not in busy]

    @property
    def waiting(self) -> list[QueueKind]:
        """The queues in which messages wait."""
        return [kind for kind, length in self.ledger.queue_lengths().items() if length]

    # What happens

    def command(self, what: Command, name: BatchName) -> Process:
        """Begin a command about a batch."""

        def call() -> None:
            with suppress(*REFUSED):
                self._obey(what, name)

        process = Process(f"{what} {name}", call)
        self.commands[process] = self._clock.now
        return process

    def take(self, worker: str, kind: QueueKind, fate: Fate) -> Process | None:
        """Have a worker take the next message of a queue; None if none waits."""
        self._memory.keep()
        message = self._channel.basic_get(QUEUES[kind])
        if message is None:
            return None
        delivery = Delivery(worker, message, fate, self._clock.now, self._retries.copy())
        delivery.lapses = {job.id: self._lapse(job.id) for job in delivery.jobs}
        process = Process(str(delivery), lambda: self._deal_with(delivery))
        self.deliveries[process] = delivery
        return process

    def lose_redis(self) -> None:
        """Have Redis come back empty."""
        self.ledger.redis.flushall()
        self.ledger.starts += 1
        self._losses += 1

    def lose_what_is_new(self) -> None:
        """Have Redis come back with what it knew before the last delivery began."""
        self._memory.restore()
        self.ledger.starts += 1
        self._losses += 1

    def lose_message(self, kind: QueueKind) -> None:
        """Have the next message vanish between two of kombu's commands."""
        self.ledger.redis.rpop(QUEUES[kind])

    def double_message(self, kind: QueueKind) -> None:
        """Have the next message delivered twice."""
        if text := self.ledger.redis.lindex(QUEUES[kind], -1):
            self.ledger.redis.lpush(QUEUES[kind], text)

    def pass_time(self, seconds: float, *, silently: bool = False) -> None:
        """Let time pass, in which all that are at work renew what they hold, unless they do so silently."""
        while seconds > 0:
            some_s = min(seconds, LOOK_S)
            if not silently:
                self._renew()
            self._clock.now += some_s
            for key in age(self.ledger.redis, some_s):
                self._lapses[key.removeprefix("medley:holder:")] += 1
            if some_s >= CONTROL_READ_EVERY_S["running"]:
                for desk in self._desks.values():
                    desk._controls = {}
            seconds -= some_s
        if not silently:
            self._renew()
        self._channel.qos.restore_visible(num=1_000, interval=1)

    # What must hold

    def check(self) -> None:
        """See that every promise holds now."""
        for batch in self._batches():
            outcomes = list_outcomes(self.storage, batch.name)
            counts = self.ledger.counts(batch.name)
            assert max(counts.ended, counts.enqueued) <= batch.jobs, f"{batch.name} has {counts} of {batch.jobs} jobs"
            for job in outcomes.done:
                self._check_result(job)
            if self.storage.exists(keys.finished(batch.name)):
                lacking = self._jobs_of(batch) - outcomes.all
                assert batch.name in self._overtaken or not lacking, f"{batch.name} is finished, but lacks {lacking}"
            elif not self.under_way and read_control(self.storage, batch.name) == "running":
                assert self.storage.exists(keys.open_batch(batch.name)), f"{batch.name} runs, but is not open"

    def settle(self) -> None:
        """Let everything come to its end, and see that nothing was lost: nobody submits or resumes anything for that,
        but for what its user was told has failed, or stands still. Then what failed is tried again, and is done.
        """
        for process in self.under_way:
            process.go_on()
        self.check()
        self._come_to_an_end()
        for batch in self._batches():
            retry(self.cluster, batch)
        self._come_to_an_end()
        for batch in self._batches():
            assert list_outcomes(self.storage, batch.name) == Outcomes(self._jobs_of(batch), set())

    def _come_to_an_end(self) -> None:
        for _ in range(ROUNDS):
            self.pass_time(self.settings.lease_s + 5)
            self._mend()
            reconcile_all(self.cluster)
            self._deliver_all()
            self.check()
            if not any(self._left()):
                break
        else:
            raise AssertionError(f"still {self._left()} after {ROUNDS} rounds")
        for batch in self._batches():
            outcomes, finished = list_outcomes(self.storage, batch.name), read_finished(self.storage, batch.name)
            assert outcomes.all == self._jobs_of(batch)
            assert finished, f"{batch.name} has no end"
            assert (finished.done, finished.failed) == (len(outcomes.done), len(outcomes.failed))

    def _check_result(self, job: JobId) -> None:
        result = read_result(self.storage, job)
        assert result, f"{job[:4]} is done, but has no result"
        assert result.files
        for file in result.files.values():
            assert hashlib.sha256(self.storage.get(file.key)).hexdigest() == file.sha256

    def _check_acknowledged(self, delivery: Delivery) -> None:
        name = delivery.batch
        ended = list_outcomes(self.storage, name).all | delivery.again
        was_stopped = self._stopped_until.get(name, 0.0) > delivery.taken_at - CONTROL_READ_EVERY_S["running"]
        for job in delivery.jobs:
            was_retried = self._retries[name, job.id] > delivery.retries[name, job.id]
            is_well = job.id in ended or not self._batch(name) or was_retried or was_stopped
            assert is_well, f"{delivery} is acknowledged, and {job.id[:4]} has no outcome"

    def _check_painted_once(self, delivery: Delivery, job: JobId) -> None:
        now = self._lapse(job)
        for process, other in self.deliveries.items():
            if other is not delivery and not process.ended and job in other.paints:
                assert now > other.lapses[job], f"{delivery} while {other}"
        if self.storage.exists(keys.result(job)):
            assert now > self._committed[job], f"{delivery} though it is painted"

    def _check_finished(self, batch: AnyBatch) -> None:
        """See that every job has ended; or else has been tried again since it had: then the end must be taken back."""
        self._finished_at[batch.name] = self._clock.now
        lacking = self._jobs_of(batch) - list_outcomes(self.storage, batch.name).all
        finisher = self._here()
        for job in lacking:
            before = finisher.retries[batch.name, job]
            assert self._retries[batch.name, job] > before, f"{finisher}, but {job[:4]} has no outcome"
        self._overtaken.discard(batch.name)
        if lacking:
            self._overtaken.add(batch.name)

    def _see(self, method: str, key: str) -> None:
        """Storage was changed, perhaps."""
        process = here()
        for name in self._requests:
            if method == "put" and key == keys.control(name):
                stopped = read_control(self.storage, name) != "running"
                self._stopped_until[name] = float("inf") if stopped else self._clock.now
            elif key == keys.finished(name) and (batch := self._batch(name)):
                if method == "put":
                    self._check_finished(batch)
                elif method == "delete":
                    self._overtaken.discard(name)
            elif method == "delete" and key.startswith(keys.outcomes(name)):
                self._retries[name, key.removeprefix(keys.outcomes(name)).partition(".")[0]] += 1
                began = self.commands.get(process, self._clock.now) if process else self._clock.now
                if self._finished_at.get(name, 0.0) > began:
                    self._overtaken.add(name)
        if method == "put_new" and process in self.deliveries and (lapses := self.deliveries[process].lapses):
            job = key.split("/")[1]
            self._committed.setdefault(job, lapses[job])

    # Who does what

    def _obey(self, what: Command, name: BatchName) -> None:
        if what == "reconcile":
            return reconcile_all(self.cluster)
        if what == "submit":
            request, kind = self._requests[name]
            submit(self.cluster, request, kind, quiet)
        elif batch := read_batch(self.cluster.storage, name):
            act: Callable[[Cluster, AnyBatch], object] = {
                "pause": pause, "cancel": cancel, "resume": resume, "retry": retry
            }[what]  # fmt: skip
            act(self.cluster, batch)
        return None

    def _deal_with(self, delivery: Delivery) -> None:
        """What a task does, see medley_workers/tasks.py."""
        qos, tag = self._channel.qos, delivery.message.delivery_tag
        away = ServiceUnreachable("The lease will run out.")
        self._desks[delivery.worker].followers = Followers()  # each delivery has a thread of its own here
        with suppress(ServiceUnreachable):
            try:
                if delivery.jobs:
                    deliver_message(self._desks[delivery.worker], delivery.batch, delivery.jobs, delivery.sent)
                else:
                    finish_batch(self.cluster, delivery.batch, lambda: None)
            except GIVEN_BACK as error:
                if isinstance(error, PaintingStopped):
                    qos.front.add(tag)
                step("give back", lambda: qos.reject(tag, requeue=True), away)
            else:
                self._check_acknowledged(delivery)
                step("acknowledge", lambda: qos.ack(tag), away)

    def _paint(self, job: Job, batch: AnyBatch) -> Result:
        """Paint as the delivery's fate has it, see medley_workers/painting.py; the pictures are of no matter here."""
        assert isinstance(job, StyleTransfer)
        assert isinstance(batch, Batch)
        delivery = self._here()
        assert job.init is None or self.storage.exists(keys.result(job.init)), f"{delivery} before what it begins with"
        self.paintings[job.id] += 1
        self._check_painted_once(delivery, job.id)
        delivery.paints.add(job.id)
        watch = Watch(self.cluster, cast(Pulse, _NoPulse()), delivery.worker, batch, job)
        attempt = Attempt(self.cluster.storage, job.id)
        with attempt.or_nothing():
            self._look(watch, 0)
            attempt.store_frame(0, attempt.token.encode())
            self._look(watch, 1)
            match delivery.fate_of(job.id):
                case "image":
                    raise ImageError("It is truncated.")
                case "numbers":
                    raise NumbersError("It is one flat colour.")
                case "memory":
                    raise OutOfMemory("There is no room.")
                case "bug":
                    raise ZeroDivisionError("by nought")
            attempt.store_picture(attempt.token.encode())
        result = Result(
            job_id=job.id, batch=batch.name, content=job.content, styles=job.styles, options=batch.options,
            engine=batch.engine, weights=batch.weights, size=(4, 3), steps=1, losses=((0, 2.0), (1, 1.0)), loss=1.0,
            content_loss=0.5, png_loss=1.5, frames=(0,), files=attempt.files, device="cpu", precision="float32",
            versions={}, seconds=Seconds(load=0, paint=1, store=0, total=1), attempt=attempt.token,
            worker=delivery.worker, finished_at=datetime.now(UTC),
        )  # fmt: skip
        return attempt.commit(result)

    def _paint_together(self, jobs: Sequence[Job], batch: AnyBatch) -> Iterator[tuple[JobId, AnyResult | Exception]]:
        """Paint all, if nothing ends that; what one of them fails of, only that one does."""
        for job in jobs:
            try:
                yield job.id, self._paint(job, batch)
            except Exception as error:
                yield job.id, error

    def _here(self) -> Delivery:
        return self.deliveries[cast(Process, here())]

    def send_again(self, *args: Any, **options: Any) -> None:
        """Have jobs go out anew."""
        *_, jobs = args
        away = RedisUnreachable("Redis is away.")
        step("send again", lambda: publish_again(*args, **options), away)
        self._here().again |= {job.id for job in jobs}

    def _look(self, watch: Watch, index: int) -> None:
        watch._read_at = float("-inf")  # it is a while ago
        watch.look(cast(Step, SimpleNamespace(index=index)), 1.0)

    def _renew(self) -> None:
        """What is at work says so."""
        self._greet()
        for process, delivery in self.deliveries.items():
            if process.ended:
                continue
            self.ledger.renew_lease(delivery.message.delivery_tag)
            for job in sorted(delivery.paints):
                progress = Progress(step=0, steps=1, worker=delivery.worker, at=self._clock.time())
                self.ledger.report(delivery.batch, job, progress)

    def _greet(self) -> None:
        for worker in WORKERS:
            served = tuple(QUEUES.values())
            self.ledger.greet(Painter(name=worker, queues=served, device="cpu", model_loads=1, jobs=0))

    # The end

    def _mend(self) -> None:
        """Do again what a user was told has failed, and go on with what stands still."""
        for name in self._requests:
            batch = self._batch(name)
            with suppress(BatchBusy):
                if not batch and self.storage.exists(keys.open_batch(name)):
                    self._obey("submit", name)
                elif batch and read_control(self.storage, name) != "running" and not self._ended(name):
                    self._obey("resume", name)

    def _deliver_all(self) -> None:
        """Deliver what waits, once each, by all workers in turn."""
        workers = cycle(WORKERS)
        for kind, waiting in self.ledger.queue_lengths().items():
            for _ in range(waiting):
                if process := self.take(next(workers), kind, "well"):
                    process.go_on()

    def _left(self) -> tuple[list[str], int, int]:
        waiting = sum(self.ledger.queue_lengths().values())
        unended = [batch.name for batch in self._batches() if not self._ended(batch.name)]
        return [*unended, *self.storage.list(keys.OPEN)], waiting, self.ledger.unacknowledged()

    def _ended(self, name: BatchName) -> bool:
        return self.storage.exists(keys.finished(name))

    def _lapse(self, job: JobId) -> int:
        return self._lapses[job] + self._losses

    def _batch(self, name: BatchName) -> AnyBatch | None:
        return read_batch(self.storage, name)

    def _batches(self) -> Iterator[AnyBatch]:
        return (batch for name in self._requests if (batch := self._batch(name)))

    def _jobs_of(self, batch: AnyBatch) -> set[JobId]:
        if batch.name not in self._jobs:
            self._jobs[batch.name] = {job.id for job in read_manifest(self.storage, batch)}
        return self._jobs[batch.name]
