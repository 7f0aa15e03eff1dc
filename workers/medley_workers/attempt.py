"""One attempt at a job: its files in storage, and the commit that names them."""

import hashlib
import logging
import secrets

from medley import keys
from medley.batches import read_result
from medley.errors import MedleyError, StorageRefused
from medley.records import JobId
from medley.results import Result, StoredFile
from medley.storage import Storage

log = logging.getLogger(__name__)


class Attempt:
    """Stores the files of one attempt under its own random token, so that twins never touch each other's."""

    def __init__(self, storage: Storage, job: JobId) -> None:
        self.token = secrets.token_hex(8)
        self.files: dict[str, StoredFile] = {}
        self.frames: list[int] = []
        self._storage = storage
        self._job = job

    def store_frame(self, step: int, data: bytes) -> None:
        """Store the frame (a JPEG) of the picture that has had this many steps."""
        self._store(keys.frame(self._job, self.token, step), data, "image/jpeg")
        self.frames.append(step)

    def store_picture(self, data: bytes) -> None:
        """Store the finished picture (a PNG)."""
        self._store(keys.pastiche(self._job, self.token), data, "image/png")

    def commit(self, result: Result) -> Result:
        """Write result.json, unless a twin did; returns the one that stands.

        Raises:
            StorageRefused: it does not stand, and the attempt's files are discarded.
            StorageUnreachable: it may stand, as the answer may be what was lost; so the files that it names stay.
        """
        try:
            is_ours = self._storage.put_new(keys.result(result.job_id), result.json_bytes())
        except StorageRefused:
            self.discard()
            raise
        return result if is_ours else read_result(self._storage, result.job_id) or result

    def discard(self) -> None:
        """Delete what was stored, once nothing more will be; where storage is away, it stays, and nothing names it."""
        prefix = keys.attempt(self._job, self.token)
        try:
            for key in list(self._storage.list(prefix)):
                self._storage.delete(key)
        except MedleyError as error:  # the attempt has failed of something else, which is what must be told
            log.warning("What a failed attempt left below %s stays there and may be deleted: %s", prefix, error)

    def _store(self, key: str, data: bytes, content_type: str) -> None:
        self._storage.put(key, data, content_type)
        name = key.removeprefix(keys.attempt(self._job, self.token))
        self.files[name] = StoredFile(key=key, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
