"""How far a painting came, in one safetensors file, for whoever takes its job over; read without trust."""

import json
import logging
from typing import Literal, NamedTuple

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from medley import keys
from medley.errors import ObjectMissing, PermanentError, UsageError
from medley.records.base import JobId, Record
from medley.records.options import StyleTransferOptions
from medley.records.results import StoredFile
from medley.storage import Storage
from medley.storage.contract import is_key
from medley_workers.numbers.optim import PAIRS, SCALE, pairs_in, state_names
from medley_workers.numbers.tensors import Tensors
from medley_workers.numbers.transfer import Snapshot

log = logging.getLogger(__name__)

_NOTE = "medley"
_LENGTH_BYTES = 8
"""A safetensors file begins with its header's length, little-endian."""

_HEADER_BYTES = 10_000
"""For what a header says whatever the number of steps; ours have some 500."""

_STEP_BYTES = 500
"""A step's part of the header: at most a frame's file and a loss, which take some 280."""


class HowFar(Record):
    """What a checkpoint says beside its canvas: the result of the job as far as it is known.

    ``files`` are those of the frames, as in a result; at the steps ``resumed_at`` earlier attempts were gone on with,
    whose frames are among them. ``economy`` is a result's, too.
    """

    version: Literal[1] = 1
    job_id: JobId
    step: PositiveInt
    losses: tuple[tuple[NonNegativeInt, NonNegativeFloat], ...]
    files: dict[str, StoredFile]
    resumed_at: tuple[PositiveInt, ...] = ()
    economy: str = ""


class Checkpoint(NamedTuple):
    """What is said of a painting, and what it can be gone on with."""

    how_far: HowFar
    snapshot: Snapshot


def to_bytes(how_far: HowFar, snapshot: Snapshot) -> bytes:
    """The file."""
    return save({"canvas": snapshot.canvas, **snapshot.optimizer_state}, {_NOTE: how_far.json_bytes().decode()})


def find_checkpoint(storage: Storage, job: JobId, options: StyleTransferOptions, start: Tensor) -> Checkpoint | None:
    """What to go on with instead of the canvas ``start``, (1, C, H, W), if a checkpoint of this job can be used.

    Raises:
        StorageUnreachable: storage is away, so it is not known.
    """
    arrays_bytes = (1 + len(state_names(options.optimizer))) * start.nbytes + start.itemsize
    most_bytes = _LENGTH_BYTES + _most_header_bytes(options) + arrays_bytes
    try:
        checkpoint = from_bytes(storage.get(keys.checkpoint(job), most_bytes), job, options, start)
        _require_files(storage, checkpoint.how_far)
    except ObjectMissing:
        return None
    except PermanentError as error:
        log.warning("The checkpoint of job %s is of no use, so it is painted from the beginning: %s", job, error)
        return None
    log.info("Job %s is gone on with at step %d.", job, checkpoint.how_far.step)
    return checkpoint


def from_bytes(data: bytes, job: JobId, options: StyleTransferOptions, start: Tensor) -> Checkpoint:
    """A file of :func:`to_bytes`. No more memory is taken than twice its bytes.

    Raises:
        UsageError: it is not one, or not of this job.
    """
    how_far = _how_far(data, options)
    if how_far.job_id != job:
        raise UsageError(f"It is of job {how_far.job_id}.")
    _require_sense(how_far, options)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AssertionError, RuntimeError) as error:
        raise UsageError(f"Its arrays cannot be read ({error}).") from error
    _require_shapes(tensors, options, start)
    return Checkpoint(how_far, Snapshot(how_far.step, tensors.pop("canvas"), tensors))


def _how_far(data: bytes, options: StyleTransferOptions) -> HowFar:
    """The note, of a header whose length is as it says and not more than there is to say."""
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > min(len(data), _most_header_bytes(options)):
        raise UsageError(f"Its header is said to have {length:,} bytes.")
    try:
        note = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])["__metadata__"][_NOTE]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError("It has no header that medley wrote.") from error
    return HowFar.from_json(str(note))


def _require_sense(how_far: HowFar, options: StyleTransferOptions) -> None:
    """See that a checkpoint's step, losses and files are such as a painting with these options comes to have."""
    if how_far.step > options.num_steps:
        raise UsageError(f"It is at step {how_far.step} of {options.num_steps}.")
    looked_at = [index for index, _ in how_far.losses]
    if looked_at != sorted(set(looked_at)) or looked_at[:1] != [0] or looked_at[-1] > how_far.step:
        raise UsageError("Its losses are not those of steps in their order.")
    if how_far.files.keys() != {_name(frame) for frame in frames_until(how_far.step, options)}:
        raise UsageError(f"Its files are not the frames until step {how_far.step}.")
    for name, file in how_far.files.items():
        token = file.key.removesuffix(f"/{name}").rpartition("/")[2]
        if not is_key(file.key) or file.key != keys.attempt(how_far.job_id, token) + name:
            raise UsageError("Its files are not those of this job.")


def _name(frame: int) -> str:
    """What a result calls the file of a frame."""
    return keys.frame("", "", frame).removeprefix(keys.attempt("", ""))


def frames_until(step: int, options: StyleTransferOptions) -> range:
    """The steps whose pictures are kept as frames, up to this one."""
    return range(0, step + 1 if options.frame_every else 0, max(1, options.frame_every))


def _require_files(storage: Storage, how_far: HowFar) -> None:
    """See that the frames are there, by a LIST for each attempt: a result that names others is worth nothing."""
    attempts = {file.key.removesuffix(name) for name, file in how_far.files.items()}
    there = {key for attempt in attempts for key in storage.list(attempt)}
    if lacking := sum(file.key not in there for file in how_far.files.values()):
        raise UsageError(f"{lacking} of its frames are no longer in storage.")


def _require_shapes(tensors: Tensors, options: StyleTransferOptions, start: Tensor) -> None:
    """See that there are the canvas and the optimiser's state, or the canvas alone, all of them finite."""
    pairs = min(pairs_in(tensors), PAIRS)
    shapes = dict.fromkeys(["canvas", *state_names(options.optimizer, pairs)], start.shape)
    if options.optimizer == "lbfgs":
        shapes[SCALE] = torch.Size()
    if tensors.keys() != shapes.keys() and tensors.keys() != {"canvas"}:
        raise UsageError("It has other arrays than this job's optimiser.")
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name] or tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise UsageError(f"Its {name} is not finite, or of another shape or type.")


def _most_header_bytes(options: StyleTransferOptions) -> int:
    return _HEADER_BYTES + _STEP_BYTES * (options.num_steps + 1)
