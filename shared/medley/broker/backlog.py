"""The messages of one Redis: those that wait, those that workers hold, and those that were set aside."""

import base64
import json
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from medley.broker.connection import SCANNED, Connection
from medley.broker.messages import SET_ASIDE, SetAside, set_aside
from medley.broker.queue import QUEUES, UNACKED, UNACKED_INDEX
from medley.errors import UsageError
from medley.records.base import BatchName
from medley.records.batches import QueueKind


class Backlog(Connection):
    """The part of the ledger that knows messages."""

    def queue_lengths(self) -> dict[QueueKind, int]:
        """Messages that wait in each queue."""
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            for name in QUEUES.values():
                pipe.llen(name)
            return dict(zip(QUEUES, map(int, pipe.execute()), strict=True))

    def foreign_queue_lengths(self) -> dict[str, int]:
        """Messages that wait in the queues of other engines, by the queue's name."""
        with self._client() as client:
            names = {name for kind in QUEUES for name in client.scan_iter(f"{kind}.*", count=SCANNED, _type="list")}
            return {name: int(client.llen(name)) for name in sorted(names - set(QUEUES.values()))}

    def unacknowledged(self) -> int:
        """Messages that a worker holds."""
        with self._client() as client:
            return int(client.zcard(UNACKED_INDEX))

    def renew_lease(self, delivery_tag: str) -> bool:
        """Put a delivery's time to now; false if the delivery is no longer held (acknowledged, or taken away)."""
        with self._client() as client:
            client.zadd(UNACKED_INDEX, {delivery_tag: time.time()}, xx=True)
            return client.zscore(UNACKED_INDEX, delivery_tag) is not None

    def waiting_since(self) -> dict[str, float]:
        """When the longest waiting message of each of our queues, if one waits, was published (Unix time).

        Queues are lists that are served from their tail, so one look at each tells; but for messages that were given
        back, which stand behind younger ones.
        """
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            for name in QUEUES.values():
                pipe.lindex(name, -1)
            heads = dict(zip(QUEUES, pipe.execute(), strict=True))
        return {kind: _published_at(str(text)) for kind, text in heads.items() if text is not None}

    def held_messages(self) -> dict[str, int]:
        """How many messages of each queue workers hold, by the queue's name."""
        with self._client() as client:
            return Counter(name for text in client.hvals(UNACKED) if (name := _queue_of(str(text))))

    def held_batches(self) -> set[BatchName]:
        """The batches of which workers hold messages."""
        with self._client() as client:
            return {name for text in client.hvals(UNACKED) if (name := _batch_of(str(text)))}

    # Messages set aside

    def set_aside(self, queue: str, reason: str, message: bytes | str) -> None:
        """Keep a message that is not run."""
        with self._client() as client:
            set_aside(client, queue, reason, message)

    def set_aside_messages(self) -> int:
        """How many messages were set aside."""
        with self._client() as client:
            return int(client.llen(SET_ASIDE))

    def aside(self, limit: int) -> list[dict[str, Any]]:
        """The newest messages that were set aside, each with when, from which queue, and why."""
        with self._client() as client:
            texts = client.lrange(SET_ASIDE, 0, limit - 1)
        records = []
        for text in texts:
            with suppress(UsageError):
                records.append(SetAside.from_json(text).model_dump())
        return records


def _published_at(text: str) -> float:
    """A waiting message's time of publishing; for ever ago if it does not say, so that nothing is taken for lost."""
    with suppress(ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        at = float(json.loads(text)["headers"]["at"])
        return at if 0 <= at <= time.time() else 0.0
    return 0.0


def _queue_of(text: str) -> str | None:
    """The queue of a message that a worker holds, as kombu keeps it."""
    with suppress(ValueError, TypeError, IndexError, RecursionError):
        return str(json.loads(text)[2])
    return None


def _batch_of(text: str) -> BatchName | None:
    """The batch of a message that a worker holds, as kombu keeps it: ``[message, exchange, routing key]``."""
    with suppress(ValueError, KeyError, TypeError, IndexError, RecursionError):
        body = json.loads(base64.b64decode(json.loads(text)[0]["body"]))
        return str(body[0][0])
    return None
