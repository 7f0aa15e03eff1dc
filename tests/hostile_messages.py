"""Hostile messages, the same for one seed: no JSON, no messages, pickles, and real ones with something changed."""

import base64
import copy
import json
import pickle
import random
import uuid
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]


class Hostile(NamedTuple):
    """A text for a queue. One that ``may_run`` changes nothing, perhaps, of what medley reads of a message."""

    kind: str
    text: bytes
    may_run: bool = False


class Pickled:
    """What makes a file when it is unpickled, so that a test sees whether it was."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.canary,)


def hostile_messages(real: bytes, count: int, seed: int, canary: Path) -> list[Hostile]:
    """So many hostile texts, made from a real message for ``medley.paint`` with one job; all kinds in turn, shuffled.

    A pickled one makes the file ``canary`` where it is unpickled.
    """
    rng = random.Random(seed)
    message: Json = json.loads(real)
    kinds = [
        ("no JSON", cycle(_no_json(rng, canary))),
        ("no message", cycle(_no_messages(message))),
        ("lacking", cycle(_lacking(message, rng))),
        ("other type", _other_types(message, rng)),
        ("other wish", cycle(_other_wishes(message, canary))),
        ("other body", cycle(_other_bodies(message, canary))),
        ("no such arguments", cycle(_other_arguments(message))),
        ("no job", _no_jobs(message, rng)),
        ("cut", _cut(real, rng)),
        ("flipped", _flipped(real, rng)),
        ("odd", _odd(message, rng)),
    ]
    taken = cycle(kinds)
    found = [Hostile(kind, next(texts), kind in ("cut", "flipped", "odd")) for kind, texts in islice(taken, count)]
    rng.shuffle(found)
    return found


def told(message: Json) -> bytes:
    """The text of a message."""
    return json.dumps(message).encode()


def with_body(message: Json, body: object) -> bytes:
    """The message with another body."""
    return told(message | {"body": base64.b64encode(json.dumps(body).encode()).decode()})


def body_of(message: Json) -> Any:
    """What the body of a message says."""
    return json.loads(base64.b64decode(message["body"]))


def _no_json(rng: random.Random, canary: Path) -> list[bytes]:
    deep = 10_000
    return [
        b"",
        b" ",
        b"hello",
        b"\x00\x00\x00",
        b"{",
        b"{'task': 'medley.paint'}",
        b'{"a": 1} {"b": 2}',
        b'{"body": NaN}',
        b'{"body": Infinity}',
        b'{"body": -1e9999}',
        b'{"body": "\xff\xfe"}',
        '{"body": ""}'.encode("utf-16"),
        b'\xef\xbb\xbf{"body": ""}',
        b'{"body": "\\ud800"}',
        b'{"\\udfff": ""}',
        b'{"body": ' + b"1" * 5_000 + b"}",
        b"[" * deep,
        b"[" * deep + b"]" * deep,
        b'{"a":' * deep + b"1" + b"}" * deep,
        b'{"body": "' + b"a" * 1_000_000 + b'"}',
        b" " * 1_000_000 + b"{}",
        rng.randbytes(1_000_000),
        *(rng.randbytes(rng.randint(1, 200)) for _ in range(8)),
        pickle.dumps(Pickled(canary)),
        pickle.dumps({"task": "medley.paint"}, protocol=0),
        b'{"__type__": "datetime", "__value__": 7}',
        b'{"__type__": "decimal", "__value__": "x"}',
        b'{"__type__": "uuid", "__value__": {"bytes": 1}}',
        b'{"__type__": "base64", "__value__": "AA"}',
        b'{"__type__": [], "__value__": {}}',
        b"\x1b[2J\x1b]0;title\x07\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
    ]


def _no_messages(message: Json) -> list[bytes]:
    whole = [None, True, 7, "text", [], {}, [message], {"message": message}, message["headers"], body_of(message)]
    first_protocol = {"task": "medley.paint", "id": message["headers"]["id"], "args": ["a", []], "kwargs": {}}
    return [json.dumps(value).encode() for value in [*whole, first_protocol]]


_CHECKED = [
    ("body",),
    ("content-type",),
    ("content-encoding",),
    ("headers",),
    ("headers", "task"),
    ("headers", "id"),
    ("headers", "ignore_result"),
    ("properties",),
    ("properties", "delivery_tag"),
    ("properties", "body_encoding"),
    ("properties", "delivery_info"),
    ("properties", "delivery_info", "exchange"),
    ("properties", "delivery_info", "routing_key"),
]
"""What a message cannot do without, and of which no other value than medley's is taken."""

