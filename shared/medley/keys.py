"""Every key in storage, as pure functions; nothing else builds one, but for the probe that storage makes of a server.

Keys are relative to the storage URL, use ``/`` on every system, and never start with it.
"""

from medley.records.base import BatchName, Digest, InputName, JobId
from medley.records.results import PICTURE_FILE, Status, frame_file

INPUTS = "inputs/"
"""The prefix of all input pictures."""


def input_picture(name: InputName) -> str:
    """An input picture, stored once however many pairs use it; ``name`` is ``<sha256>.<ext>``."""
    return f"{INPUTS}{name}"


MODELS = "models/"
"""The prefix of all files of weights."""


def model(digest: Digest) -> str:
    """The network's weights, which workers fetch; the bytes tell which format they have, so there is no extension."""
    return f"{MODELS}{digest}"


JOBS = "jobs/"
"""The prefix of all that jobs leave."""


def attempt(job: JobId, token: str) -> str:
    """The prefix of all that one attempt at a job writes; ``token`` is random, so twins never share files."""
    return f"{JOBS}{job}/{token}/"


def frame(job: JobId, token: str, step: int) -> str:
    """The frame kept after ``step`` steps; step 0 is the picture before the first."""
    return f"{attempt(job, token)}{frame_file(step)}"


def is_frame(key: str) -> bool:
    """Whether a frame lies under this key."""
    return key.startswith(JOBS) and "/frames/" in key


def pastiche(job: JobId, token: str) -> str:
    """The finished picture of one attempt."""
    return f"{attempt(job, token)}{PICTURE_FILE}"


def preview(job: JobId, token: str, name: str) -> str:
    """A small copy of what an attempt made, or made it from; :mod:`medley.media.previews` has the names."""
    return f"{attempt(job, token)}{name}"


def result(job: JobId) -> str:
    """The commit of a job: create-only and written last."""
    return f"{JOBS}{job}/result.json"


def checkpoint(job: JobId) -> str:
    """How far a painting came, for whoever takes it over."""
    return f"{JOBS}{job}/checkpoint.safetensors"


OPEN = "open/"
"""The prefix of the names of all batches that are unfinished."""


def open_batch(batch: BatchName) -> str:
    """Stands while the batch is unfinished."""
    return f"{OPEN}{batch}"


BATCHES = "batches/"
"""The prefix of all batches."""


def batch_folder(batch: BatchName) -> str:
    """The prefix of all that belongs to one batch."""
    return f"{BATCHES}{batch}/"


def batch(batch: BatchName) -> str:
    """What was asked for; create-only, written after the inputs and the manifest."""
    return f"{batch_folder(batch)}batch.json"


def manifest(batch: BatchName, digest: Digest) -> str:
    """The pairs of a batch in order, a JSON line each; ``digest`` is that of the file."""
    return f"{batch_folder(batch)}jobs-{digest}.jsonl"


def control(batch: BatchName) -> str:
    """Whether a batch runs, is paused or is cancelled; without it, it runs."""
    return f"{batch_folder(batch)}control.json"


def notify(batch: BatchName) -> str:
    """Where the end of a batch is to be told; it may hold a secret, and is removed when that has been told."""
    return f"{batch_folder(batch)}notify.json"


def outcomes(batch: BatchName) -> str:
    """The prefix under which a batch's outcomes lie."""
    return f"{batch_folder(batch)}outcomes/"


def outcome(batch: BatchName, job: JobId, status: Status) -> str:
    """How a job of a batch ended; ``status`` is ``done`` or ``failed``, and done wins."""
    return f"{outcomes(batch)}{job}.{status}.json"


def contact_sheet(batch: BatchName) -> str:
    """The batch at a glance."""
    return f"{batch_folder(batch)}contact_sheet.jpg"


def video(batch: BatchName) -> str:
    """The batch in motion: the medley of its pictures, or its walk."""
    return f"{batch_folder(batch)}medley.mp4"


def gallery(batch: BatchName, number: int = 1) -> str:
    """A page of the gallery, from 1 on."""
    return f"{batch_folder(batch)}{'index' if number == 1 else f'gallery/page-{number}'}.html"


def failures(batch: BatchName) -> str:
    """What failed or was skipped and why, a JSON line each."""
    return f"{batch_folder(batch)}failures.jsonl"


def finished(batch: BatchName) -> str:
    """Stands when everything a batch ends with is there."""
    return f"{batch_folder(batch)}finished.json"
