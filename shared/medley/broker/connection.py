"""The Redis between producers and workers: reaching it, and its errors as ours."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import redis
from kombu.exceptions import BatchPublishError, OperationalError
from redis.backoff import ConstantBackoff
from redis.exceptions import AuthorizationError, NoPermissionError
from redis.retry import Retry

from medley.errors import RedisRefused, RedisUnreachable, UsageError
from medley.redacting import redacted, without_password
from medley.settings import Settings
from medley.tls import TRUST_IT, ca_file, is_not_trusted

_URL = re.compile(
    r"rediss?://[^/?#]+(/\d*)?(\?(&?ssl_(cert_reqs|ca_certs|certfile|keyfile|check_hostname)=[^&#]+)+)?"
    r"|unix://[^/?#]*/[^?#]+"
)
"""What redis-py and kombu read alike; what else may stand in a URL, they read differently or not at all."""

_FORMS = "write redis://user:password@host:6379/0 (or rediss://), or unix:///path, with %-escapes in the password"

_RETRY_AFTER_S = 0.2
_RETRIES = 1
"""One more try heals a connection that Redis closed while it was idle. A Redis that is silent is not asked again:
redis-py tries both to connect and to send that often, and four timeouts would pass the 15 s of a command."""

SCANNED = 1_000
"""Keys in one step of a scan, so that it takes few round trips."""


def connect(settings: Settings) -> redis.Redis:
    """A client whose every call ends within the timeouts of the settings; it connects on first use.

    Raises:
        UsageError: no URL is set, or it is none of redis://, rediss:// and unix://; or MEDLEY_CA_FILE is unusable.
    """
    url = redis_url(settings)
    if not _URL.fullmatch(url):  # not repeated in the message: it may hold a password
        raise UsageError(f"MEDLEY_REDIS_URL is not the URL of a Redis: {_FORMS}.")
    timeout_s = settings.connect_timeout_s
    # A unix socket has no keepalive, and redis-py refuses the option there.
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
    try:
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
            health_check_interval=25,  # s; a connection that idled longer is tried before use
            retry=Retry(ConstantBackoff(_RETRY_AFTER_S), _RETRIES, supported_errors=(redis.ConnectionError,)),
            decode_responses=True,
            encoding_errors="replace",  # strangers' texts stand in queues, too
            **keepalive,
        )
    except ValueError:  # which may quote what it took for the port, and was a part of the password
        raise UsageError(f"MEDLEY_REDIS_URL is not the URL of a Redis: {_FORMS}.") from None


def redis_url(settings: Settings) -> str:
    """The URL of Redis for redis-py and kombu, which both verify it with what it names, or else ``MEDLEY_CA_FILE``.

    Raises:
        UsageError: no URL is set, or MEDLEY_CA_FILE is unusable.
    """
    url = settings.redis
    if not url.startswith("rediss:") or "ssl_ca_certs=" in url:
        return url
    path = ca_file(settings)
    return f"{url}{'&' if '?' in url else '?'}ssl_ca_certs={quote(path)}" if path else url


@contextmanager
def broker_errors(settings: Settings) -> Iterator[None]:
    """Turns what redis-py and kombu raise into a sentence that names the Redis and the mending.

    Raises:
        RedisUnreachable: no answer, or it is still loading its data.
        RedisRefused: wrong credentials, no right, or a command that this Redis refuses (full, read-only).
    """
    try:
        yield
    except (redis.RedisError, OperationalError, BatchPublishError, OSError) as error:
        said = redacted(str(error), settings.redis)
        # A Redis that does not know AUTH repeats its arguments; no traceback may show them.
        raise _named(error, said, without_password(settings.redis)) from (error if said == str(error) else None)


class Connection:
    """One Redis. Every call, here and in what is built on it, raises RedisUnreachable or RedisRefused."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redis = connect(settings)

    @contextmanager
    def _client(self) -> Iterator[redis.Redis]:
        with broker_errors(self._settings):
            yield self._redis

    def check(self) -> None:
        """Find out whether Redis answers and lets us write."""
        with self._client() as client:
            client.set("medley:check", "1", ex=1)

    def clock_skew_s(self) -> float:
        """This machine's clock minus Redis's, in seconds."""
        with self._client() as client:
            seconds, microseconds = client.time()
            return time.time() - (seconds + microseconds / 1e6)

    def server(self, section: str | None = None) -> dict[str, str | int | float]:
        """What Redis says of itself (INFO): ``redis_version``, ``maxmemory_policy``, ``aof_enabled`` and more."""
        with self._client() as client:
            return dict(client.info(section))

    def age_s(self) -> float:
        """For how many seconds this Redis has kept what it is told: since it was first asked, or lost everything."""
        with self._client() as client:
            client.set("medley:since", str(time.time()), nx=True)
            return max(0.0, time.time() - float(client.get("medley:since") or time.time()))

    def _run(self) -> str:
        """What is another one after each start of this Redis; always the same where it gives no right to ask."""
        try:
            return str(self.server("server").get("run_id", ""))
        except RedisRefused:
            return "unknown"


def _named(error: Exception, said: str, where: str) -> RedisRefused | RedisUnreachable:
    wrapped = isinstance(error, OperationalError | BatchPublishError)
    cause = error.__cause__ if wrapped and error.__cause__ else error  # kombu wraps what redis-py raised
    if isinstance(cause, redis.AuthenticationError | AuthorizationError | NoPermissionError):
        return RedisRefused(
            f"Redis at {where} refuses the credentials ({said}). Correct the user and password in MEDLEY_REDIS_URL."
        )
    if isinstance(cause, redis.RedisError) and not isinstance(cause, redis.ConnectionError | redis.TimeoutError):
        return RedisRefused(
            f"Redis at {where} refuses a command ({said}). It must be a Redis of its own, "
            "writable, with room, and `maxmemory-policy noeviction`."
        )
    if is_not_trusted(said):
        return RedisRefused(
            f"Redis at {where} shows a certificate that is not trusted ({said}). {TRUST_IT} MEDLEY_REDIS_URL."
        )
    return RedisUnreachable(f"Redis at {where} does not answer ({said}). Start it, or correct MEDLEY_REDIS_URL.")
