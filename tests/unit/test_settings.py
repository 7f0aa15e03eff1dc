"""Settings come from MEDLEY_* alone, and a bad one is a sentence that names its variable."""

import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from medley.errors import UsageError
from medley.settings import Settings


def test_without_any_variable_there_are_defaults() -> None:
    settings = Settings.load()
    assert settings.redis_url is None
    assert settings.storage_url is None
    assert (settings.lease_s, settings.lease_renew_s, settings.attempts, settings.device) == (45, 10, 3, "auto")


def test_variables_are_read_when_asked_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Settings.load()
    monkeypatch.setenv("MEDLEY_REDIS_URL", "redis://host:6379/0")
    monkeypatch.setenv("MEDLEY_LEASE_S", "30.5")
    monkeypatch.setenv("LEASE_RENEW_S", "1")
    after = Settings.load()
    assert (after.redis, after.lease_s, after.lease_renew_s) == ("redis://host:6379/0", 30.5, 10)
    assert before.redis_url is None
    with pytest.raises(ValidationError, match="frozen"):
        after.lease_s = 1  # type: ignore[misc]  # mypy knows it too


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROCESSES", "-1"),
        ("PROCESSES", "two"),
        ("CONNECT_TIMEOUT_S", "0"),
        ("CONNECT_TIMEOUT_S", "inf"),
        ("READ_TIMEOUT_S", "nan"),
        ("LEASE_S", "0.5"),
        ("LEASE_S", ""),
        ("STALL_S", "0"),
        ("GRACE_S", "-1"),
        ("ATTEMPTS", "0"),
        ("CLOCK_SKEW_S", "0"),
        ("IMAGE_PIXELS", "0"),
        ("IMAGE_BYTES", "1e3.5"),
        ("FRAMES_WAITING", "0"),
        ("LOG_LEVEL", "loud"),
        ("VGG", ""),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"MEDLEY_{name}", value)
    with pytest.raises(UsageError, match=rf"^MEDLEY_{name} is set to '{value}': .*\. Correct or unset it\.$"):
        Settings.load()


def test_the_cache_lies_where_it_is_told_or_where_caches_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/from/the/root")
    assert Settings.load().cache == Path("/home/ada/.cache/medley")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert Settings.load().cache == Path("/cache/medley")
    monkeypatch.setenv("MEDLEY_CACHE_DIR", "/large/disk")
    assert Settings.load().cache == Path("/large/disk")
    monkeypatch.setenv("MEDLEY_CACHE_DIR", "")
    assert Settings.load().cache == Path("/cache/medley")


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
@pytest.mark.parametrize(("cache_dir", "xdg"), [("", ""), ("", "/cache"), ("", "relative"), ("/large", "/cache")])
def test_make_puts_weights_where_they_are_looked_for(cache_dir: str, xdg: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLEY_CACHE_DIR", cache_dir)
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    command = ["make", "--silent", "--eval", "where: ; @echo $(CACHE)", "where"]
    said = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True).stdout
    assert Path(said.strip()) == Settings.load().cache


def test_a_lease_must_outlast_two_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLEY_LEASE_S", "5")
    with pytest.raises(UsageError, match=r"MEDLEY_LEASE_RENEW_S \(10\) must be at most half of MEDLEY_LEASE_S \(5\)"):
        Settings.load()
    monkeypatch.setenv("MEDLEY_LEASE_RENEW_S", "2.5")
    assert Settings.load().lease_s == 5


def test_what_is_needed_and_not_set_is_said_with_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"MEDLEY_REDIS_URL.*medley run"):
        _ = Settings.load().redis
    with pytest.raises(UsageError, match=r"MEDLEY_STORAGE_URL.*medley run"):
        _ = Settings.load().storage


def test_every_setting_says_what_it_is_for() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
