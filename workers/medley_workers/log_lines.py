"""Has what Celery sets up as the log write JSON, where MEDLEY_LOG_FORMAT and the terminal say so.

It does so once it is imported; the worker's parent and each painting process, which is a program of its own, need that.
"""

import logging
import os
from typing import Any

from celery.signals import after_setup_logger, after_setup_task_logger, worker_before_create_process
from celery.utils.log import get_multiprocessing_logger

from medley import logs
from medley.settings import Settings


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
