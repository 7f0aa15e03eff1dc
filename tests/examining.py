"""What tests of `medley doctor` share: what one check finds, and a painting process that says it is there."""

import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from medley.broker.ledger import Ledger
from medley.broker.roster import Painter
from medley.records.jobs import ENGINE
from medley.settings import Settings
from medley_producer.doctor import WITHIN_S, Examination, Finding


def findings_of(check: Callable[[], Iterator[Finding]]) -> dict[str, Finding]:
    """What one check finds, by name."""
    found = list(Examination("check", check).findings(time.monotonic() + WITHIN_S))
    assert all((finding.remedy is None) == (finding.state == "green") for finding in found), found
    return {finding.name: finding for finding in found}


def greet(url: str, **changes: Any) -> None:
    """Have a painting process say that it is there."""
    here = {
        "name": "host#0",
        "version": version("medley-farm"),
        "engine": ENGINE,
        "device": "cpu",
        "model_loads": 0,
        "jobs": 0,
    }
    Ledger(Settings(redis_url=url)).greet(Painter.model_validate(here | changes))
