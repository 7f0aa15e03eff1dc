"""What the commands do: one function each, from its arguments to its exit code, and what it prints."""

import importlib
from argparse import Namespace
from collections.abc import Callable

_MODULES = {
    "painting": ("run", "submit", "worker"),
    "batches": ("status", "pause", "resume", "cancel", "retry", "rm", "fetch"),
    "pieces": ("video", "sheet"),
    "random_networks": ("art", "walk"),
}
"""Where the functions of commands are, each of which has its command's name; others have a module of that name."""


def function_of(command: str) -> Callable[[Namespace], int]:
    """The function of a command; only what that one needs is imported."""
    module = next((module for module, commands in _MODULES.items() if command in commands), command)
    function: Callable[[Namespace], int] = getattr(importlib.import_module(f"{__name__}.{module}"), command)
    return function
