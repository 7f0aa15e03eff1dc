"""A storm: a batch on a small farm whose processes are killed, whose Redis dies, and whose storage fails and goes away.

Nobody submits again: what recovers is the farm's own doing. What must hold afterwards is in :mod:`aftermath`.
"""

import math
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import psutil
import redis

from aftermath import Aftermath, Kill, broken_promises, figures, job_in_hand
from conftest import draw_picture, wait_until
from farm import Farm, Worker, open_farm
from faults import FaultyProxy, faulty
from medley import keys
from medley.records.batches import Batch
from medley_producer.local import Owned, redis_server, redis_url
from outcomes import list_outcomes
from servers import S3Server

NAME = "storm"
RESTARTS_AFTER_S = 1.0
"""A worker program that ended is started again, as systemd would."""

ASKS_EVERY_S = 0.3
"""How often the outcomes are counted, by which the storm goes on."""

Keeps = Literal["data", "nothing"]
"""What a Redis still has when it is back."""


@dataclass(frozen=True)
class Weather:
    """What a storm does. Everything is spread over the batch's progress, so that a slow machine sees as much of it.

    ``kills`` are SIGKILLs of painters, of their parents, or of both; Redis is killed once for each of
    ``redis_deaths``; storage is away ``outages`` times for ``outage_s``, and fails the share ``failing`` of all
    requests throughout. Messages carry up to ``bundle`` jobs.
    """

    seed: int
    jobs: int = 300
    workers: int = 3
    kills: int = 30
    redis_deaths: tuple[Keeps, ...] = ("data", "nothing")
    outages: int = 3
    outage_s: float = 10.0
    failing: float = 0.2
    bundle: int = 4


class Event(NamedTuple):
    """What happens ``delay_s`` after this share (0..1) of the batch has ended."""

    share: float
    delay_s: float
    happen: Callable[[], None]


