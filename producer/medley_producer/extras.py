"""What only an extra of medley brings: how it is installed, whether it is, and the workers' side, by name."""

import importlib
import importlib.util
from typing import Any

INSTALL_PAINTING = "pip install 'medley-farm[worker]'"
INSTALL_DASHBOARD = "pip install 'medley-farm[dashboard]'"


def can_paint() -> bool:
    """Whether what painting needs is installed; a machine that only submits has the base install."""
    return all(importlib.util.find_spec(name) for name in ("torch", "pynvml"))


def workers_module(name: str) -> Any:
    """A module of the workers' side, imported by name, as this side must be importable without torch."""
    return importlib.import_module(f"medley_workers.{name}")
