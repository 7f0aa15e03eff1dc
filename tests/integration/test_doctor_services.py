"""What `medley doctor` says of Redis, of the workers and of storage, all of them real."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import redis

import servers
from examining import findings_of, greet
from fixtures_s3 import storage_on
from medley.broker.ledger import Ledger
from medley.broker.messages import set_aside
from medley.broker.queue import QUEUES
from medley.records.jobs import ENGINE
from medley.settings import Settings
from medley.storage.s3 import S3Storage
from medley_producer.doctor import Finding, services
from medley_producer.local import start_redis
from servers import S3Server


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A plain client of the test's Redis."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def redis_findings(url: str, **others: Any) -> dict[str, Finding]:
    return findings_of(partial(services.redis, Settings(redis_url=url, **others)))


def storage_findings(url: str, **others: Any) -> dict[str, Finding]:
    return findings_of(partial(services.storage, Settings(storage_url=url, **others)))


# Redis


def test_a_redis_that_evicts_is_red_and_one_that_forgets_yellow(redis_url: str, client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    found = redis_findings(redis_url)
    assert found["Redis"].state == "green"
    eviction, persistence = found["Redis eviction"], found["Redis persistence"]
    assert (eviction.state, persistence.state) == ("red", "yellow")
    assert "CONFIG SET maxmemory-policy noeviction" in (eviction.remedy or "")
    assert "CONFIG SET appendonly yes" in (persistence.remedy or "")


def test_a_redis_that_ended_is_red(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    url = f"unix://{tmp_path}/redis.sock"
    assert redis_findings(url)["Redis"].state == "green"
    server.stop()
    (gone,) = redis_findings(url).values()
    assert (gone.state, gone.remedy) == ("red", "Start it, or correct MEDLEY_REDIS_URL.")
    assert url in gone.found


def test_a_redis_without_the_right_to_info_is_yellow_and_examined_further(client: redis.Redis, redis_url: str) -> None:
    client.acl_setuser("default", enabled=True, commands=["-info"])
    found = redis_findings(redis_url)
    assert (found["Redis"].state, found["Redis clock"].state) == ("yellow", "green")
    assert "+info" in (found["Redis"].remedy or "")


def test_a_clock_that_is_off_is_red(redis_url: str) -> None:
    clock = redis_findings(redis_url, clock_skew_s=1e-9)["Redis clock"]
    assert clock.state == "red"
    assert "Set the clock (NTP)" in (clock.remedy or "")


def test_a_variable_that_leads_celery_elsewhere_is_red(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    (found,) = redis_findings(redis_url).values()
    assert (found.state, found.remedy) == ("red", "Unset it for medley.")


@pytest.mark.parametrize("name", ["redis", "storage"])
def test_one_url_without_the_other_is_red(name: str, redis_url: str, tmp_path: Path) -> None:
    urls = {"redis_url": redis_url, "storage_url": tmp_path.as_uri()} | {f"{name}_url": None}
    (half,) = findings_of(partial(getattr(services, name), Settings.model_validate(urls))).values()
    assert half.state == "red"
    assert f"Set MEDLEY_{name.upper()}_URL" in (half.remedy or "")


# Workers


def test_workers_of_our_version_are_green_and_others_are_named(redis_url: str) -> None:
    assert redis_findings(redis_url)["workers"].found == "none is up"
    greet(redis_url)
    assert redis_findings(redis_url)["workers"].state == "green"
    greet(redis_url, name="old#0", version="0.0.9")
    workers = redis_findings(redis_url)["workers"]
    assert workers.state == "yellow"
    assert "old#0 is 0.0.9" in workers.found
    assert "host#0" not in workers.found


def test_messages_that_nobody_will_paint_are_red(redis_url: str, client: redis.Redis) -> None:
    client.lpush(QUEUES["bulk"], "a", "b")
    greet(redis_url, engine=ENGINE + 1)
    workers = redis_findings(redis_url)["workers"]
    assert workers.state == "red"
    assert "2 messages wait" in workers.found
    greet(redis_url)
    assert redis_findings(redis_url)["workers"].state == "green"


def test_queues_of_other_versions_are_named_unless_their_workers_are_up(redis_url: str, client: redis.Redis) -> None:
    client.lpush(f"bulk.{ENGINE + 1}", "a", "b", "c")
    client.set("bulk.notes", "a key of somebody else's")
    queues = redis_findings(redis_url)["queues"]
    assert queues.state == "yellow"
    assert f"bulk.{ENGINE + 1} holds 3 messages" in queues.found
    greet(redis_url, engine=ENGINE + 1)
    assert redis_findings(redis_url)["queues"].state == "green"


def test_a_worker_whose_record_is_strange_is_of_another_version(redis_url: str, client: redis.Redis) -> None:
    client.set("medley:painter:new#0", '{"name": "new#0", "mood": "fine"}')
    found = redis_findings(redis_url)
    assert (found["workers"].state, found["workers"].remedy) == ("yellow", "Install the same version on every machine.")


def test_messages_that_were_set_aside_and_workers_that_stopped_are_yellow(redis_url: str, client: redis.Redis) -> None:
    found = redis_findings(redis_url)
    assert not {"messages", "stopped workers"} & found.keys()
    for reason in ("the first", "a \x1b[2J later one"):
        set_aside(client, QUEUES["bulk"], reason, "{")
    Ledger(Settings(redis_url=redis_url)).note_stopped("host#0", "3 jobs failed here that others painted.")
    found = redis_findings(redis_url)
    assert (found["messages"].state, found["stopped workers"].state) == ("yellow", "yellow")
    assert "2 set aside" in found["messages"].found
    assert "later one" in found["messages"].found
    assert "\x1b" not in found["messages"].found
    assert "host#0 stopped: 3 jobs failed here" in found["stopped workers"].found


# Storage


def test_storage_that_serves_us_is_green_and_keeps_nothing(s3_storage: S3Storage) -> None:
    found = findings_of(partial(services.storage, Settings.load().model_copy(update={"storage_url": s3_storage.root})))
    assert {name: finding.state for name, finding in found.items()} == {
        "storage": "green", "storage puts": "green", "storage clock": "green"
    }  # fmt: skip
    assert list(s3_storage.list()) == []


def test_a_bucket_that_is_not_there_is_red(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    storage_on(moto_server, monkeypatch)
    (found,) = storage_findings("s3://medley-no-such-bucket").values()
    assert (found.state, "has no such bucket" in found.found) == ("red", True)
    assert "MEDLEY_STORAGE_URL" in (found.remedy or "")


def test_a_folder_that_cannot_be_made_is_red(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (found,) = storage_findings((tmp_path / "file" / "storage").as_uri()).values()
    assert found.state == "red"
    assert "Not a directory" in found.found


def test_a_file_system_without_hard_links_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    found = storage_findings(tmp_path.as_uri())
    assert [finding.state for finding in found.values()] == ["green", "red"]
    assert "Operation not permitted" in found["check"].found
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_server_that_refuses_one_thing_is_told_by_that_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    with odd_server(refuses="DELETE") as url:
        found = storage_findings("s3://bucket/prefix", **credentials(url, monkeypatch))["storage"]
    assert found.state == "red"
    assert found.found.startswith("cannot delete: s3://bucket/prefix")
    assert "Grant it" in (found.remedy or "")


def test_a_server_without_create_only_puts_and_with_another_time_is_yellow(monkeypatch: pytest.MonkeyPatch) -> None:
    with odd_server(behind_s=1200) as url:
        found = storage_findings("s3://bucket/prefix", **credentials(url, monkeypatch))
    assert {name: finding.state for name, finding in found.items()} == {
        "storage": "green", "storage puts": "yellow", "storage clock": "yellow"
    }  # fmt: skip
    assert "behind this machine's" in found["storage clock"].found


def credentials(url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of storage on an odd server; the environment gets its credentials."""
    environment = S3Server("odd", url).environment()
    for name in [name for name in environment if name.startswith("AWS_")]:
        monkeypatch.setenv(name, environment[name])
    return {"s3_endpoint_url": url}


@contextmanager
def odd_server(refuses: str = "", behind_s: float = 0.0) -> Iterator[str]:
    """An S3 of one bucket that keeps nothing, ignores conditions, refuses a method, and whose clock is behind."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            refused = self.command == refuses
            body = b"<Error><Code>AccessDenied</Code></Error>" if refused else b"<ListBucketResult/>"
            self.send_response(403 if refused else 204 if self.command == "DELETE" else 200)
            if self.command != "DELETE" or refused:
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            else:
                self.end_headers()

        do_GET = do_PUT = do_DELETE = answer

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) - behind_s)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with servers.answering(Handler) as url:
        yield url


def test_a_folder_that_is_not_there_is_told_of_and_not_made(tmp_path: Path) -> None:
    (found,) = storage_findings((tmp_path / "mount" / "storage").as_uri()).values()
    assert found.state == "yellow"
    assert "does not exist" in found.found
    assert list(tmp_path.iterdir()) == []
