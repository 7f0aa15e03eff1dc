"""What every kind of storage promises, and what a key is."""

import mimetypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from medley.errors import ObjectMissing, UsageError
from medley.files import PART

_NO_KEY = re.compile(rf"(^|/)(\.\.?)?(/|\Z)|(^|/){re.escape(PART)}|[\\\0\ud800-\udfff]")


class Storage(Protocol):
    """Objects (bytes) under keys (``a/b/c.png``), relative to :attr:`root`.

    No key may be the folder of another (``a`` beside ``a/b``), as a file cannot be a folder.

    Every method raises ``StorageUnreachable`` where the service does not answer, ``StorageRefused`` where it says no,
    and ``ValueError`` for what is no key (see :func:`is_key`), which is a mistake of the program. On S3, a call to a
    server that is down gives up within two connection attempts (``MEDLEY_CONNECT_TIMEOUT_S`` each, for each address
    that the server's name has).
    """

    root: str
    """The URL that was opened."""

    def put(self, key: str, data: bytes, content_type: str | None = None, *, private: bool = False) -> None:
        """Store ``data``, over what was there; no reader ever sees half of it.

        ``content_type`` is what a browser is told (S3 only); by default it follows from the key's extension. What is
        ``private`` becomes a file that only its owner may read (mode 0600); on S3 the bucket's own rules decide that.
        """

    def put_file(self, key: str, path: Path) -> None:
        """As :meth:`put`, from a local file that need not fit into memory. A folder gets a copy, never a link."""

    def put_new(self, key: str, data: bytes) -> bool:
        """Store ``data`` unless something is there; True if this call stored it.

        Of many callers at once one gets True. There are two exceptions, so let nothing correct rest on it: a server
        that ignores ``If-None-Match`` (a probe finds that out) is asked first and written to then, and where the
        answer to a write was lost, the second attempt finds the first one's object and says False.
        """

    def get(self, key: str, most_bytes: int | None = None) -> bytes:
        """The object's bytes.

        Raises:
            ObjectMissing: there is none.
            UsageError: it has more than ``most_bytes``, so none of them were read.
        """

    def get_file(self, key: str, path: Path, *, link: bool = False) -> None:
        """As :meth:`get`, into a local file, which appears when it is whole; its folder is made.

        With ``link``, it may be a hard link, where storage is a folder on the same file system.

        Raises:
            ObjectMissing: there is none.
        """

    def exists(self, key: str) -> bool:
        """Whether there is an object under exactly this key. S3 says no, too, where the bucket is missing."""

    def list(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """The keys that begin with ``prefix`` (any text, not only a folder), sorted.

        With ``after``, a key that an earlier listing gave, only those that it would give after that one.

        They are fetched as they are used, 1,000 at a time from S3. Names that are no key are left out. The order is
        that of code points, with one exception: SeaweedFS sorts ``/`` before every other character, so where the
        order of keys in several folders matters, sort them.
        """

    def folders(self, prefix: str) -> Iterator[str]:
        """The names of the folders right below ``prefix`` (which ends in ``/``), each once, without their keys.

        It costs a request a thousand folders on S3, however many keys are in them. A folder on disk may be empty.
        """

    def delete(self, key: str) -> None:
        """Remove the object, if there is one."""

    def check(self) -> None:
        """Prove with one cheap call that storage answers, knows us, and has the bucket or the folder.

        A server that accepts connections and says nothing is given up as one that is down is.
        """

    def honours_conditions(self) -> bool:
        """Whether :meth:`put_new` lets exactly one of many callers win; False on a server that ignores conditions.

        It is found out by writing an object twice under ``probe/`` and removing it; on S3, once.
        """

    def clock_skew_s(self) -> float | None:
        """This machine's clock minus the server's, in seconds, to about one; None where there is no server's."""

    def url(self, key: str, expires_s: int = 3600) -> str:
        """A URL at which a person can look at the object: ``file://``, or signed for ``expires_s`` (1..604,800)."""


def is_key(text: str) -> bool:
    """Whether this can be a key: parts joined by ``/``, none of them empty, ``.`` or ``..``; no backslash, no NUL."""
    return not _NO_KEY.search(text)


def checked(key: str) -> str:
    """The key itself.

    Raises:
        ValueError: it is none.
    """
    if not is_key(key):
        raise ValueError(f"{key!r} is no storage key: it has an empty part, '.', '..', a backslash or a NUL.")
    return key


def checked_prefix(prefix: str) -> str:
    """The prefix itself; its last part may be empty or incomplete.

    Raises:
        ValueError: no key can begin so.
    """
    checked(prefix + "x")
    return prefix


def check_size(key: str, size_bytes: int, most_bytes: int | None) -> None:
    """See that an object is not larger than its reader expects.

    Raises:
        UsageError: it is, and as such is no valid record, like one that has other fields.
    """
    if most_bytes is not None and size_bytes > most_bytes:
        raise UsageError(
            f"{key} has {size_bytes:,} bytes in storage, and at most {most_bytes:,} are read: something else wrote it; "
            "remove it, or put the right object there."
        )


def content_type_of(key: str) -> str:
    """The MIME type that the key's extension stands for; bytes of no kind if it is unknown."""
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


def missing(url: str, key: str) -> ObjectMissing:
    """The error for a key under which nothing lies."""
    return ObjectMissing(f"{url} has no {key}. It was deleted or never written; ask for what `list` shows.")
