"""Named arrays and a note in one safetensors file: written whole or not at all, and read without trust."""

import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from medley.errors import UsageError, WeightsError
from medley.files import whole_file
from medley.weight_files import LENGTH_BYTES, MOST_BYTES, header_bytes, is_tensor_file

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

_NOTE = "medley"
"""The one key of the metadata: safetensors writes several in no fixed order, and the same input must give the same
bytes."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file of weights, to be read.

    Raises:
        WeightsError: it cannot be read, has too many bytes, or is a folder, a pipe or the like.
    """
    try:
        status = path.stat()  # first, as opening a pipe would wait for whoever writes into it
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{path} is no file. Name one that `medley vgg compress` made.")
        if status.st_size > MOST_BYTES:
            raise WeightsError(
                f"{path} has {status.st_size:,} bytes, and compressed weights have at most {MOST_BYTES:,}. "
                "Name one that `medley vgg compress` made."
            )
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); see that it is there and readable.") from error


def write_tensors(path: Path, arrays: Arrays, note: Mapping[str, Any]) -> bytes:
    """Write a file, which appears when it is whole, and return its bytes: the same ones for the same arrays and note.

    Raises:
        UsageError: it cannot be written there; nothing is left of it.
    """
    data = save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        {_NOTE: json.dumps(note, sort_keys=True, separators=(",", ":"))},
    )
    try:
        with whole_file(path) as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); make room, or name another place.") from error
    return data


def read_tensors(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and the note of a file. No code in it is run, and no more memory is taken than twice its bytes.

    Raises:
        WeightsError: it cannot be read, or is not a file of :func:`write_tensors`.
    """
    with opened(path) as file:
        data = file.read()
    if not is_tensor_file(data[:16]):
        raise WeightsError(f"{path} is not a safetensors file. Name one that `medley vgg compress` made.")
    try:
        arrays = load(data)
        header = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + header_bytes(data)])
        note = json.loads(header["__metadata__"][_NOTE])
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged, or not medley's: its header cannot be read. Fetch it again.") from error
    if not isinstance(note, dict):
        raise WeightsError(f"{path} is not medley's: its note is no JSON object. Fetch it again.")
    return arrays, note
