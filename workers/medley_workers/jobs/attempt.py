"""One attempt at a job: its files in storage, the checkpoints and the commit that name them."""

import hashlib
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from medley import keys
from medley.batches.stored import read_result
from medley.errors import MedleyError, NumbersError, StorageRefused
from medley.records.base import JobId
from medley.records.results import AnyResult, StoredFile
from medley.storage import Storage
from medley_workers import metrics
from medley_workers.jobs.checkpoint import HowFar, to_bytes
from medley_workers.numbers.transfer import Snapshot

log = logging.getLogger(__name__)

R = TypeVar("R", bound=AnyResult)


class Attempt:
    """Stores the files of one attempt under its own random token, so that twins never touch each other's.

    ``files`` and ``frames`` (steps) are what its result is to name; an attempt that goes on with an earlier one names
    that one's, too.
    """

    def __init__(self, storage: Storage, job: JobId, economy: str = "") -> None:
        self.token = secrets.token_hex(8)
        self.files: dict[str, StoredFile] = {}
        self.frames: list[int] = []
        self.resumed_at: tuple[int, ...] = ()
        self.economy = economy
        self._storage = storage
        self._job = job
        self._in_checkpoint: set[str] = set()

    def store_frame(self, step: int, data: bytes) -> None:
        """Store the frame (a JPEG) of the picture that has had this many steps."""
        self._store(keys.frame(self._job, self.token, step), data, "image/jpeg")
        self.frames.append(step)
        metrics.FRAMES.inc()

    def store_picture(self, data: bytes) -> None:
        """Store the finished picture (a PNG)."""
        self._store(keys.pastiche(self._job, self.token), data, "image/png")

    def store_previews(self, previews: Mapping[str, bytes]) -> None:
        """Store small copies (JPEGs) of the inputs and of the picture, by name."""
        for name, data in previews.items():
            self._store(keys.preview(self._job, self.token, name), data, "image/jpeg")

    def go_on_with(self, how_far: HowFar, frames: Sequence[int]) -> None:
        """Begin where an earlier attempt was, which had kept these frames."""
        self.files.update(how_far.files)
        self.frames.extend(frames)
        self.resumed_at = (*how_far.resumed_at, how_far.step)
        self.economy = self.economy or how_far.economy

    def store_checkpoint(self, snapshot: Snapshot, losses: tuple[tuple[int, float], ...]) -> None:
        """Store how far the painting came, with the frames stored so far; that it cannot be is only a warning."""
        # Before it is stored: what was refused may be there all the same.
        self._in_checkpoint = {file.key for file in self.files.values()}
        try:
            how_far = HowFar(
                job_id=self._job,
                step=snapshot.index,
                losses=losses,
                files=self.files,
                resumed_at=self.resumed_at,
                economy=self.economy,
            )
            self._storage.put(keys.checkpoint(self._job), to_bytes(how_far, snapshot), "application/octet-stream")
        except Exception as error:  # whatever it is, the painting can do without
            log.warning("Step %d of job %s is not kept as a checkpoint: %s", snapshot.index, self._job, error)

    def remove_checkpoint(self) -> None:
        """Remove what nobody is to go on with; where it stays, it is in nobody's way."""
        key = keys.checkpoint(self._job)
        try:
            self._storage.delete(key)
        except MedleyError as error:
            log.warning("%s is of no use any more, stays there, and may be deleted: %s", key, error)

    @contextmanager
    def or_nothing(self) -> Iterator[None]:
        """Discard the attempt if what is done inside fails.

        A worker that is ended (SystemExit) has no time for this; what it leaves, no one names.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, NumbersError):
                self.remove_checkpoint()  # or every later attempt would go on with what led there
            self.discard()
            raise

    def commit(self, result: R) -> R:
        """Write result.json, unless a twin did; returns the one that stands. Nobody needs a checkpoint then.

        Raises:
            StorageRefused: it does not stand, and the attempt's files are discarded.
            StorageUnreachable: it may stand, as the answer may be what was lost; so the files that it names stay.
        """
        try:
            is_ours = self._storage.put_new(keys.result(result.job_id), result.json_bytes())
        except StorageRefused:
            self.discard()
            raise
        self.remove_checkpoint()
        stands = None if is_ours else read_result(self._storage, result.job_id)
        return stands if isinstance(stands, type(result)) else result

    def discard(self) -> None:
        """Delete what was stored, once nothing more will be, but for what a checkpoint names: someone may have gone on
        with it. Where storage is away, it stays, and nothing names it.
        """
        prefix = keys.attempt(self._job, self.token)
        try:
            for key in list(self._storage.list(prefix)):
                if key not in self._in_checkpoint:
                    self._storage.delete(key)
        except MedleyError as error:  # the attempt has failed of something else, which is what must be told
            log.warning("What a failed attempt left below %s stays there and may be deleted: %s", prefix, error)

    def _store(self, key: str, data: bytes, content_type: str) -> None:
        self._storage.put(key, data, content_type)
        metrics.UPLOADS.inc()
        metrics.UPLOAD_BYTES.inc(len(data))
        name = key.removeprefix(keys.attempt(self._job, self.token))
        self.files[name] = StoredFile(key=key, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
