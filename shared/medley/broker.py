"""The Redis between producers and workers: reaching it, and its errors as ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import redis
from kombu.exceptions import OperationalError
from redis.backoff import ConstantBackoff
from redis.exceptions import AuthorizationError, NoPermissionError
from redis.retry import Retry

from medley.errors import RedisRefused, RedisUnreachable, UsageError
from medley.settings import Settings

_RETRY_AFTER_S = 0.2
_RETRIES = 1
"""One more try heals a connection that Redis closed while it was idle; more would pass the 15 s of a command."""


def connect(settings: Settings) -> redis.Redis:
    """A client whose every call ends within the timeouts of the settings; it connects on first use.

    Raises:
        UsageError: no URL is set, or it is none of redis://, rediss:// and unix://.
    """
    url = settings.redis
    timeout_s = settings.connect_timeout_s
    # A unix socket has no keepalive, and redis-py refuses the option there.
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
    try:
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
            health_check_interval=25,  # s; a connection that idled longer is tried before use
            retry=Retry(ConstantBackoff(_RETRY_AFTER_S), _RETRIES),
            decode_responses=True,
            **keepalive,
        )
    except (ValueError, TypeError) as error:
        raise UsageError(f"MEDLEY_REDIS_URL {without_password(url)!r} is not a Redis URL: {error}.") from error


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@", 1)))


@contextmanager
def broker_errors(settings: Settings) -> Iterator[None]:
    """Turns what redis-py and kombu raise into a sentence that names the Redis and the mending.

    Raises:
        RedisUnreachable: no answer, or it is still loading its data.
        RedisRefused: wrong credentials, no right, or a command that this Redis refuses (full, read-only).
    """
    where = without_password(settings.redis_url or "")
    try:
        yield
    except (redis.AuthenticationError, AuthorizationError, NoPermissionError) as error:
        raise RedisRefused(
            f"Redis at {where} refuses the credentials ({error}). Correct the user and password in MEDLEY_REDIS_URL."
        ) from error
    except (redis.ConnectionError, redis.TimeoutError, OperationalError, OSError) as error:
        if isinstance(error.__cause__, redis.AuthenticationError):
            raise RedisRefused(
                f"Redis at {where} refuses the credentials ({error}). Correct MEDLEY_REDIS_URL."
            ) from error
        raise RedisUnreachable(
            f"Redis at {where} does not answer ({error}). Start it, or correct MEDLEY_REDIS_URL."
        ) from error
    except redis.RedisError as error:
        raise RedisRefused(
            f"Redis at {where} refuses a command ({error}). It must be a Redis of its own, "
            "writable, with room, and `maxmemory-policy noeviction`."
        ) from error
