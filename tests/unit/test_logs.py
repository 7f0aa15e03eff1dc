"""What is logged, as JSON."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from medley import logs
from medley.settings import Settings


def line(message: str, *args: object, exc_info: bool = False) -> dict[str, str]:
    logger = logging.Logger("medley_workers.x")
    error = (ZeroDivisionError, ZeroDivisionError("by nought"), None) if exc_info else None
    record = logger.makeRecord("medley_workers.x", logging.WARNING, "f.py", 1, message, args, error)
    text = logs.JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, str] = json.loads(text)
    return found


def test_a_line_says_when_how_serious_who_and_what() -> None:
    found = line("%s has\nno “picture”", "é")
    assert found["message"] == "é has\nno “picture”"
    assert (found["level"], found["logger"], found["process"]) == ("warning", "medley_workers.x", "MainProcess")
    assert found["at"].endswith("Z")
    assert "traceback" not in found


def test_a_traceback_is_a_field() -> None:
    assert "ZeroDivisionError: by nought" in line("failed", exc_info=True)["traceback"]


def test_what_a_message_is_about_is_said_within_and_not_after() -> None:
    with logs.about(batch="b"):
        with logs.about(job="j"):
            assert {"batch": "b", "job": "j"}.items() <= line("x").items()
        assert "job" not in line("x")
    assert "batch" not in line("x")


def test_threads_say_what_they_are_about_themselves() -> None:
    def told(job: str) -> str:
        with logs.about(job=job):
            return line("x")["job"]

    with logs.about(job="mine"), ThreadPoolExecutor(4) as threads:
        jobs = [str(n) for n in range(50)]
        assert list(threads.map(told, jobs)) == jobs


@pytest.mark.parametrize(
    ("asked", "terminal", "json"),
    [("auto", True, False), ("auto", False, True), ("json", True, True), ("text", False, False)],
)
def test_json_is_for_programs(asked: str, terminal: bool, json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    assert logs.is_json(Settings.load(log_format=asked)) == json