_UNHEEDED = [
    *(
        ("headers", name)
        for name in (
            "lang", "retries", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "replaced_task_nesting",
            "stamped_headers", "stamps", "group_index", "at", "chord", "callbacks", "errbacks", "chain", "meth", "utc",
            "args", "kwargs", "called_directly", "is_eager", "delivery_info", "properties", "hostname", "redelivered",
        )
    ),
    *(("properties", name) for name in ("correlation_id", "reply_to", "priority", "delivery_mode", "expiration")),
    ("unknown",),
]  # fmt: skip
"""What medley does not look at; Celery must live with whatever stands there."""

_VALUES: list[Any] = [
    None, True, 0, -1, 3.5, 2**70, 1e300, "", " ", "x" * 3_000, "../../etc/passwd", "a\nb\x1b[2J", "\U0001f3a8", [], {},
    [[[["deep"]]]], {"a": {"b": {}}}, [None, None, None], "2100-01-01T00:00:00+00:00",
]  # fmt: skip


def changed(message: Json, path: tuple[str, ...], value: Any) -> Json:
    """The message with another value in one place."""
    other = copy.deepcopy(message)
    place = other
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return other


def _lacking(message: Json, rng: random.Random) -> list[bytes]:
    texts = []
    for path in _CHECKED:
        other = changed(message, path, None)
        place = other
        for name in path[:-1]:
            place = place[name]
        del place[path[-1]]
        texts.append(told(other))
    rng.shuffle(texts)
    return texts


def _other_types(message: Json, rng: random.Random) -> Iterator[bytes]:
    while True:
        path, value = rng.choice(_CHECKED), rng.choice([*_VALUES, "\ud800", float("nan")])
        if value != "" or path[-1] != "exchange":
            if path[-1] == "ignore_result" and value is True:
                continue
            yield told(changed(message, path, value))


def _odd(message: Json, rng: random.Random) -> Iterator[bytes]:
    while True:
        yield told(_fresh(changed(message, rng.choice(_UNHEEDED), rng.choice(_VALUES)), rng))


def _fresh(message: Json, rng: random.Random) -> Json:
    """The message as another delivery."""
    message = changed(message, ("headers", "id"), str(uuid.UUID(int=rng.getrandbits(128))))
    return changed(message, ("properties", "delivery_tag"), str(uuid.UUID(int=rng.getrandbits(128))))


def _other_wishes(message: Json, canary: Path) -> list[bytes]:
    """Other tasks, other times, limits, and ends."""
    tasks = ["", "medley.Paint", "os.system", "celery.backend_cleanup", "celery.chord_unlock", "celery.starmap"]
    wishes: dict[str, list[Any]] = {
        "task": [*tasks, "a\n\x1b[31mb", ["medley.paint"]],
        "eta": ["2100-01-01T00:00:00+00:00", "no date", 7],
        "expires": ["1999-01-01T00:00:00+00:00", "2100-01-01T00:00:00+00:00", "no date", 7],
        "timelimit": [[0.001, None], [None, 0.001], [1, 1, 1], 5, "ab"],
        "group": ["g"],
        "shadow": ["medley.finish"],
        "compression": ["gzip", "zlib", "bzip2", "no such"],
        "ignore_result": [False, None],
    }
    other_headers = [told(changed(message, ("headers", name), v)) for name, values in wishes.items() for v in values]
    pickled = base64.b64encode(pickle.dumps(Pickled(canary))).decode()
    forms = [
        "application/x-python-serialize",
        "application/x-yaml",
        "application/x-msgpack",
        "application/data",
        "text",
    ]
    other_forms = [told(message | {"content-type": form, "body": pickled}) for form in forms]
    other_forms += [told(message | {"content-type": forms[0], "content-encoding": "binary", "body": pickled})]
    return [*other_headers, *other_forms]


def _other_bodies(message: Json, canary: Path) -> list[bytes]:
    deep = 10_000
    raw = [
        b"", b"{", b"[[], {}", b"\xff", b"[" * deep + b"]" * deep, b'[["a", [NaN]], {}, {}]',
        pickle.dumps(Pickled(canary)), b'[["b", [{"__type__": "datetime", "__value__": 1}]], {}, {}]', b"a" * 1_000_000,
    ]  # fmt: skip
    encoded = [base64.b64encode(text).decode() for text in raw]
    return [
        told(message | {"body": body}) for body in [*encoded, "not base64", "A", "\u00e9", message["body"][:-3] + "*"]
    ]


