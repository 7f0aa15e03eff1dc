"""Inputs of the next job are fetched while one is painted: one job ahead, and whatever fails is fetched again."""

import threading

import pytest

from medley.errors import ImageError
from medley_workers.jobs.fetching import Fetching

WITHIN_S = 10


def test_what_was_expected_is_fetched_while_the_one_before_is_painted_and_given_once() -> None:
    fetching = Fetching[str]()
    fetching.expect("b", lambda: "of b")
    assert fetching.take("a") is None
    assert fetching.take("b") == "of b"
    assert fetching.take("b") is None


def test_what_is_not_painted_next_is_not_kept() -> None:
    fetching = Fetching[str]()
    fetching.expect("b", lambda: "of b")
    fetching.take("a")
    fetching.expect("d", lambda: "of d")
    assert fetching.take("c") is None
    assert fetching.take("b") is None
    fetching.expect("f", lambda: "of f")
    assert fetching.take("e") is None
    assert fetching.take("f") == "of f"


def test_who_takes_waits_for_what_is_under_way() -> None:
    fetching, go = Fetching[str](), threading.Event()
    fetching.expect("b", lambda: "of b" if go.wait(WITHIN_S) else "")
    fetching.take("a")
    threading.Timer(0.1, go.set).start()
    assert fetching.take("b") == "of b"


@pytest.mark.parametrize("error", [ImageError("It is truncated."), ZeroDivisionError("by nought")])
def test_what_fails_is_as_if_nothing_had_been_fetched(error: Exception) -> None:
    def fetch() -> str:
        raise error

    fetching = Fetching[str]()
    fetching.expect("b", fetch)
    fetching.take("a")
    assert fetching.take("b") is None


def test_nobody_waits_for_another_ones_inputs_and_one_thread_fetches_at_a_time() -> None:
    fetching, go, begun = Fetching[str](), threading.Event(), list[str]()

    def fetch(job: str) -> str:
        begun.append(job)
        assert go.wait(WITHIN_S)
        return job

    fetching.expect("b", lambda: fetch("b"))
    fetching.take("a")
    fetching.expect("d", lambda: fetch("d"))
    assert fetching.take("c") is None, "b was given to others"
    go.set()
    assert fetching.take("d") is None, "it was not begun while b was fetched"
    assert begun == ["b"]
