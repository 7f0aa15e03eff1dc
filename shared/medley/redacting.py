"""Passwords out of what people read: URLs as they may be shown, and the texts of libraries that repeat them."""

import re
from urllib.parse import quote, unquote, urlsplit

_MASK = "***"

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

_SHOWN = frozenset({"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"})
"""What may stand in the query of a Redis URL: none of it is secret, and a wrong path wants to be seen."""


def without_password(url: str) -> str:
    """The URL as it may be shown, with ``***`` for its password and for what its query says.

    What cannot be taken apart safely (a password with ``/``, ``?`` or ``#`` that is not written as a %-escape, a port
    that is no number) is ``***`` as a whole, after its scheme.
    """
    found = _SCHEME.match(url)
    scheme = found[0] if found else ""
    rest = url.removeprefix(scheme)
    try:
        parts = urlsplit(f"//{rest}")
        _ = parts.port  # a ValueError, where it is none
    except ValueError:
        return f"{scheme}{_MASK}"
    if "@" in rest.removeprefix(parts.netloc) and ":" in rest.rpartition("@")[0]:
        return f"{scheme}{_MASK}"
    query = "?" + "&".join(map(_shown, parts.query.split("&"))) if parts.query else ""
    fragment = f"#{_MASK}" if parts.fragment else ""
    return f"{scheme}{_place(parts.netloc)}{parts.path}{query}{fragment}"


def redacted(text: str, url: str) -> str:
    """What a library said about ``url``, without its password, however it is escaped there."""
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        password = ""
    plain = unquote(password)
    secrets = {password, plain, quote(plain, safe=""), repr(plain)[1:-1]} - {""}
    text = text.replace(url, without_password(url))
    for secret in sorted(secrets, key=len, reverse=True):  # the longest first: one may contain another
        text = text.replace(secret, _MASK)
    return text


def _place(netloc: str) -> str:
    """``user:***@host:port``; a user without a password may be a token, so it is not shown either."""
    credentials, at, host = netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{user}{colon}{_MASK}{at}{host}" if colon else f"{_MASK}{at}{host}" if at else host


def _shown(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return parameter if name in _SHOWN else f"{name}={_MASK}" if equals else _MASK
