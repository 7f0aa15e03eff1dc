"""How long work says how far it is."""

from collections.abc import Callable

Told = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and of how much; nothing is known of the whole where that is 0."""
