"""A folder as storage: one file per object."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from medley.files import COMMON, PART, PRIVATE, os_errors, whole_file
from medley.storage.contract import check_size, checked, checked_prefix, is_key, missing

_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FolderStorage:
    """Storage in one folder, local or on a network mount; several processes may use it at once.

    A writer that is killed leaves a file ``.part-*`` behind, which no listing shows.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder.as_uri()
        self._folder = folder
        with os_errors(self.root):
            folder.mkdir(parents=True, exist_ok=True)

    def put(
        self,
        key: str,
        data: bytes,
        content_type: str | None = None,  # noqa: ARG002  files have no type
        *,
        private: bool = False,
    ) -> None:
        """See :meth:`Storage.put`."""
        with self._new_file(key, mode=PRIVATE if private else COMMON) as file:
            file.write(data)

    def put_file(self, key: str, path: Path) -> None:
        """See :meth:`Storage.put_file`."""
        with os_errors(str(path)), path.open("rb") as source, self._new_file(key) as file:
            shutil.copyfileobj(source, file)

    def put_new(self, key: str, data: bytes) -> bool:
        """See :meth:`Storage.put_new`; the folder's file system must know hard links."""
        try:
            with self._new_file(key, publish=_claim) as file:
                file.write(data)
        except _TakenError:
            return False
        return True

    def get(self, key: str, most_bytes: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        with self._open(key) as file:
            check_size(key, os.fstat(file.fileno()).st_size, most_bytes)
            return file.read()

    def get_file(self, key: str, path: Path, *, link: bool = False) -> None:
        """See :meth:`Storage.get_file`."""
        if link and self._link(key, path):
            return
        with self._open(key) as source, os_errors(str(path)), whole_file(path) as file:
            shutil.copyfileobj(source, file)

    def exists(self, key: str) -> bool:
        """See :meth:`Storage.exists`."""
        with os_errors(self.root):
            return self._path(key).is_file()

    def list(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """See :meth:`Storage.list`; each folder is read when it is come to."""
        folder = checked_prefix(prefix).rpartition("/")[0]
        return self._walk(f"{folder}/" if folder else "", prefix, after)

    def folders(self, prefix: str) -> Iterator[str]:
        """See :meth:`Storage.folders`."""
        with os_errors(self.root):
            names = _names(self._folder / checked_prefix(prefix))
        return (name.removesuffix("/") for name in names if name.endswith("/"))

    def delete(self, key: str) -> None:
        """See :meth:`Storage.delete`; the folders above it stay, as another process may be about to use them."""
        with os_errors(self.root), suppress(*_MISSING):
            self._path(key).unlink()

    def check(self) -> None:
        """See :meth:`Storage.check`; writes a file without a name."""
        with os_errors(self.root), tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(b"medley")

    def honours_conditions(self) -> bool:
        """See :meth:`Storage.honours_conditions`; a file system without hard links raises StorageRefused."""
        key = f"probe/{secrets.token_hex(16)}"
        try:
            return self.put_new(key, b"") and not self.put_new(key, b"")
        finally:
            self.delete(key)

    def clock_skew_s(self) -> None:
        """See :meth:`Storage.clock_skew_s`."""

    def url(self, key: str, expires_s: int = 3600) -> str:  # noqa: ARG002  a path does not expire
        """See :meth:`Storage.url`."""
        return self._path(key).as_uri()

    def _link(self, key: str, path: Path) -> bool:
        """Hard-link an object; false where that cannot be: on another file system, or without an object."""
        part = path.with_name(PART + secrets.token_hex(8))
        with os_errors(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self._path(key), part)
        except OSError:
            return False
        try:
            with os_errors(str(path)):
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)  # a rename over another link to the same file leaves both
        return True

    def _path(self, key: str) -> Path:
        return self._folder / checked(key)

    @contextmanager
    def _new_file(
        self, key: str, publish: Callable[[Path, Path], None] = os.replace, mode: int = COMMON
    ) -> Iterator[BinaryIO]:
        with os_errors(self.root), whole_file(self._path(key), publish, mode) as file:
            yield file

    @contextmanager
    def _open(self, key: str) -> Iterator[BinaryIO]:
        with os_errors(self.root):
            try:
                file = self._path(key).open("rb")
            except _MISSING as error:
                raise missing(self.root, key) from error
            with file:
                yield file

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[str]:
        """The keys that begin with ``prefix`` and follow ``after`` in ``folder``, which is "" or ends in ``/``."""
        with os_errors(self.root):
            names = _names(self._folder / folder)
        for name in names:
            key = folder + name
            if name.endswith("/"):
                passed = key < after and not after.startswith(key)
                if not passed and (key.startswith(prefix) or prefix.startswith(key)):
                    yield from self._walk(key, prefix, after)
            elif key > after and key.startswith(prefix) and is_key(key):
                yield key


def _names(folder: Path) -> list[str]:
    """What lies in a folder; a folder's name ends in ``/``, which also puts its keys where they sort."""
    with suppress(*_MISSING), os.scandir(folder) as entries:
        return sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries)
    return []


class _TakenError(Exception):
    """Something has the name already; apart from the ``FileExistsError`` of a file that stands where a folder must."""


def _claim(part: Path, path: Path) -> None:
    try:
        os.link(part, path)
    except FileExistsError as error:
        raise _TakenError from error
