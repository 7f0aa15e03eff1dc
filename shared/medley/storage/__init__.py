"""Where pictures and records are kept, a folder or an S3 bucket, behind one small interface.

Only this package knows boto3, and loads it only for an ``s3://`` URL.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from medley.errors import UsageError
from medley.settings import Settings
from medley.storage.contract import Storage, is_key

__all__ = ["Storage", "open_storage"]

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_FORMS = "write file:///folder, or s3://bucket/prefix"


def open_storage(url: str, settings: Settings) -> Storage:
    """Open the storage at a URL: ``file:///folder``, made if it is missing, or ``s3://bucket/prefix``.

    Nothing is sent to a service yet: :meth:`Storage.check` does that. Threads may share what is returned; each
    process opens its own.

    Raises:
        UsageError: the URL is neither of these, the S3 server's has a password, or MEDLEY_CA_FILE is unusable.
        StorageRefused: the folder cannot be made, or boto3's configuration cannot be used.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"The storage URL {url!r} cannot be used ({error}): {_FORMS}.") from error
    if parts.scheme not in ("file", "s3"):
        hint = f" A folder is {Path(url).absolute().as_uri()}." if not parts.scheme else ""
        raise UsageError(f"The storage URL {url!r} cannot be used: {_FORMS}.{hint}")
    if parts.query or parts.fragment:
        raise UsageError(f"The storage URL {url!r} has a ? or a #: {_FORMS}, with %3F or %23 in a folder's name.")
    if parts.scheme == "s3":
        return _open_bucket(parts.netloc, parts.path.strip("/"), settings)
    return _open_folder(parts.netloc, unquote(parts.path))


def _open_folder(host: str, path: str) -> Storage:
    from medley.storage.folder import FolderStorage

    if host or not path.startswith("/") or "\0" in path:
        raise UsageError("The storage URL names no folder from the root: write file:/// and the whole path.")
    return FolderStorage(Path(path))


def _open_bucket(bucket: str, prefix: str, settings: Settings) -> Storage:
    from medley.storage.s3 import S3Storage

    if not _BUCKET.fullmatch(bucket):  # not repeated in the message: it may hold a password
        raise UsageError(f"The storage URL names no bucket: {_FORMS}. Credentials go into AWS_* variables.")
    if prefix and not is_key(prefix):
        raise UsageError(f"The storage URL's prefix {prefix!r} has an empty part, '.', '..' or a backslash: {_FORMS}.")
    return S3Storage(bucket, prefix, settings)
