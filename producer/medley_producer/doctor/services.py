"""Whether Redis and storage serve us as they must, and who is up to paint."""

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from statistics import median

from medley.broker.ledger import Ledger
from medley.broker.messages import SET_ASIDE
from medley.broker.queue import make_celery
from medley.errors import MedleyError, PermanentError, RedisRefused, UsageError
from medley.records.jobs import ENGINE
from medley.redacting import without_password
from medley.settings import Settings
from medley.storage import Storage, open_storage
from medley.telling import shown
from medley_producer.doctor.findings import Finding, refusal
from medley_producer.doctor.machine import nearest, storage_folder
from medley_producer.extras import workers_module
from medley_producer.local import private_redis

REDIS_NEEDED = (6, 2)
"""The first Redis with SMISMEMBER, which the ledger uses."""

STORAGE_SKEW_S = 60.0
"""Clocks that are kept (NTP) agree to a second, and S3 refuses requests from one that is 15 minutes off."""

_SAMPLES = 5
_SAMPLING_S = 1.0
"""A latency is the median of so many calls, or of those that fit into this time."""


def redis(settings: Settings) -> Iterator[Finding]:
    """Whether Redis answers, is new enough, keeps what it is given, and agrees on the time; and who is up to paint.

    Without a cluster, whether the private Redis of ``medley run`` starts.

    Raises:
        UsageError: storage is set, and Redis is not; or its URL cannot be used.
        RedisUnreachable, RedisRefused: it does not serve us.
    """
    if settings.redis_url is None and settings.storage_url is None:
        yield _private(settings)
        return
    make_celery(settings)  # refuses what would have Celery use another Redis
    ledger = Ledger(settings)
    ledger.check()
    yield from _served(ledger, without_password(settings.redis))
    yield _redis_clock(ledger, settings)
    yield _workers(ledger)
    yield from _stopped(ledger)
    yield from _queues(ledger)
    yield from _set_aside(ledger)


def _private(settings: Settings) -> Finding:
    with private_redis() as url:
        told = Ledger(settings.model_copy(update={"redis_url": url})).server()
    return Finding("Redis", "green", f"none set; a private {told['redis_version']} starts, for `medley run`")


def _served(ledger: Ledger, where: str) -> Iterator[Finding]:
    latency = f"{median_ms(ledger.check):.1f} ms"
    try:
        told = ledger.server()
    except RedisRefused:  # its sentence would blame the password
        found = f"{where} answers in {latency}, and gives no right to INFO, so its version and settings are unknown"
        yield Finding("Redis", "yellow", found, "`redis-cli ACL SETUSER <user> +info`")
        return
    said = str(told.get("redis_version", "0"))
    if tuple(int(part) for part in re.findall(r"\d+", said)[:2]) < REDIS_NEEDED:
        remedy = f"Install Redis {'.'.join(map(str, REDIS_NEEDED))} or newer."
        yield Finding("Redis", "red", f"{said} at {where}, which is too old", remedy)
    else:
        yield Finding("Redis", "green", f"{said} at {where}, answers in {latency}")
    yield _eviction(str(told.get("maxmemory_policy", "an unknown policy")))
    yield _persistence(bool(told.get("aof_enabled")))


def _eviction(policy: str) -> Finding:
    if policy == "noeviction":
        return Finding("Redis eviction", "green", policy)
    remedy = "`redis-cli CONFIG SET maxmemory-policy noeviction`, and the same in redis.conf"
    return Finding("Redis eviction", "red", f"{policy}: a full Redis may drop messages and queues", remedy)


def _persistence(appends: bool) -> Finding:
    if appends:
        return Finding("Redis persistence", "green", "an append-only file")
    remedy = "`redis-cli CONFIG SET appendonly yes`, and the same in redis.conf; after a loss, workers enqueue it again"
    found = "no append-only file: what is enqueued is lost when Redis ends"
    return Finding("Redis persistence", "yellow", found, remedy)


def _redis_clock(ledger: Ledger, settings: Settings) -> Finding:
    skew_s = ledger.clock_skew_s()
    if abs(skew_s) <= settings.clock_skew_s:
        return Finding("Redis clock", "green", f"{abs(skew_s):.3f} s from this machine's")
    sentence = workers_module("jobs.suspicion").clock_sentence(skew_s)
    return refusal("Redis clock", UsageError(sentence))


def _workers(ledger: Ledger) -> Finding:
    try:
        painters = ledger.painters()
    except UsageError as error:  # what another version tells of itself
        return Finding("workers", "yellow", f"one of another version is up: {error}", _SAME)
    waiting = sum(ledger.queue_lengths().values())
    ours = f"{version('medley-farm')} (engine {ENGINE})"
    if waiting and all(painter.engine != ENGINE for painter in painters):
        return Finding("workers", "red", f"none of engine {ENGINE} is up, and {waiting:,} messages wait", _START)
    if not painters:
        return Finding("workers", "yellow", "none is up", _START)
    versions = {painter.name: f"{painter.version} (engine {painter.engine})" for painter in painters}
    if others := [f"{name} is {said}" for name, said in versions.items() if said != ours]:
        return Finding("workers", "yellow", f"{', '.join(others)}, and this machine is {ours}", _SAME)
    return Finding("workers", "green", f"{', '.join(versions)}: {ours}")


