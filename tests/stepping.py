"""Real code that goes on one call to storage or Redis at a time, in whatever order a test wants.

Each piece runs in a thread of its own, a :class:`Process`, which rests before every call that it makes; there it can go
on, be killed, or get no answer. Only one goes on at a time, so that the same order gives the same story. The time is
the test's, too.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar, cast

import redis
from redis.client import Pipeline

from medley.broker.ledger import WAITS_S, Ledger
from medley.errors import StorageUnreachable
from medley.records.base import BatchName
from medley.settings import Settings
from medley.storage import Storage

Fault = Literal["killed", "away", "unanswered"]
"""What happens to a call: its process is killed before it; the service is away; it is made, and its answer is lost."""

TO_THE_END = 100_000
"""More calls than any process makes."""

HANGS_S = 60.0
"""Within which a process comes to its next call."""

T = TypeVar("T")


class Killed(BaseException):
    """A process was; nothing that it meant to do any more happens."""


class Process:
    """A call that is made one step at a time. ``at`` is the step before which it rests."""

    def __init__(self, name: str, call: Callable[[], None]) -> None:
        self.name = name
        self.at = "its start"
        self.ended = False
        self._call = call
        self._error: BaseException | None = None
        self._steps = 0
        self._fault: Fault | None = None
        self._killed = False
        self._go, self._rests = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def go_on(self, steps: int = TO_THE_END, fault: Fault | None = None) -> None:
        """Make so many steps, or all that are left; then this happens to the next one.

        Raises:
            BaseException: whatever the process ends with, unless it was killed.
        """
        self._steps, self._fault = steps, fault
        self._go.release()
        assert self._rests.acquire(timeout=HANGS_S), f"{self.name} hangs at {self.at}"
        if self._error:
            raise self._error

    def rest(self, at: str) -> Fault | None:
        """To be called before each step, which may be when the process goes on; returns what is to happen to it."""
        self.at = at
        while not self._killed and self._steps == 0:
            fault, self._fault = self._fault, None
            if fault == "killed":
                self._killed = True
            elif fault:
                return fault
            else:
                self._rests.release()
                self._go.acquire()
        if self._killed:  # whatever its `finally` tries does not happen either
            raise Killed
        self._steps -= 1
        return None

    def _run(self) -> None:
        _HERE.process = self
        self._go.acquire()
        try:
            self._call()
        except Killed:
            pass
        except BaseException as error:
            self._error = error
        self.ended = True
        self._rests.release()


_HERE = threading.local()


def here() -> Process | None:
    """The process that calls; None for the test itself, and for threads that help a process."""
    process: Process | None = getattr(_HERE, "process", None)
    return process


def step(at: str, call: Callable[[], T], error: Exception) -> T:
    """Make a call when its process goes on, or have it fail with this error; at once where no process calls."""
    process = here()
    fault = process.rest(at) if process else None
    if fault == "away":
        raise error
    answer = call()
    if fault == "unanswered":
        raise error
    return answer


class SteppingStorage:
    """A storage whose calls are steps; ``seen`` is told of each (method, key) before anyone else goes on."""

    def __init__(self, storage: Storage, seen: Callable[[str, str], None]) -> None:
        self.root = storage.root
        self._storage, self._seen = storage, seen

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._step, name, getattr(self._storage, name))

    def _step(self, name: str, method: Callable[..., Any], key: str, *args: Any, **options: Any) -> Any:
        def call() -> Any:
            answer = method(key, *args, **options)
            self._seen(name, key)
            return iter([*answer]) if name == "list" else answer

        return step(f"{name} {key}", call, StorageUnreachable("Storage is away."))


class SteppingLedger(Ledger):
    """A ledger whose commands are steps. Who would wait for a batch that another one enqueues gives up at once.

    ``redis`` is a client whose commands are none, and ``starts`` is how often this Redis is to have been started.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.starts = 1
        self.redis = self._redis
        self._redis = _SteppingRedis(connection_pool=self._redis.connection_pool)

    def server(self, section: str | None = None) -> dict[str, str | int | float]:
        """See :meth:`Ledger.server`."""
        return {**super().server(section), "run_id": str(self.starts)}

    def enqueuing(self, batch: BatchName, waits_s: float = WAITS_S) -> Any:
        """See :meth:`Ledger.enqueuing`."""
        return super().enqueuing(batch, min(waits_s, 0.0))


class _SteppingRedis(redis.Redis):
    def execute_command(self, *args: Any, **options: Any) -> Any:
        call = partial(super().execute_command, *args, **options)
        return step(" ".join(map(str, args[:2])), call, redis.ConnectionError("Redis is away."))

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Pipeline:
        return _SteppingPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _SteppingPipeline(Pipeline):
    def execute(self, raise_on_error: bool = True) -> list[Any]:
        what = ", ".join(" ".join(map(str, args[:2])) for args, _ in self.command_stack)
        return step(what, partial(super().execute, raise_on_error), redis.ConnectionError("Redis is away."))


class Clock:
    """The time, in Unix seconds: each look at it takes a millisecond, and nothing else takes any."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        """What a module's ``time.time`` and ``time.monotonic`` are to say."""
        self.now += 0.001
        return self.now

    monotonic = time


class Memory:
    """What a Redis knew at a moment: each key's value, and how many milliseconds it had left."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)  # whose answers are bytes
        self._values: list[tuple[bytes, bytes, int]] = []

    def keep(self) -> None:
        """Remember what it knows now."""
        names = cast(list[bytes], self._redis.keys())
        with self._redis.pipeline() as pipe:
            for name in names:
                pipe.dump(name)
                pipe.pttl(name)
            answers = pipe.execute()
        self._values = list(zip(names, answers[::2], answers[1::2], strict=True))

    def restore(self) -> None:
        """Have it know that, and nothing else."""
        with self._redis.pipeline() as pipe:
            pipe.flushall()
            for name, value, left_ms in self._values:
                pipe.restore(name, max(0, left_ms), value)
            pipe.execute()


_AGE = """
local expired = {}
for _, key in ipairs(redis.call('keys', '*')) do
    local left = redis.call('pttl', key)
    if left >= 0 and left <= tonumber(ARGV[1]) then
        redis.call('del', key)
        table.insert(expired, key)
    elseif left >= 0 then
        redis.call('pexpire', key, left - tonumber(ARGV[1]))
    end
end
return expired
"""


def age(client: redis.Redis, seconds: float) -> list[str]:
    """Have a Redis, whose clock is its own, expire what would expire in so many seconds; returns those keys."""
    expired: list[str] = client.eval(_AGE, 0, str(int(seconds * 1000)))
    return expired