def _other_arguments(message: Json) -> list[bytes]:
    args, kwargs, embed = body_of(message)
    batch, jobs = args
    again: Json = {"task": "medley.finish", "args": [batch], "kwargs": {}, "options": {}, "subtask_type": None}
    none: list[Any] = [[], {}, None, "text", 7, [[]], [None], ["text"], [jobs], [{}]]
    others: list[Any] = [{}, None, {"id": jobs[0]["id"]}]
    names = ["", ".", "..", "../../etc", "a/b", "a b", "a" * 101, "\ud800", 7, None]
    bodies: list[Any] = [
        [], {}, None, 7, "text", [args], [args, kwargs], [args, kwargs, embed, {}], args, {"args": args},
        [{"batch": batch}, kwargs, embed], [[], {"batch": batch, "jobs": jobs}, embed], [args, {"x": 1}, embed],
        [args, [], embed], [args, None, embed], [None, kwargs, embed], ["ab", kwargs, embed], [args, kwargs, []],
        [[], kwargs, embed], [[batch], kwargs, embed], [[*args, 1], kwargs, embed], [[jobs, batch], kwargs, embed],
        [args, kwargs, {}], [args, kwargs, None], [args, kwargs, embed | {"properties": {"delivery_tag": "x"}}],
        *([args, kwargs, embed | {name: [again]}] for name in ("callbacks", "errbacks", "chain")),
        [args, kwargs, embed | {"chord": again}],
        *([[name, jobs], kwargs, embed] for name in names),
        *([[batch, other], kwargs, embed] for other in none),
        *([[batch, [jobs[0], other]], kwargs, embed] for other in others),
        *([[batch, bundle], kwargs, embed] for bundle in _no_bundles(jobs[0])),
    ]  # fmt: skip
    return [with_body(message, body) for body in bodies]


def _no_bundles(job: Json) -> list[list[Json]]:
    """Jobs that are well, each, and may not share a message."""
    walk: Json = {"kind": "walk", "id": "0" * 32, "first": 0, "count": 8}
    long = [job | {"id": f"{n:032x}", "content": job["content"] | {"name": "x" * 2_500}} for n in range(3)]
    begun = job | {"id": "1" * 32, "init": job["id"]}
    many = [job | {"id": f"{n:032x}", "content": job["content"] | {"name": "x"}} for n in range(17)]
    return [[job, job], [job, walk], [walk, walk | {"id": "1" * 32}], [job, begun], long, many, many * 20]


_JOB_VALUES: list[tuple[tuple[str, ...], list[Any]]] = [
    (("id",), ["", "../../../etc/passwd", "0" * 31, "G" * 32, "0" * 31 + "\n", 7, None, [], "\ud800" * 32]),
    (("kind",), ["", "walk", 7, None]),
    (("styles",), [[], {}, None, "text", [None], [[]], [{"sha256": "x"}]]),
    (("content",), [None, {}, [], "text", {"sha256": "0" * 64, "ext": "../x", "name": "x"}]),
    (("content", "sha256"), ["", "../..", "0" * 63, "X" * 64, 7, None, "0" * 64 + "\n"]),
    (("content", "ext"), ["", "../jpg", "jpg/..", "JPG", 7]),
    (("content", "name"), [7, None, [], {}, "\udc80"]),
    (("content", "extra"), ["field", {}]),
    (("extra",), ["field", None, {}]),
]


def _no_jobs(message: Json, rng: random.Random) -> Iterator[bytes]:
    (batch, (job,)), kwargs, embed = body_of(message)
    weights = [-1, "x", [], None, float("nan"), float("inf"), 10**400]
    others = [changed(job, path, value) for path, values in _JOB_VALUES for value in values]
    others += [job | {"styles": [job["styles"][0] | {"weight": weight}]} for weight in weights]
    others += [{name: value for name, value in job.items() if name != lost} for lost in ("id", "content", "styles")]
    while True:
        rng.shuffle(others)
        yield from (with_body(message, [[batch, [other]], kwargs, embed]) for other in others)


def _cut(real: bytes, rng: random.Random) -> Iterator[bytes]:
    while True:
        begin, end = sorted(rng.sample(range(len(real)), 2))
        yield rng.choice([real[:begin], real[end:], real[:begin] + real[end:], real[:end] + real[begin:]])


def _flipped(real: bytes, rng: random.Random) -> Iterator[bytes]:
    while True:
        text = bytearray(real)
        for _ in range(rng.randint(1, 3)):
            text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
        yield bytes(text)
