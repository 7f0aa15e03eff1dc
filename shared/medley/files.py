"""Files that are there whole or not at all, and the system's complaints about files as medley's."""

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from medley.errors import StorageRefused, StorageUnreachable

PART = ".part-"
"""How the name begins of a file that is not whole yet; no part of a key may begin so."""

_UNREACHABLE = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.EAGAIN}
)
"""What a disk or a network mount says while it is away."""

COMMON, PRIVATE = 0o666, 0o600
"""What a file is created with, before the user's mask."""


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(
    path: Path, publish: Callable[[Path, Path], None] = os.replace, mode: int = COMMON
) -> Iterator[BinaryIO]:
    """Write a file that appears under its name when it is whole and on the disk; its folder is made.

    ``publish(part, path)`` gives it its name, by default over whatever is there. ``mode`` is what it is created with.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(PART + secrets.token_hex(8))
    try:
        with open(part, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def os_errors(place: str) -> Iterator[None]:
    """Turn the system's complaints about a file into medley's.

    Raises:
        StorageUnreachable: the disk or the mount is away.
        StorageRefused: no room, no right, a file in the way of a folder, ...
    """
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror} ({error.filename})" if error.filename else error.strerror or str(error)
        if error.errno in _UNREACHABLE:
            raise StorageUnreachable(f"{place} does not answer: {reason}. Mend the disk or the mount.") from error
        hint = "Make room there, give this user the right to it, or choose another place."
        raise StorageRefused(f"{place} cannot be used: {reason}. {hint}") from error
