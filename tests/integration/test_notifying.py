"""Whoever asked is told how a batch ended: by a real server that fails, hangs, redirects, or is not there."""

import asyncio
import base64
import logging
import ssl
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import trustme

import servers
from medley import keys
from medley.batches import notifying
from medley.batches.ending import finish_batch
from medley.batches.notifying import ask_to_be_told, checked_url, notify, shown_url
from medley.batches.stored import read_batch, read_manifest, write_outcome
from medley.cluster import Cluster
from medley.errors import UsageError
from medley.records.batches import Sampling
from medley.records.options import StyleTransferOptions
from medley.records.results import Finished, Outcome
from medley_producer.submit import Request, submit
from receiving import SECRET, receiver
from tls import tls_door

# A client that refuses a certificate may leave the door in the middle of a handshake when it closes.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ENDED = datetime.now(UTC)
FINISHED = Finished(batch="night", done=5, failed=1, outcomes="0" * 64, finished_at=ENDED)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Pauses are short; and nothing secret is ever logged, however much is."""
    monkeypatch.setattr(notifying, "PAUSE_S", 0.01)
    monkeypatch.setattr(notifying, "WITHIN_S", 0.5)
    caplog.set_level(logging.DEBUG)
    yield
    assert SECRET not in caplog.text


def told(cluster: Cluster, finished: Finished = FINISHED) -> bool:
    return notify(cluster.storage, cluster.settings, finished, lambda: None)


def is_asked(cluster: Cluster) -> bool:
    return cluster.storage.exists(keys.notify("night"))


def test_nobody_is_told_who_did_not_ask(cluster: Cluster) -> None:
    assert told(cluster)


def test_whoever_asked_is_told_once(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    with receiver(204) as there:
        ask_to_be_told(cluster, "night", there.url)
        assert told(cluster)
        assert told(cluster)
    (asked,) = there.asked
    assert asked.path == f"/{SECRET}?key={SECRET}"
    assert asked.headers["Idempotency-Key"] == f"night-{FINISHED.outcomes}"
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.body == {
        "batch": "night", "state": "finished", "jobs": 6, "done": 5, "failed": 1, "skipped": 0,
        "finished_at": ENDED.isoformat(),
    }  # fmt: skip
    assert not is_asked(cluster)
    assert shown_url(there.url) in caplog.text


def test_the_url_is_kept_where_only_its_owner_reads_it(cluster: Cluster) -> None:
    ask_to_be_told(cluster, "night", f"https://example.org/{SECRET}")
    path = Path(unquote(urlsplit(cluster.storage.root).path), keys.notify("night"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_receiver_that_fails_now_and_then_is_asked_again(cluster: Cluster) -> None:
    with receiver(503, "cut", 200) as there:
        ask_to_be_told(cluster, "night", there.url)
        assert told(cluster)
    assert len(there.asked) == 3
    assert len({asked.headers["Idempotency-Key"] for asked in there.asked}) == 1
    assert not is_asked(cluster)


def test_a_receiver_that_goes_on_failing_is_asked_less_and_less_and_told_in_the_end(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver(*[429] * notifying.TRIES * 2, 200) as there:
        ask_to_be_told(cluster, "night", there.url)
        assert not told(cluster)
        assert not told(cluster)  # it is too early
        assert len(there.asked) == notifying.TRIES
        now = time.time()
        monkeypatch.setattr("medley.batches.notifying.time.time", lambda: now + notifying.AGAIN_S + 1)
        assert not told(cluster)
        monkeypatch.setattr("medley.batches.notifying.time.time", lambda: now + 2 * notifying.AGAIN_S)
        assert not told(cluster)  # twice as long is waited for now
        assert len(there.asked) == notifying.TRIES * 2
        monkeypatch.setattr("medley.batches.notifying.time.time", lambda: now + 3 * notifying.AGAIN_S + 2)
        assert told(cluster)
    assert not is_asked(cluster)


@pytest.mark.parametrize("answer", ["hang", "drip"])
def test_a_receiver_that_hangs_holds_nobody_up(answer: str, cluster: Cluster) -> None:
    advances: list[float] = []
    with receiver(answer) as there:
        ask_to_be_told(cluster, "night", there.url)
        started = time.monotonic()
        assert not notify(cluster.storage, cluster.settings, FINISHED, lambda: advances.append(time.monotonic()))
        assert time.monotonic() - started < notifying.TRIES * (notifying.WITHIN_S + 1)
    assert len(advances) == notifying.TRIES
    assert is_asked(cluster)


@pytest.mark.parametrize("answer", [301, 302, 307, 308, 400, 404, 410])
def test_what_is_refused_or_leads_elsewhere_is_given_up(
    answer: int, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver(answer) as there:
        ask_to_be_told(cluster, "night", there.url)
        assert told(cluster)
    assert [asked.path for asked in there.asked] == [f"/{SECRET}?key={SECRET}"]
    assert not is_asked(cluster)
    assert f"HTTP {answer}" in caplog.text


def test_a_receiver_that_is_not_there_is_given_up_after_a_day(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    (port,) = servers.free_ports(1)
    ask_to_be_told(cluster, "night", f"http://127.0.0.1:{port}/{SECRET}")
    assert not told(cluster)
    ask_to_be_told(cluster, "night", f"http://127.0.0.1:{port}/{SECRET}")
    yesterday = FINISHED.model_copy(update={"finished_at": ENDED - timedelta(days=1)})
    assert told(cluster, yesterday)
    assert not is_asked(cluster)
    assert "given up" in caplog.text


def test_a_password_in_the_url_is_sent_as_such(cluster: Cluster) -> None:
    with receiver(200) as there:
        ask_to_be_told(cluster, "night", there.url.replace("//", f"//me:{SECRET}%40@"))
        assert told(cluster)
    (asked,) = there.asked
    assert asked.headers["Authorization"] == "Basic " + base64.b64encode(f"me:{SECRET}@".encode()).decode()


def test_a_receiver_with_a_certificate_of_a_private_ca_is_told_where_that_is_trusted(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusting = cluster.settings.model_copy(update={"ca_file": tmp_path / "ca.pem"})
    with receiver(200) as there:
        plain = urlsplit(there.url)
        with tls_door(context, lambda: asyncio.open_connection(plain.hostname, plain.port)) as port:
            ask_to_be_told(cluster, "night", there.url.replace(f"http://{plain.netloc}", f"https://127.0.0.1:{port}"))
            assert not told(cluster)
            assert "not trusted" in caplog.text
            assert there.asked == []
            cluster.storage.put(keys.notify("night"), notice_now(cluster))
            assert notify(cluster.storage, trusting, FINISHED, lambda: None)
    assert len(there.asked) == 1


def notice_now(cluster: Cluster) -> bytes:
    """The record of who asked, as if the time to try again had come."""
    notice = notifying.Notice.from_json(cluster.storage.get(keys.notify("night")))
    return notice.model_copy(update={"not_before": 0.0}).json_bytes()


@pytest.mark.parametrize("record", [b"{", b'{"url":"file:///etc/passwd"}', b'{"url":"' + b"x" * 99_999 + b'"}'])
def test_a_record_that_was_changed_tells_nobody(record: bytes, cluster: Cluster) -> None:
    cluster.storage.put(keys.notify("night"), record)
    assert told(cluster)
    assert not is_asked(cluster)


@pytest.mark.parametrize(
    "url", ["", "example.org/x", "ftp://example.org", "file:///etc/passwd", "https:///x", "http://h:99999999/",
            "http://h/ x", "http://h/\n", "http://[::1/", "http://h/é", "https://h/" + "x" * 9_000],
)  # fmt: skip
def test_what_is_no_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="--notify takes a URL") as refused:
        checked_url(url)
    assert not url or url not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://hooks.example.org/a?b=c", "http://127.0.0.1:8080", "HTTPS://u:p@example.org/x"]
)
def test_a_url_is_taken_and_only_its_host_is_shown(url: str) -> None:
    assert checked_url(url) == url
    assert "@" not in shown_url(url)
    assert shown_url(url).partition("://")[2] == urlsplit(url).netloc.rpartition("@")[2]


# The end of a batch


@pytest.fixture
def ended(cluster: Cluster, dataset: Path) -> Callable[[Sequence[str]], None]:
    """What writes the outcomes of a batch of three jobs."""
    sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), pairs=3)
    batch = submit(cluster, Request("night", sampling, StyleTransferOptions()), "bulk", lambda *_: None).batch

    def write(statuses: Sequence[Any]) -> None:
        for job, status in zip(read_manifest(cluster.storage, batch), statuses, strict=True):
            outcome = Outcome(
                job=job.id, batch="night", status=status, kind="image", attempts=1, worker="w", seconds=1,
                finished_at=datetime.now(UTC),
            )  # fmt: skip
            write_outcome(cluster.storage, outcome)

    return write


def test_the_end_of_a_batch_is_told_once_however_often_it_is_made(
    cluster: Cluster, ended: Callable[[Sequence[str]], None]
) -> None:
    with receiver(*[500] * notifying.TRIES, 200) as there:
        ask_to_be_told(cluster, "night", there.url)
        ended(["failed", "failed", "failed"])
        finish_batch(cluster, "night", lambda: None)
        assert cluster.storage.exists(keys.open_batch("night"))  # so that somebody comes back to tell
        cluster.storage.put(keys.notify("night"), notice_now(cluster))
        for _ in range(2):
            finish_batch(cluster, "night", lambda: None)
        assert not cluster.storage.exists(keys.open_batch("night"))
        ended(["done", "failed", "failed"])
        finish_batch(cluster, "night", lambda: None)
    assert [asked.body["failed"] for asked in there.asked] == [3] * (notifying.TRIES + 1)
    batch = read_batch(cluster.storage, "night")
    assert batch
    assert SECRET not in batch.model_dump_json()
    assert not any(SECRET.encode() in cluster.storage.get(key) for key in cluster.storage.list("batches/"))


def test_who_asks_when_it_has_just_ended_is_told_too(cluster: Cluster, ended: Callable[[Sequence[str]], None]) -> None:
    ended(["failed", "failed", "failed"])
    finish_batch(cluster, "night", lambda: None)
    before = cluster.ledger.queue_lengths()["finish"]
    ask_to_be_told(cluster, "night", "http://example.org")
    assert cluster.ledger.queue_lengths()["finish"] == before + 1
