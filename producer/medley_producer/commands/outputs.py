"""Files that a command is to make, looked at before hours are spent on them."""

import os
from pathlib import Path

from medley.errors import UsageError


def output_file(text: str, suffix: str) -> Path:
    """A file that can be made there; its folder is made by whoever writes it.

    Raises:
        UsageError: its name ends otherwise, a folder is in its place, or nothing can be written there.
    """
    path = Path(text)
    if path.suffix.lower() != suffix:
        raise UsageError(f"{text} is made as {suffix[1:].upper()}, so its name must end in {suffix}.")
    if path.is_dir():
        raise UsageError(f"{text} is a folder; name a file in it.")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise UsageError(f"{text} cannot be made, as nothing can be written into {nearest}; name another place.")
    return path
