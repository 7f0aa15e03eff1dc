"""What people may decide from the dashboard: nothing, unless it was started with ``--allow-control``, and then with its
token only. Whatever is decided, or refused, is told in a line of the log.

A browser is let in once, and keeps a signed cookie that no other site's forms send along (SameSite=Strict); its own
forms also carry a digest of it, which no other site can know. Programs send the token itself (``Authorization``).
"""

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable

from medley.batches import control
from medley.cluster import Cluster
from medley.errors import MedleyError
from medley.logs import about
from medley.records.batches import AnyBatch
from medley_producer.dashboard.views import Action, Decided

log = logging.getLogger("medley.audit")

COOKIE = "medley_control"

STAYS_S = 12 * 3600
"""A browser is let in for a shift."""


_ACTIONS: dict[Action, Callable[[Cluster, AnyBatch], int | None]] = {
    "pause": control.pause,
    "resume": control.resume,
    "cancel": control.cancel,
    "retry": control.retry,
}
"""What does it, and says how many jobs are enqueued for it, if any."""


class Gate:
    """Who may decide."""

    def __init__(self, token: str | None) -> None:
        """Without a token, nobody may."""
        self._token = token
        self._key = secrets.token_bytes(32)

    @property
    def is_open(self) -> bool:
        """Whether anybody may."""
        return self._token is not None

    def knows(self, token: str, sender: str) -> bool:
        """Whether this is the token; that somebody asked with another one is told."""
        known = self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())
        if not known:
            log.warning("A wrong token, from %s, was refused.", sender)
        return known

    def cookie(self) -> str:
        """What a browser keeps that was let in."""
        until = str(int(time.time()) + STAYS_S)
        return f"{until}.{self._signed(until)}"

    def admits(self, cookie: str) -> bool:
        """Whether this is such a cookie, and not too old."""
        until, _, signature = cookie.partition(".")
        if not (self.is_open and until.isascii() and until.isdigit()):
            return False
        return hmac.compare_digest(signature.encode(), self._signed(until).encode()) and int(until) > time.time()

    def form_key(self, cookie: str) -> str:
        """What the forms carry that are shown to the browser with this cookie."""
        return self._signed(f"form {cookie}")

    def admits_form(self, cookie: str, form_key: str, sender: str) -> bool:
        """Whether a form was shown to the browser that sends it; that another one was sent is told."""
        admitted = self.admits(cookie) and hmac.compare_digest(form_key.encode(), self.form_key(cookie).encode())
        if not admitted:
            log.warning("A form that was not shown to whoever sent it, from %s, was refused.", sender)
        return admitted

    def _signed(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def decide(cluster: Cluster, batch: AnyBatch, action: Action, who: str) -> Decided:
    """Do it, and tell it.

    Raises:
        MedleyError: of :mod:`medley.batches.control`.
    """
    with about(batch=batch.name):
        try:
            jobs = _ACTIONS[action](cluster, batch) or 0
        except MedleyError as error:
            log.warning("%s of batch %s, by %s, was refused: %s", action, batch.name, who, error)
            raise
        log.warning("%s of batch %s, by %s: %d jobs.", action, batch.name, who, jobs)
    return Decided(batch=batch.name, action=action, jobs=jobs)
