"""How programs that run for long tell what they do: in lines for people on a terminal, as JSON elsewhere.

A line of JSON has ``at`` (UTC), ``level``, ``logger``, ``process`` and ``message``, ``traceback`` where there is one,
and what the message is about, as :func:`about` says: ``batch``, ``job``.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from medley.settings import Settings

TEXT = "%(asctime)s %(levelname)s %(processName)s %(message)s"

_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039  # nobody changes it


@contextmanager
def about(**what: str) -> Iterator[None]:
    """Whatever this thread logs within is about these."""
    token = _ABOUT.set({**_ABOUT.get(), **what})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def is_json(settings: Settings) -> bool:
    """Whether this process's log is to be JSON: as MEDLEY_LOG_FORMAT says, or if nobody reads it on a terminal."""
    return settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())


def begin(settings: Settings) -> None:
    """Have what is logged from now on, and what is warned of, go to stderr, until somebody else sets up more."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if is_json(settings) else logging.Formatter(TEXT))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    logging.captureWarnings(is_json(settings))


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "at": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.processName,
            "message": record.getMessage(),
            **_ABOUT.get(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
