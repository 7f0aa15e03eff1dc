"""Telling whoever asked how a batch ended: one POST of one JSON object, tried for a day, and never in a batch's way.

The URL may hold a secret. It lies in an object of its own until it has been told, and appears nowhere else: in logs and
errors only its scheme and host do.
"""

import logging
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import NonNegativeFloat, NonNegativeInt

from medley import keys
from medley.batches.stored import read_batch
from medley.broker.queue import publish_finish
from medley.cluster import Cluster
from medley.errors import MedleyError, ObjectMissing, UsageError
from medley.records.base import BatchName, Record, canonical_json
from medley.records.results import Finished
from medley.settings import Settings
from medley.storage import Storage
from medley.tls import ca_file, is_not_trusted

log = logging.getLogger(__name__)

TRIES = 3
"""Within one call; a receiver that is restarted is back after one or two."""

PAUSE_S = 1.0
"""Before the second try, and twice as long before the third."""

WITHIN_S = 15.0
"""For one try: receivers queue what they are told, and a painter waits meanwhile."""

AGAIN_S = 60.0
"""After a call that failed the next one waits this long, then twice as long, up to an hour: 28 calls in a day."""

_AGAIN_AT_MOST_S = 3600.0

GIVE_UP_S = 24 * 3600.0
"""A receiver that is away over night is told in the morning; one that is away for longer is not there."""

MOST_BYTES = 16 * 1024
"""Of the object with the URL; servers take URLs of 8 KB at most."""

_PASSES = frozenset({408, 429})
"""Of the answers 4xx, those that are not about us: the request came too slowly, or too many came."""


class Notice(Record):
    """Where the end of a batch is to be told, how often that has failed, and when (Unix time) it may be tried again."""

    url: str
    failed: NonNegativeInt = 0
    not_before: NonNegativeFloat = 0


class _Answer(NamedTuple):
    """What came of a try: told, or why not, and whether it may go better later."""

    told: bool
    why: str = ""
    may_pass: bool = True


def checked_url(text: str) -> str:
    """A URL that the end of a batch can be told to.

    Raises:
        UsageError: it is none of http:// and https://; it is not repeated, as it may hold a secret.
    """
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or len(text) > MOST_BYTES // 2 or not text.isascii() or any(c <= " " or c == "\x7f" for c in text):
        raise UsageError("--notify takes a URL that begins with http:// or https:// and a host, with %-escapes in it.")
    return text


