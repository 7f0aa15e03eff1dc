"""How long work says how far it is."""

from collections.abc import Callable

Told = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0 if that is not known)."""


def quiet(*_: object) -> None:
    """A :data:`Told` that nobody hears."""
