"""What people are told: how far long work is, and names that others chose."""

import re
from collections.abc import Callable

Told = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0 if that is not known)."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, ends of lines, and what turns the direction of writing round."""


def quiet(*_: object) -> None:
    """A :data:`Told` that nobody hears."""


def shown(name: str) -> str:
    """A name that others chose, as a message may have it: on one line, valid Unicode, and nothing moves the cursor."""
    text = re.sub("[\ud800-\udfff]", "\ufffd", name)  # names on disk need not be Unicode
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
