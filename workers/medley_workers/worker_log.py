"""A worker's log: JSON where MEDLEY_LOG_FORMAT and the terminal say so; its last lines, for who asks why a job failed.

What Celery sets up writes JSON once this is imported; the worker's parent and each painting process, which is a program
of its own, need that.
"""

import logging
import os
from collections import deque
from typing import Any

from celery.signals import after_setup_logger, after_setup_task_logger, worker_before_create_process
from celery.utils.log import get_multiprocessing_logger

from medley import logs
from medley.settings import Settings

LINES = 12
"""Enough for what led to a failure; a traceback's end is among them."""

LINE_CHARACTERS = 500
"""Longer lines are cut, so that an outcome stays a few KB."""


@worker_before_create_process.connect
def keep_quiet(**_: Any) -> None:
    """Have billiard say nothing in a new process before its log is set up, as it would in its own format."""
    if logs.is_json(Settings.load()):
        os.environ.pop("_MP_FORK_LOGLEVEL_", None)


@after_setup_logger.connect
@after_setup_task_logger.connect
def write_json(logger: logging.Logger, **_: Any) -> None:
    """Change how the handlers write that Celery has just made, billiard's among them."""
    if logs.is_json(Settings.load()):
        logging.captureWarnings(capture=True)
        for handler in (*logger.handlers, *get_multiprocessing_logger().handlers):
            handler.setFormatter(logs.JsonFormatter())


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
