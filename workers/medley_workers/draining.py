"""How a worker ends before its jobs do: it drains, that is, it keeps how far they came and gives them back.

Celery's own warm shutdown waits for every painting, however long, and its cold one throws them away. Between the two
there is this: the parent shuts down warmly, so it goes on acknowledging and giving back, and tells its painting
processes to stop at their next step.
"""

import logging
import os
import queue
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from celery.signals import worker_shutting_down
from celery.worker import state

from medley.errors import PaintingStopped

log = logging.getLogger(__name__)

DRAIN = signal.SIGUSR2
"""What the parent tells its painting processes with: billiard sees to TERM, QUIT, INT, HUP and USR1 itself."""

_LAST_WORDS_S = 3.0
"""What did not drain in time raises SystemExit, to give its attempt back, and is killed this long afterwards. With
the default grace it is all over within the 30 s that container platforms allow."""

_LOOK_S = 0.2
"""So often does who waits look whether to drain."""

_AGAIN_S = 1.0
"""So often are painting processes told, as one that just starts does not hear it."""


class Drain:
    """Whether this process is to drain.

    A plain flag: a signal's handler must take no lock, as the code that it interrupts may hold it.
    """

    def __init__(self) -> None:
        self._set = False
        self._set_at = 0.0

    def set(self, *_: object) -> None:
        """Have it drain; this can be a signal's handler."""
        if not self._set:
            self._set_at = time.monotonic()
        self._set = True

    def for_s(self) -> float:
        """For how many seconds it has been draining; 0 if it is not."""
        return time.monotonic() - self._set_at if self._set else 0.0

    def is_set(self) -> bool:
        """Whether it is to drain."""
        return self._set

    def check(self) -> None:
        """Go on, or not.

        Raises:
            PaintingStopped: it is to drain.
        """
        if self._set:
            raise PaintingStopped("The worker drains: its jobs go back to their queue.")

    def wait(self, seconds: float) -> bool:
        """Wait this long, or until it is to drain; returns whether it is."""
        until = time.monotonic() + seconds
        while not self._set and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))
        return self._set


requested = Drain()
"""This process's; a painter looks at it in each step, before each job, and while it waits."""


def obey() -> None:
    """Drain when the parent says so; to be called from the main thread, before this process takes jobs."""
    signal.signal(DRAIN, requested.set)


class Stopping:
    """What a worker's parent does when it is told to stop.

    SIGTERM: drain; what has not after the grace is ended. Said again, it changes nothing, as service managers may.
    SIGINT (Ctrl-C): end after the jobs at hand; a second time, drain; a third time, wait for the grace no longer.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._pool: Any = None
        # Its put, unlike that of Queue and unlike Event.set, may be interrupted by another call of itself.
        self._told: queue.SimpleQueue[int] = queue.SimpleQueue()

    def listen(self, sender: Any, **_: Any) -> None:
        """Take the signals over from Celery; ``sender`` is billiard's pool, which is to make a painting process now."""
        if self._pool is not None:
            return
        self._pool = sender
        signal.signal(DRAIN, signal.SIG_IGN)  # painting processes inherit that, lest one that just starts dies of it
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)
        threading.Thread(target=self._stop, name="stopping", daemon=True).start()

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        """Stop taking jobs, and leave the rest to the thread: this may have interrupted anything."""
        state.should_stop = 0
        worker_shutting_down.send(sender=self, sig=signal.Signals(number).name, how="Warm", exitcode=0)
        self._told.put(number)

    def _stop(self) -> None:
        """Wait for the word, and see that no painting process outlives the grace."""
        if self._told.get() == signal.SIGINT:
            log.info("The worker ends after the jobs at hand; Ctrl-C again gives them back.")
            self._told.get()
        log.info("The worker drains: it gives its jobs back within %.0f s.", self._grace_s)
        deadline = time.monotonic() + self._grace_s
        while (left := deadline - time.monotonic()) > 0:
            self._signal(DRAIN)
            with suppress(queue.Empty):
                if self._told.get(timeout=min(left, _AGAIN_S)) == signal.SIGINT:
                    break
        log.warning("The grace is over (MEDLEY_GRACE_S): the painting processes that are left are ended.")
        self._signal(signal.SIGQUIT)
        time.sleep(_LAST_WORDS_S)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for process in list(self._pool._pool):
            if process.pid:  # it was started
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)
