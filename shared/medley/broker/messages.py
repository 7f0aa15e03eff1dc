"""What a message must be to be run, and where those are kept that are not.

Whoever can write to Redis can put any text into a queue. Celery would end on some of them, run what others ask for
beside the task (callbacks, a time limit that kills the painter, a date in ten years), and drop the rest.
"""

import base64
import json
import logging
import time
from typing import Annotated, Any, Literal

import redis
from kombu.utils.json import loads
from pydantic import (
    AfterValidator,
    BaseModel,
    FailFast,
    Field,
    NonNegativeFloat,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from medley.broker.bundles import BODY_BYTES, MOST_JOBS, check_bundle
from medley.broker.queue import FINISH, PAINT, QUEUES
from medley.errors import UsageError
from medley.records.base import BatchName, Record, canonical_json, first_problem
from medley.records.kinds import Job

log = logging.getLogger(__name__)

MOST_BYTES = 320 * 2**10
"""A message is under 1 KB for one job and 8 KB for a bundle; but the longest line of a manifest, 64 KiB, may be three
times as long with its letters as escapes, and that four thirds in base64. What is larger is none, and is not parsed.
"""

SET_ASIDE = "medley:set_aside"
"""The Redis list of messages that were set aside, newest first: a :class:`SetAside` each."""

KEPT_SET_ASIDE = 1_000
"""The newest that are kept: some 5 MB, and more than anybody reads; the workers' logs name every one."""

SHOWN_CHARACTERS = 4_096
"""What is kept of a message: all of one that is nearly right, and of others enough to see where they come from."""

SHOWN_OF_REASON = 500
"""What is kept of a reason: one that quotes the message may be as long as that."""


class SetAside(Record):
    """A message that was never run, and why; ``message`` is its beginning and ``at`` a Unix time in seconds."""

    at: NonNegativeFloat
    queue: str
    reason: str
    message: str


class _Part(BaseModel):
    """A part of a message. What else stands in it is left out: Celery ends on a stamp that is a number."""


def _is_ours(queue: str) -> str:
    if queue not in QUEUES.values():
        raise ValueError(f"there is no queue {queue!r}")
    return queue


_Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class _Headers(_Part):
    """Celery's, of which those that bear on whether, when, how long and with what end a task runs must be empty.

    ``at`` is when it was sent, as a Unix time in seconds.
    """

    task: str
    id: _Uuid
    at: NonNegativeFloat | None = Field(None, allow_inf_nan=False)
    redelivered: bool = False
    eta: None = None
    expires: None = None
    timelimit: tuple[None, None] = (None, None)
    group: None = None
    shadow: None = None
    compression: None = None
    ignore_result: Literal[True]


class _DeliveryInfo(_Part):
    """Where a message goes when it is given back."""

    exchange: Literal[""]
    routing_key: Annotated[str, AfterValidator(_is_ours)]
    redelivered: bool = False


class _Properties(_Part):
    delivery_tag: _Uuid
    delivery_info: _DeliveryInfo
    body_encoding: Literal["base64"]


class _Message(_Part):
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties
    body: str


class _NoNames(Record):
    """The arguments by name: none."""


class _NoMore(Record):
    """What Celery is to do after the task: nothing."""

    callbacks: None
    errbacks: None
    chain: None
    chord: None


# At the first that is none: pydantic takes 3 KB to note each of a hundred thousand.
_Jobs = Annotated[tuple[Job, ...], Field(min_length=1, max_length=MOST_JOBS), FailFast(), AfterValidator(check_bundle)]
_BODIES: dict[str, TypeAdapter[Any]] = {
    PAINT: TypeAdapter(tuple[tuple[BatchName, _Jobs], _NoNames, _NoMore]),
    FINISH: TypeAdapter(tuple[tuple[BatchName], _NoNames, _NoMore]),
}
"""The tasks that there are, and what a message for each carries."""


def read_message(text: bytes) -> bytes:
    """A text from a queue as the message that Celery may have: what medley sends, and nothing beside it.

    Raises:
        UsageError: it is no message; the sentence says what is wrong with it first.
    """
    if len(text) > MOST_BYTES:
        raise UsageError(f"It has {len(text):,} bytes, and a message has at most {MOST_BYTES:,}.")
    try:
        message = _Message.model_validate(_json(text))
        if message.headers.task not in _BODIES:
            raise UsageError(f"There is no task {message.headers.task!r}; there are {', '.join(_BODIES)}.")
        (_, *jobs), *_ = _BODIES[message.headers.task].validate_python(_json(_decoded(message.body)))
    except ValidationError as error:
        raise UsageError(f"It is no message of medley's: {first_problem(error)}.") from error
    if len(message.body) > BODY_BYTES and any(len(several) > 1 for several in jobs):
        raise UsageError(f"Its body has {len(message.body):,} bytes, and that of a bundle at most {BODY_BYTES:,}.")
    return message.model_dump_json(by_alias=True).encode()


def check_delivery(entry: bytes) -> None:
    """See that what kombu keeps of an unacknowledged message is one, so that it can be put back into its queue.

    Raises:
        UsageError: it is none; the sentence says what is wrong with it first.
    """
    match _json(entry):
        case [dict() as message, "", str() as queue] if queue in QUEUES.values():
            read_message(json.dumps(message).encode())
        case _:
            raise UsageError("It is not what kombu keeps of a message: the message, no exchange, and its queue.")


def set_aside(client: redis.Redis, queue: str, reason: str, message: bytes | str) -> None:
    """Keep a message that will never be run, for people to look at, and say so in the log.

    A Redis that does not take it is no reason to end anything: the log has the reason, and the message is dropped.
    """
    text = message if isinstance(message, str) else message.decode(errors="replace")
    # Both may quote what a stranger wrote: nothing of it may move a cursor, or be no Unicode.
    reason = reason.encode("unicode_escape").decode()
    reason = reason if len(reason) <= SHOWN_OF_REASON else f"{reason[:SHOWN_OF_REASON]}..."
    kept = text[:SHOWN_CHARACTERS].encode(errors="replace").decode()
    log.warning("A message of %s is set aside (%s) and never run: %s", queue, SET_ASIDE, reason)
    try:
        with client.pipeline(transaction=False) as pipe:
            pipe.lpush(SET_ASIDE, SetAside(at=time.time(), queue=queue, reason=reason, message=kept).json_bytes())
            pipe.ltrim(SET_ASIDE, 0, KEPT_SET_ASIDE - 1)
            pipe.execute()
    except redis.RedisError as error:
        log.warning("It is dropped, as Redis does not keep it: %s", error)


def _json(text: bytes) -> Any:
    """The value of a JSON text that can be written again: no NaN, no half of a surrogate pair."""
    try:
        value = loads(text)  # as Celery will: it makes of some objects what JSON cannot hold
        canonical_json(value)
    except Exception as error:  # kombu's decoders raise whatever the classes raise that they fill
        raise UsageError(f"It is not JSON in UTF-8: {type(error).__name__}: {error}.") from error
    return value


def _decoded(body: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:
        raise UsageError(f"Its body is not base64: {error}.") from error