class MortalRedis:
    """A Redis on a unix socket, with an append-only file, that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.url = redis_url(folder)
        self._folder = folder
        self._data = folder / "data"
        self._server: Owned | None = None

    def start(self) -> None:
        """Start it with whatever data it has, and wait until it answers."""
        self._data.mkdir(exist_ok=True)
        options = {"port": "0", "unixsocket": f"{self._folder}/redis.sock", "dir": str(self._data), "save": ""}
        options |= {"appendonly": "yes", "maxmemory-policy": "noeviction"}
        command = [redis_server(), *(part for key, value in options.items() for part in (f"--{key}", value))]
        self._server = Owned(command, self._folder / "redis.log")
        wait_until(self._answers, 10, "Redis to answer")

    def kill(self) -> None:
        """End it as a machine that is lost does."""
        if self._server:
            with suppress(ProcessLookupError):
                os.killpg(self._server._process.pid, signal.SIGKILL)
            self._server.stop()
            self._server = None

    def lose_data(self) -> None:
        """Have it start empty."""
        shutil.rmtree(self._data)

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client, suppress(redis.RedisError):
            return bool(client.ping())
        return False


@contextmanager
def mortal_redis() -> Iterator[MortalRedis]:
    """Such a Redis until the block is left."""
    # A socket's path has at most 107 bytes, which some machines' own temporary folder uses up.
    parent = None if len(tempfile.gettempdir()) < 60 else "/tmp"  # noqa: S108, the folder made in it is private
    with tempfile.TemporaryDirectory(prefix="medley-storm-", dir=parent) as folder:
        server = MortalRedis(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()


class Storm:
    """A storm over one batch, a tick at a time."""

    def __init__(self, farm: Farm, batch: Batch, server: MortalRedis, proxy: FaultyProxy, weather: Weather) -> None:
        self.kills: list[Kill] = []
        self.story: list[str] = []
        self._farm, self._batch, self._redis, self._proxy, self._weather = farm, batch, server, proxy, weather
        self._random = random.Random(weather.seed)
        self._began = time.monotonic()
        self._share = 0.0
        self._asked_at = float("-inf")
        self._events = sorted(self._plan(), key=lambda event: event.share)
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.running: list[Worker] = []
        for _ in range(weather.workers):
            self._start_worker()

    def tick(self) -> bool:
        """Do what is due; true when everything has happened and the batch is finished."""
        for worker in [worker for worker in self.running if not worker.program.alive()]:
            self._tell(f"{worker.log.name} ended with {worker.program.exit_code}")
            self.running.remove(worker)
            self._after(RESTARTS_AFTER_S, self._start_worker)
        self._look()
        while self._events and self._events[0].share <= self._share:
            event = self._events.pop(0)
            self._after(event.delay_s, event.happen)
        due = [each for each in self._later if each[0] <= time.monotonic()]
        self._later = [each for each in self._later if each not in due]
        for _, happen in due:
            happen()
        if self._events or self._later:
            return False
        exists = self._farm.cluster.storage.exists
        return exists(keys.finished(self._batch.name)) and not exists(keys.open_batch(self._batch.name))

    def _plan(self) -> Iterator[Event]:
        """Kills anywhere; the rest together with one of them, as trouble seldom comes alone. One of each comes last,
        when every job has ended and the batch is being finished.
        """
        weather, draw = self._weather, self._random.uniform
        kills = [1.0, *(draw(0.0, 1.0) for _ in range(weather.kills - 1))] if weather.kills else []
        for share in kills:
            yield Event(share, draw(0.0, 1.0), self._kill)
        others: list[Callable[[], None]] = [self._go_away] * weather.outages
        others += [partial(self._kill_redis, keeps) for keeps in weather.redis_deaths]
        self._random.shuffle(others)
        for number, happen in enumerate(others, start=1):  # one after the other, as each lasts
            least, most = (number - 1) / len(others), number / len(others)
            near = [share for share in kills if least <= share < most] or [draw(least, most)]
            yield Event(1.0 if number == len(others) else self._random.choice(near), draw(0.0, 1.0), happen)

    def _look(self) -> None:
        if time.monotonic() - self._asked_at >= ASKS_EVERY_S:
            self._share = len(list_outcomes(self._farm.cluster.storage, self._batch.name).all) / self._batch.jobs
            self._asked_at = time.monotonic()

    def _after(self, delay_s: float, happen: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + delay_s, happen))

    def _start_worker(self) -> None:
        self.running.append(self._farm.start_worker(s3_endpoint_url=self._proxy.url))

    def _kill(self) -> None:
        """Kill a random painter, its parent, or both; later, if there is none now."""
        whom = self._random.choice(("painter", "painter", "parent", "both"))
        worker = self._random.choice(self.running) if self.running else None
        victims: list[psutil.Process] = []
        if worker:
            with suppress(psutil.Error):  # it ends by itself just now
                painters = worker.painters()
                parent = [] if whom == "painter" and painters else [worker.parent]
                victims = parent + (painters if whom != "parent" else [])
                for victim in victims:
                    victim.kill()
        if not worker or not victims:
            self._after(1.0, self._kill)
            return
        log = worker.log.read_text()
        self.kills.append(Kill(whom, job_in_hand(log, self._batch.name)))
        self._tell(f"killed {whom} of {worker.log.name}, which had {self.kills[-1].job or 'nothing'} in hand")

    def _kill_redis(self, keeps: Keeps) -> None:
        self._tell(f"Redis killed; it keeps {keeps}")
        self._redis.kill()
        if keeps == "nothing":
            self._redis.lose_data()
        self._after(self._random.uniform(0.5, 4.0), self._redis.start)

    def _go_away(self) -> None:
        self._tell("storage away")
        self._proxy.away()
        self._after(self._weather.outage_s, self._come_back)

    def _come_back(self) -> None:
        self._proxy.back()
        self._tell("storage back")

    def _tell(self, what: str) -> None:
        self.story.append(f"{time.monotonic() - self._began:6.1f} s, {self._share:4.0%}: {what}")


def storm(folder: Path, server: S3Server, storage_url: str, weather: Weather, within_s: float) -> None:
    """Let a storm go over a batch in an empty folder; prints its story where a promise is broken, and its figures.

    Raises:
        AssertionError: the batch did not end ``within_s``, or promises were broken: each by name, with the evidence.
    """
    with (
        mortal_redis() as redis_server,
        faulty(server.endpoint_url, weather.failing, weather.seed) as proxy,
        open_farm(
            folder,
            redis_server.url,
            storage_url,
            s3_endpoint_url=server.endpoint_url,
            processes=1,
            reconcile_s=3.0,
            bundle=weather.bundle,
        ) as farm,
    ):
        steps = random.Random(weather.seed).randint(3, 8)
        side = math.isqrt(weather.jobs - 1) + 1
        dataset = draw_dataset(folder / "data", side, side)
        batch = farm.submit(NAME, dataset, pairs=weather.jobs, num_steps=steps, frame_every=2)
        began = time.monotonic()
        passing = Storm(farm, batch, redis_server, proxy, weather)
        try:
            wait_until(passing.tick, within_s, "the end of the batch")
            seconds = time.monotonic() - began
            faults = f"{proxy.requests} requests, {sum(proxy.faults.values())} failed"
            proxy.share = 0.0
            finished = farm.cluster.storage.get(keys.finished(NAME))
            after = Aftermath(farm, dataset, batch, passing.kills, finished, passing.running)
            broken = broken_promises(after)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *passing.story, farm.told()])) from error
        print(f"\nstorm of seed {weather.seed}: {seconds:.0f} s, {steps} steps a job, {faults}, {figures(after)}")
        assert not broken, "\n".join([*broken, *passing.story])


def draw_dataset(folder: Path, contents: int, styles: int) -> Path:
    """A folder with so many contents and styles; returns it."""
    for n in range(contents):
        draw_picture(folder / "contents" / f"photo{n}.jpg", seed=n)
    for n in range(styles):
        draw_picture(folder / "styles" / f"paint{n}.png", seed=1000 + n)
    return folder
