"""Mutants of a file of weights, each the same for its seed: damaged bytes, false headers, wrong contents."""

import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from hostile import mutated

Header = dict[str, Any]


def mutant(data: bytes, seed: str) -> bytes:
    """A sound file, changed in some of the ways in which files get damaged, or are meant to."""
    rng = random.Random(seed)
    way = rng.randrange(10)
    if way < 4:
        return mutated(data, rng)
    if way < 7:
        return _with_wrong_contents(data, rng)
    header, body = _taken_apart(data)
    for _ in range(rng.randint(0, 3)):
        rng.choice(_LIES)(header, rng)
    rng.choice([_lose, _swap_names, *_LIES])(header, rng)  # the first two at the end only: others need what they lose
    return with_header(header, body)


def with_header(header: Header, body: bytes = b"") -> bytes:
    """A safetensors file, whatever its header says."""
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + body


def _taken_apart(data: bytes) -> tuple[Header, bytes]:
    end = 8 + struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:end]), data[end:]


_NUMBERS: tuple[Any, ...] = (
    0,
    1,
    -1,
    0.5,
    2**31,
    2**32 - 1,
    2**62,
    2**63,
    2**64 - 1,
    2**64,
    10**30,
    None,
    "1",
    [],
    True,
)
_KINDS = (
    "U8",
    "I8",
    "U16",
    "I16",
    "F16",
    "BF16",
    "U32",
    "I32",
    "F32",
    "F64",
    "BOOL",
    "C64",
    "F8_E4M3",
    "F4",
    "X",
    "",
    1,
)
_VALUES: tuple[Any, ...] = (
    *_NUMBERS,
    2,
    3,
    5,
    16,
    17,
    "kmeans",
    "feedback",
    "\ud800",
    "\n\x1b[2J",
    {"a": [[]]},
    "z" * 3_000,
    float("nan"),
)


def _tensor(header: Header, rng: random.Random) -> Header:
    tensor: Header = header[rng.choice(sorted(header.keys() - {"__metadata__"}))]
    return tensor


def _other_number(number: Any, rng: random.Random) -> Any:
    near = [number - 1, number + 1, number * 2, number // 2] if isinstance(number, int) else []
    return rng.choice([*near, *near, *_NUMBERS])


def _lie_of_shape(header: Header, rng: random.Random) -> None:
    tensor = _tensor(header, rng)
    shape = [_other_number(tensor["shape"][0], rng)] if tensor["shape"] else [1]
    tensor["shape"] = rng.choice([shape, [], [*tensor["shape"], 1], [1, *tensor["shape"]], [2**32, 2**32], shape * 40])


def _lie_of_place(header: Header, rng: random.Random) -> None:
    offsets = _tensor(header, rng)["data_offsets"]
    which = rng.randrange(2)
    offsets[which] = _other_number(offsets[which], rng)


def _lie_of_kind(header: Header, rng: random.Random) -> None:
    _tensor(header, rng)["dtype"] = rng.choice(_KINDS)


def _swap_places(header: Header, rng: random.Random) -> None:
    one, other = _tensor(header, rng), _tensor(header, rng)
    one["data_offsets"], other["data_offsets"] = other["data_offsets"], one["data_offsets"]


def _swap_names(header: Header, rng: random.Random) -> None:
    one, other = rng.sample(sorted(header), 2)
    header[one], header[other] = header[other], header[one]


def _lose(header: Header, rng: random.Random) -> None:
    losing = rng.choice([header, header["__metadata__"], _tensor(header, rng)])
    del losing[rng.choice(sorted(losing))]


def _lie_in_note(header: Header, rng: random.Random) -> None:
    note = json.loads(header["__metadata__"]["medley"])
    if isinstance(note, dict):
        note[rng.choice([*note, "more", "\n\x1b[2J"])] = rng.choice(_VALUES)
    header["__metadata__"]["medley"] = json.dumps(rng.choice([note, note, note, [note], "note"]))


_LIES: list[Callable[[Header, random.Random], None]] = [
    _lie_of_shape, _lie_of_place, _lie_of_kind, _swap_places, _lie_in_note, _lie_in_note,
]  # fmt: skip


def _with_wrong_contents(data: bytes, rng: random.Random) -> bytes:
    """A file that is sound as safetensors, with other values in one array."""
    arrays = load(data)
    name = rng.choice(["side", *sorted(arrays)]) if "side" in arrays else rng.choice(sorted(arrays))
    old = arrays[name]
    raw = _other_side(old.tobytes(), rng) if name == "side" else _other_bytes(old.tobytes(), rng)
    arrays[name] = np.frombuffer(raw[: len(raw) // old.itemsize * old.itemsize], old.dtype)
    return save(arrays, _taken_apart(data)[0]["__metadata__"])


def _other_bytes(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    end = begin + rng.choice([1, 2, 4, 64, 4096])
    way = rng.randrange(6)
    if way == 0:
        return data[:begin]
    if way == 1:
        return data + data[:begin]
    values = [bytes(end - begin), b"\xff" * (end - begin), rng.randbytes(end - begin), b"\0\0\x80\x7f"]
    return (data[:begin] + values[way - 2] + data[end:])[: len(data)]


def _other_side(data: bytes, rng: random.Random) -> bytes:
    """What goes with the integers, changed before it is deflated, so that its check sum is right; or a bomb."""
    if rng.random() < 0.02:
        return zlib.compress(bytes(100_000_000), 1)
    return zlib.compress(_other_bytes(zlib.decompress(data), rng), 1)
