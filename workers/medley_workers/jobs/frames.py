"""Frames leave while the device works: one thread encodes them and hands them on, in order."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class FrameKeeper:
    """Keeps frames on a thread of its own until :meth:`close`, which leaving it as a context does after :meth:`settle`.

    What goes wrong there is raised in the painter: at the next :meth:`keep`, or in :meth:`settle`. If the painter
    itself fails, frames that still wait are dropped.
    """

    def __init__(self, put: Callable[[int, bytes], object], *, waiting: int) -> None:
        """Prepare to keep frames.

        Args:
            put: stores an encoded frame under its step; called on the thread
            waiting: frames that may be on their way at once, at least 1; this bounds memory
        """
        self._put = put
        self._waiting = waiting
        self._frames: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="frames")

    def keep(self, step: int, encode: Callable[[], bytes]) -> None:
        """Hand a frame over, as what makes its bytes on the thread. Waits while too many are on their way.

        Raises:
            Exception: what ``encode`` or ``put`` raised for an earlier frame.
        """
        while self._frames and (self._frames[0].done() or len(self._frames) >= self._waiting):
            self._frames.popleft().result()
        self._frames.append(self._thread.submit(self._keep, step, encode))

    def after_frames(self, do: Callable[[], object]) -> "Future[None]":
        """Have something done on the thread behind the frames handed over so far; not if one of those fails."""
        frames = tuple(self._frames)

        def when_kept() -> None:
            if not any(frame.exception() for frame in frames):
                do()

        return self._thread.submit(when_kept)

    def _keep(self, step: int, encode: Callable[[], bytes]) -> None:
        self._put(step, encode())

    def settle(self) -> None:
        """Wait until all that was handed over is kept.

        Raises:
            Exception: what ``encode`` or ``put`` raised for one of them.
        """
        while self._frames:
            self._frames.popleft().result()

    def close(self) -> None:
        """End the thread; what it did not begin is dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.settle()
        finally:
            self.close()
