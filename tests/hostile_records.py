"""Hostile records, the same for one seed: real ones of storage with something changed, and what is no record at all."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

Path = tuple[str | int, ...]

NO_RECORDS = [
    b"", b" ", b"\n\n", b"\x00" * 100, b"hello", b"null", b"7", b"[]", b"{}", b'"text"', b"{", b"[[",
    b'{"a": 1} {"b": 2}', b"NaN", b'{"a": NaN}', b'{"a": 1e9999}', b'{"\xff": 1}', "{}".encode("utf-16"),
    b"\xef\xbb\xbf{}", b'{"a": "\\ud800"}', b"[" * 100_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"a": ' + b"9" * 10_000 + b"}",
    b"\x1b[2J\x1b]0;x\x07\r\n",
    b'{"a": "' + b"x" * 2_000_000 + b'"}', b"[" + b"7," * 500_000 + b"7]", b'{"state": "paused"}{"state": "running"}',
]  # fmt: skip
"""Texts that are no record of any kind."""

_VALUES: list[Any] = [
    None, True, 0, -1, 10**30, 10**400, -(10**30), 3.5, 1e308, -0.0, float("nan"), float("inf"), "", " ", ".", "..",
    "/", "../../../etc/passwd", "a/../../b", "/etc/passwd", "a\\b", "a\nb\x1b[2J\x07", "\x00", "\u202e\U0001f3a8",
    "x" * 5_000, "\ud800", [], {}, [[]], [None], [7, "x"], {"": ""}, {"../x": {}}, [[[[[[[["deep"]]]]]]]], "0" * 32,
    "0" * 64, "b", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2024-02-30T00:00:00Z", "running", "cancelled",
]  # fmt: skip


def hostile_records(real: bytes, seed: str) -> Iterator[bytes]:
    """Texts without end; of the real one, which is JSON or lines of JSON, something is changed in most."""
    rng = random.Random(seed)
    none = NO_RECORDS.copy()
    rng.shuffle(none)
    for number in count():
        kind = number % 8
        if kind == 0 and none:
            yield none.pop()
        elif kind <= 1:
            yield _damaged(real, rng)
        else:
            lines = real.splitlines()
            line = rng.randrange(len(lines))
            lines[line] = json.dumps(_changed(json.loads(lines[line]), rng)).encode()
            yield b"\n".join(lines)


def _damaged(real: bytes, rng: random.Random) -> bytes:
    begin, end = sorted(rng.sample(range(len(real)), 2))
    flipped = bytearray(real)
    for _ in range(rng.randint(1, 5)):
        flipped[rng.randrange(len(real))] ^= 1 << rng.randrange(8)
    return rng.choice([bytes(flipped), real[:begin], real[end:], real[:begin] + real[end:], real * 2])


def _changed(record: Any, rng: random.Random) -> Any:
    record = copy.deepcopy(record)
    for _ in range(rng.choice([1, 1, 1, 3])):
        if not (paths := list(_paths(record))):
            return rng.choice(_VALUES)
        *above, last = rng.choice(paths)
        place = record
        for name in above:
            place = place[name]
        rng.choice(_CHANGES)(place, last, rng)
    return record


def _paths(value: Any, above: Path = ()) -> Iterator[Path]:
    """The places in a record at which something stands."""
    parts: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield (*above, name)
        yield from _paths(part, (*above, name))


def _set(place: Any, name: Any, rng: random.Random) -> None:
    place[name] = copy.deepcopy(rng.choice(_VALUES))


def _drop(place: Any, name: Any, _: random.Random) -> None:
    del place[name]


def _add(place: Any, _: Any, rng: random.Random) -> None:
    value = copy.deepcopy(rng.choice(_VALUES))
    if isinstance(place, list):
        place.append(value)
    else:
        place[rng.choice(["", "extra", "../x", "frames/..", "frames/../../x.sh", "a.\x00", "a/b/c.sh", "\x1b"])] = value


def _repeat(place: Any, name: Any, _: random.Random) -> None:
    place[name] = [place[name]] * 1_000


_CHANGES: list[Callable[[Any, Any, random.Random], None]] = [_set, _set, _set, _drop, _add, _repeat]
