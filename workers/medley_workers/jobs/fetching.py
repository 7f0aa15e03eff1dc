"""Inputs are fetched ahead: those of the next job of a message while one is painted."""

import logging
import threading
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from medley.errors import MedleyError
from medley.records.base import JobId

log = logging.getLogger(__name__)

T = TypeVar("T")


class _Fetch(NamedTuple, Generic[T]):
    """A fetch under way: it has found something when the thread has ended, or failed."""

    job: JobId
    thread: threading.Thread
    found: list[T]


class Fetching(Generic[T]):
    """At most one job's inputs ahead, and one thread; for one painter, who tells what it expects, and takes it.

    Whatever goes wrong is nobody's concern: the job's painter then fetches its inputs itself, and fails of that itself.
    """

    def __init__(self) -> None:
        self._expected: tuple[JobId, Callable[[], T]] | None = None
        self._ahead: _Fetch[T] | None = None

    def expect(self, job: JobId, fetch: Callable[[], T]) -> None:
        """Have the inputs of this job fetched when those of the one before it are taken."""
        self._expected = job, fetch

    def take(self, job: JobId) -> T | None:
        """What was fetched for a job that is painted now, once that is there; None if nothing was. It is kept no
        longer, and the fetch that is expected begins.
        """
        ahead, self._ahead = self._ahead, None
        if ahead and ahead.job == job:
            ahead.thread.join()
        if self._expected and not (ahead and ahead.thread.is_alive()):  # for another job, which nobody waits for
            self._ahead = _begin(*self._expected)
        self._expected = None
        return ahead.found[0] if ahead and ahead.job == job and ahead.found else None


def _begin(job: JobId, fetch: Callable[[], T]) -> _Fetch[T]:
    found: list[T] = []

    def work() -> None:
        try:
            found.append(fetch())
        except MedleyError as error:
            log.debug("Job %s is not fetched ahead: %s", job, error)
        except Exception:
            log.debug("Job %s is not fetched ahead.", job, exc_info=True)

    # A daemon, as no process is to wait for it at its end.
    thread = threading.Thread(target=work, name="fetching", daemon=True)
    thread.start()
    return _Fetch(job, thread, found)
