"""The last lines that a process logged, for whoever reads why a job failed."""

import logging
from collections import deque

LINES = 12
"""Enough for what led to a failure; a traceback's end is among them."""

LINE_CHARACTERS = 500
"""Longer lines are cut, so that an outcome stays a few KB."""


class RecentLog(logging.Handler):
    """Keeps the last :data:`LINES` lines of all that is logged from ``INFO`` up."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._lines: deque[str] = deque(maxlen=LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record's lines."""
        try:
            self._lines.extend(line[:LINE_CHARACTERS] for line in self.format(record).splitlines())
        except Exception:
            self.handleError(record)

    def tail(self) -> tuple[str, ...]:
        """The lines, the oldest first."""
        return tuple(self._lines)