_START = "`medley worker` on each machine that is to paint"
_SAME = "Install the same version on every machine."


def _stopped(ledger: Ledger) -> Iterator[Finding]:
    if stopped := ledger.stopped():
        found = "; ".join(f"{shown(name)} stopped: {shown(why)}" for name, why in stopped.items())
        yield Finding("stopped workers", "yellow", found, "Mend what it says, and start `medley worker` there again.")


def _queues(ledger: Ledger) -> Iterator[Finding]:
    told = ", ".join(f"{kind} {length:,}" for kind, length in ledger.queue_lengths().items())
    yield Finding("queues", "green", f"{told}; with workers {ledger.unacknowledged():,}")
    with suppress(UsageError):  # which the workers' finding tells
        served = {str(painter.engine) for painter in ledger.painters()}
        for name, length in ledger.foreign_queue_lengths().items():
            if name.rpartition(".")[2] not in served:
                found = f"{name} holds {length:,} messages of another version, and none of its workers is up"
                remedy = f"Start a worker of that version, or drop them: `redis-cli DEL {name}`, and submit again"
                yield Finding("queues", "yellow", found, remedy)


def _set_aside(ledger: Ledger) -> Iterator[Finding]:
    if newest := next(iter(ledger.aside(1)), None):
        found = f"{ledger.set_aside_messages():,} set aside, never run; the newest: {shown(str(newest['reason']))}"
        remedy = f"`redis-cli LRANGE {SET_ASIDE} 0 9` shows them: find who sent them; then `redis-cli DEL {SET_ASIDE}`"
        yield Finding("messages", "yellow", found, remedy)


def storage(settings: Settings) -> Iterator[Finding]:
    """Whether storage lets us do what medley does, honours create-only puts, and agrees on the time.

    Raises:
        UsageError: Redis is set, and storage is not; or its URL cannot be used.
        StorageUnreachable, StorageRefused: it does not serve us.
    """
    if settings.storage_url is None and settings.redis_url is None:
        yield Finding("storage", "green", "none set; `medley run` needs none")
        return
    folder = storage_folder(settings.storage)
    if folder and not folder.exists() and nearest(folder).is_dir() and os.access(nearest(folder), os.W_OK):
        found = f"{folder} does not exist; the first command that uses it will make it"
        yield Finding("storage", "yellow", found, "Mount it, or correct MEDLEY_STORAGE_URL, if it should be there.")
        return
    opened = open_storage(settings.storage, settings.model_copy(update={"read_timeout_s": settings.connect_timeout_s}))
    opened.check()
    rights = _rights(opened)
    yield rights
    if rights.state == "green":
        yield _conditions(opened)
    yield from _storage_clock(opened)


def _rights(opened: Storage) -> Finding:
    """Do all that medley does to objects, to one of our own, which does not stay."""
    key, took_ms, refused = f"probe/{secrets.token_hex(16)}", {}, {}
    steps: dict[str, Callable[[], object]] = {
        "put": lambda: opened.put(key, b"medley"),
        "get": lambda: opened.get(key),
        "list": lambda: list(opened.list(key)),
        "delete": lambda: opened.delete(key),
    }
    try:
        for name, step in steps.items():
            if name != "get" or "put" not in refused:
                try:
                    took_ms[name] = median_ms(step)
                except PermanentError as error:
                    refused[name] = error
    finally:
        with suppress(MedleyError):
            opened.delete(key)
    if refused:
        return refusal("storage", next(iter(refused.values())), doing=f"cannot {', '.join(refused)}: ")
    told = ", ".join(f"{name} {took:.0f} ms" for name, took in took_ms.items())
    return Finding("storage", "green", f"{opened.root}: {told}")


def _conditions(opened: Storage) -> Finding:
    if opened.honours_conditions():
        return Finding("storage puts", "green", "create-only puts are honoured")
    found = "create-only puts are not honoured: of two that paint the same job at once, the later one's result stands"
    remedy = "Nothing is lost by it. A newer version of the server, or another one, may honour `If-None-Match: *`."
    return Finding("storage puts", "yellow", found, remedy)


def _storage_clock(opened: Storage) -> Iterator[Finding]:
    skew_s = opened.clock_skew_s()
    if skew_s is None:
        return
    if abs(skew_s) <= STORAGE_SKEW_S:
        yield Finding("storage clock", "green", f"{abs(skew_s):.0f} s from this machine's")
    else:
        found = f"{abs(skew_s):.0f} s {'behind' if skew_s > 0 else 'ahead of'} this machine's; S3 refuses 15 minutes"
        yield Finding("storage clock", "yellow", found, "Set this machine's clock, or the server's (NTP).")


def median_ms(call: Callable[[], object]) -> float:
    """The median of what a few calls take, in ms; slow ones are repeated less."""
    took: list[float] = []
    while len(took) < _SAMPLES and sum(took) < _SAMPLING_S:
        started = time.monotonic()
        call()
        took.append(time.monotonic() - started)
    return median(took) * 1000
