"""Passwords stay out of what people read."""

import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from conftest import wait_until
from medley.broker.connection import connect
from medley.broker.ledger import Ledger
from medley.broker.queue import make_celery, publish_finish
from medley.errors import MedleyError, RedisRefused, StorageRefused, UsageError
from medley.redacting import redacted, without_password
from medley.settings import Settings
from medley.storage import open_storage
from medley_producer.local import Owned, redis_server

SHOWN = {
    "redis://host:6379/0": "redis://host:6379/0",
    "unix:///tmp/a:b/redis.sock": "unix:///tmp/a:b/redis.sock",
    "rediss://h/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none": "rediss://h/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none",
    "localhost:9000": "localhost:9000",
    "http://[::1]:9000": "http://[::1]:9000",
    "https://chat.example/@room": "https://chat.example/@room",
    "redis://user:hush@host:6379/0": "redis://user:***@host:6379/0",
    "redis://:hush@host": "redis://:***@host",
    "redis://user:hu%40%2Fsh@host/0": "redis://user:***@host/0",
    "redis://user:hu@sh@host/0": "redis://user:***@host/0",
    "redis://user:hu:sh'\"\\ é@host/0": "redis://user:***@host/0",
    "unix://user:hush@/tmp/redis.sock": "unix://user:***@/tmp/redis.sock",
    "https://hush@host/hook": "https://***@host/hook",
    "https://host/hook?token=hush&hush#hush": "https://host/hook?token=***&***#***",
    "rediss://h/0?ssl_password=hush&ssl_keyfile=/k": "rediss://h/0?ssl_password=***&ssl_keyfile=/k",
    "user:hush@localhost:9000": "user:***@localhost:9000",
}

NO_URLS = (
    "redis://user:hu/sh@host:6379/0",
    "redis://user:1/hush@host:6379/0",
    "redis://user:1#hush@host:6379/0",
    "redis://user:1?hush@host:6379/0",
    "redis://user:hush",
    "redis://us[er:hush@host",
    "user:hush://x@host",
)


@pytest.mark.parametrize("url", SHOWN)
def test_a_url_is_shown_without_its_password(url: str) -> None:
    assert without_password(url) == SHOWN[url]


@pytest.mark.parametrize("url", NO_URLS)
def test_of_what_is_no_url_only_the_scheme_is_shown(url: str) -> None:
    assert without_password(url) in ("redis://***", "***")


def test_a_librarys_text_is_cleared_of_every_form_of_the_password() -> None:
    url = "redis://user:it%27s%2fhu%40sh@host/0"
    for form in (url, "it%27s%2fhu%40sh", "it's/hu@sh", "it%27s%2Fhu%40sh", repr("it's/hu@sh")):
        assert "sh" not in redacted(f"AUTH with `{form}` failed", url)
    assert redacted("Connection refused.", url) == "Connection refused."


def told(call: Callable[[], object], error: type[MedleyError]) -> str:
    """The sentence of an error, after seeing that neither it nor its traceback holds the password."""
    with pytest.raises(error) as raised:
        call()
    whole = "".join(traceback.format_exception(raised.value))
    assert "hu@sh" not in whole
    assert "hu%40sh" not in whole
    assert "hush" not in whole
    return str(raised.value)


@pytest.mark.parametrize("url", [*NO_URLS, "redis://user:hush@host:port", "redis://user:hush@host/0?db=hush"])
def test_a_redis_url_that_cannot_be_used_is_not_repeated(url: str) -> None:
    assert "MEDLEY_REDIS_URL is not" in told(lambda: connect(Settings(redis_url=url)), UsageError)


def listens(path: Path) -> bool:
    """Whether somebody takes connections there; a socket is there a little sooner."""
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        return True
    return False


@pytest.fixture
def old_redis(tmp_path: Path) -> Iterator[str]:
    """The socket of a Redis that does not know HELLO, as those before version 6 and some proxies."""
    path = tmp_path / "r.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--rename-command", "HELLO", ""]
    server = Owned([redis_server(), *options], tmp_path / "redis.log")
    try:
        wait_until(lambda: listens(path), 10, "a Redis")
        yield str(path)
    finally:
        server.stop()


def test_a_redis_that_repeats_what_it_was_sent_gives_nothing_away(old_redis: str) -> None:
    settings = Settings(redis_url=f"unix://user:hu%40sh@{old_redis}")
    with redis.Redis.from_url(settings.redis) as client, pytest.raises(redis.RedisError, match="hu@sh"):
        client.ping()
    for call in (Ledger(settings).check, lambda: publish_finish(make_celery(settings), settings, "night")):
        said = told(call, RedisRefused)
        assert f"unix://user:***@{old_redis}" in said
        assert "HELLO" in said


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("MEDLEY_S3_ENDPOINT_URL", "http://key:hush@127.0.0.1:9"),
        ("MEDLEY_S3_ENDPOINT_URL", "https://key:hu/sh@host"),
        ("MEDLEY_S3_ENDPOINT_URL", "http://hush@host"),
        ("MEDLEY_S3_ENDPOINT_URL", "http://host?key=hush"),
        ("AWS_ENDPOINT_URL", "https://key:hu%40sh@host"),
        ("AWS_ENDPOINT_URL_S3", "http://key:hush@127.0.0.1:9"),
    ],
)
def test_an_s3_server_with_a_password_in_its_url_is_refused(
    variable: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, url)
    said = told(lambda: open_storage("s3://bucket/a", Settings.load()), UsageError)
    assert "put the credentials into AWS_ACCESS_KEY_ID" in said
    assert "MEDLEY_S3_ENDPOINT_URL" in said


def test_a_proxy_with_a_password_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hush@127.0.0.1:9")
    monkeypatch.setenv("MEDLEY_S3_ENDPOINT_URL", "https://s3.example")
    assert "does not answer" in told(open_storage("s3://bucket/a", Settings.load()).check, MedleyError)


def test_a_malformed_endpoint_of_boto_gives_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "key:hush@localhost")
    with pytest.raises(StorageRefused) as refused:
        open_storage("s3://bucket/a", Settings.load())
    assert "hush" not in str(refused.value)