def shown_url(url: str) -> str:
    """What may be shown of it: the scheme and the host."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def ask_to_be_told(cluster: Cluster, batch: BatchName, url: str) -> None:
    """Have the end of a batch, which was enqueued just now, told to a URL, instead of to an earlier one."""
    cluster.storage.put(keys.notify(batch), Notice(url=url).json_bytes(), "application/json", private=True)
    if cluster.storage.exists(keys.finished(batch)):  # whoever ended it may have looked before this was there
        publish_finish(cluster.app, cluster.settings, batch)


def notify(storage: Storage, settings: Settings, finished: Finished, advance: Callable[[], None]) -> bool:
    """Tell how a batch ended, if somebody asked for it; false if that is to be tried again later.

    What was told, was refused (an answer 3xx or 4xx, but for 408 and 429), or could not be told for a day is forgotten,
    so that later ends of the batch, after ``medley retry``, tell nobody, unless somebody asks again. A receiver may be
    told twice if storage or this process fails in between: ``Idempotency-Key`` is the same then.

    Args:
        storage: where the batch lies
        settings: of which the private CA and the timeouts count
        finished: how the batch ended
        advance: called between tries

    Raises:
        ServiceUnreachable, ServiceRefused: storage does not serve us; faults of the receiver are never raised.
    """
    notice = _read(storage, finished.batch)
    if notice is None:
        return True
    now = time.time()
    if now < notice.not_before:
        return False
    answer = _tell(notice.url, settings, finished, _body(storage, finished), advance)
    where = f"of the end of batch {finished.batch}: {shown_url(notice.url)}"
    if answer.told:
        log.info("Told %s.", where)
    elif answer.may_pass and now - finished.finished_at.timestamp() < GIVE_UP_S:
        log.warning("Not told as yet %s: %s.", where, answer.why)
        _put_off(storage, finished.batch, notice)
        return False
    else:
        log.error("Not told, and given up, %s: %s.", where, answer.why)
    storage.delete(keys.notify(finished.batch))
    return True


def is_put_off(storage: Storage, batch: BatchName) -> bool:
    """Whether somebody is to be told of the end of a batch, but not yet again."""
    notice = _read(storage, batch)
    return notice is not None and time.time() < notice.not_before


def _read(storage: Storage, batch: BatchName) -> Notice | None:
    """Who asked; nobody, where the record cannot be read, which no later try would mend."""
    try:
        notice = Notice.from_json(storage.get(keys.notify(batch), MOST_BYTES))
        checked_url(notice.url)
    except ObjectMissing:
        return None
    except UsageError:  # not repeated: it may quote the URL
        log.warning("Whom to tell of the end of batch %s cannot be read, so nobody is told.", batch)
        storage.delete(keys.notify(batch))
        return None
    return notice


def _put_off(storage: Storage, batch: BatchName, notice: Notice) -> None:
    wait_s = min(AGAIN_S * 2.0 ** min(notice.failed, 20), _AGAIN_AT_MOST_S)
    later = {"failed": notice.failed + 1, "not_before": time.time() + wait_s}
    storage.put(keys.notify(batch), notice.model_copy(update=later).json_bytes(), "application/json", private=True)


def _body(storage: Storage, finished: Finished) -> bytes:
    batch = read_batch(storage, finished.batch)
    told: dict[str, Any] = {
        "batch": finished.batch,
        "state": "finished",
        "jobs": finished.done + finished.failed,
        "done": finished.done,
        "failed": finished.failed,
        "skipped": len(batch.skipped) if batch else 0,
        "finished_at": finished.finished_at.isoformat(),
    }
    return canonical_json(told)


def _tell(url: str, settings: Settings, finished: Finished, body: bytes, advance: Callable[[], None]) -> _Answer:
    """Try a few times, with pauses."""
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": f"{finished.batch}-{finished.outcomes}",
        "User-Agent": "medley",
    }
    for attempt in range(TRIES):
        time.sleep(PAUSE_S * attempt)
        advance()
        answer = _answer_within(url, settings, headers, body)
        if answer.told or not answer.may_pass:
            break
    return answer


def _answer_within(url: str, settings: Settings, headers: dict[str, str], body: bytes) -> _Answer:
    """Post once, and wait for :data:`WITHIN_S` at most, which no timeout of a socket does: an answer may come in drops,
    and a host may be looked for in vain. The thread that is left behind holds nobody up, and ends with the process.
    """
    answers = [_Answer(told=False, why=f"no answer within {WITHIN_S:.0f} s")]

    def post() -> None:
        try:
            answers.append(_judged(_post(url, settings, headers, body)))
        except MedleyError as error:
            answers.append(_Answer(told=False, why=str(error)))
        except Exception as error:  # whatever the library raises; its texts repeat the URL
            untrusted = "its certificate is not trusted (MEDLEY_CA_FILE)" if is_not_trusted(str(error)) else ""
            answers.append(_Answer(told=False, why=untrusted or type(error).__name__))

    thread = threading.Thread(target=post, daemon=True)
    thread.start()
    thread.join(WITHIN_S)
    return answers[-1]


def _post(url: str, settings: Settings, headers: dict[str, str], body: bytes) -> int:
    """Post; returns the status of the answer, whose body nobody reads."""
    import urllib3

    # Its lines of debugging have the URL's path; these are boto3's too, where paths have signatures.
    logging.getLogger("urllib3").setLevel(logging.INFO)
    parts = urlsplit(url)
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = headers | urllib3.make_headers(basic_auth=user)
    timeout = urllib3.Timeout(connect=settings.connect_timeout_s, read=WITHIN_S)
    context = _trusting(settings) if parts.scheme == "https" else None
    with urllib3.PoolManager(ssl_context=context, timeout=timeout, retries=False) as pool:
        # A redirect is not followed: it may lead out of TLS, and what follows it is often no POST any more.
        response = pool.request("POST", url, body=body, headers=headers, redirect=False, preload_content=False)
        status = int(response.status)
        response.close()
    return status


def _trusting(settings: Settings) -> ssl.SSLContext:
    """Trusts the public CAs, and the private one."""
    context = ssl.create_default_context()
    if private := ca_file(settings):
        context.load_verify_locations(private)
    return context


def _judged(status: int) -> _Answer:
    if 200 <= status < 300:
        return _Answer(told=True)
    if 300 <= status < 400:
        return _Answer(told=False, why=f"it redirects (HTTP {status}); ask with the URL it leads to", may_pass=False)
    may_pass = status >= 500 or status in _PASSES
    return _Answer(told=False, why=f"it answers HTTP {status}", may_pass=may_pass)
