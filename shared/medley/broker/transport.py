"""kombu's Redis transport, with a look at each text before it is taken for a message.

kombu parses what comes out of a queue inside the worker's event loop, where a text that is no message ends the worker,
and the next such text the next worker. Here it is set aside instead.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import redis
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps

from medley.broker.messages import check_delivery, read_message, set_aside
from medley.broker.queue import FRONT
from medley.errors import UsageError


class _Client(redis.Redis):
    """A client whose BRPOP brings messages alone; a text that is none comes to nothing, as a silence does."""

    def __init__(self, *, read: Callable[[bytes, bytes], bytes | None], **options: Any) -> None:
        super().__init__(**options)
        self._read = read

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """What a command brought. It is kombu's way, too, to change what its queues bring (GlobalKeyPrefixMixin)."""
        response = super().parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not response:
            return response
        queue, text = response
        message = self._read(queue, text)
        return None if message is None else (queue, message)


class QoS(kombu_redis.QoS):
    """Deliveries that are not acknowledged yet; what is kept of one and cannot be put back is set aside.

    ``front`` are the tags of those that go to the front of their queue when they are given back; kombu puts them behind
    all the others, where a painting that was begun would wait for a whole batch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.front: set[str] = set()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """End a delivery; with ``requeue``, its message goes back."""
        with self._freed(delivery_tag):
            if requeue and delivery_tag in self.front:
                self.front.remove(delivery_tag)
                self.restore_by_tag(delivery_tag)
                super(kombu_redis.QoS, self).ack(delivery_tag)
            else:
                super().reject(delivery_tag, requeue)

    def ack(self, delivery_tag: str) -> None:
        """End a delivery for good."""
        with self._freed(delivery_tag):
            super().ack(delivery_tag)

    @contextmanager
    def _freed(self, delivery_tag: str) -> Iterator[None]:
        """Count a delivery as ended even where Redis cannot be told; there its lease lapses.

        kombu would count it as held for ever, and a worker that holds as many as it may takes no more.
        """
        try:
            yield
        except Exception:
            self._quick_ack(delivery_tag)
            raise

    def restore_by_tag(self, tag: bytes | str, client: redis.Redis | None = None, leftmost: bool = False) -> None:
        """Put a delivery back into its queue."""
        with self.channel.conn_or_acquire(client) as ours:
            entry: Any = ours.hget(self.unacked_key, tag)
            try:
                if entry is not None:
                    check_delivery(entry)
            except UsageError as error:
                self._remove_from_indices(tag).execute()
                set_aside(ours, self.unacked_key, str(error), entry)
            else:
                super().restore_by_tag(tag, ours, leftmost)


class Channel(kombu_redis.Channel):
    """A channel whose queues bring messages alone, and which puts those to the front that say so."""

    QoS = QoS

    def _put(self, queue: str, message: dict[str, Any], **how: Any) -> None:
        if not message["headers"].pop(FRONT, False):
            super()._put(queue, message, **how)
            return
        with self.conn_or_acquire() as client:
            client.rpush(queue, dumps(message))

    def _get_client(self) -> Callable[..., redis.Redis]:
        super()._get_client()  # it looks at redis-py's version
        return partial(_Client, read=self._read)

    def _read(self, queue: bytes, text: bytes) -> bytes | None:
        try:
            return read_message(text)
        except UsageError as error:
            with self.conn_or_acquire() as client:
                set_aside(client, queue.decode(errors="replace"), str(error), text)
            return None


class Transport(kombu_redis.Transport):
    """What ``make_celery`` has Celery consume through, and publish."""

    Channel = Channel
