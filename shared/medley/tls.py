"""The certificates of a private CA, for every service that is reached over TLS."""

import ssl

from medley.errors import UsageError
from medley.settings import Settings

_NOT_TRUSTED = ("CERTIFICATE_VERIFY_FAILED", "doesn't match")
"""What the texts of Python's ssl and of urllib3 contain where a certificate, or the name in it, is not trusted."""

TRUST_IT = "Set MEDLEY_CA_FILE to the certificate (PEM) of the CA that signed it, or correct the host in"
"""What to do then; the name of the variable with the URL follows."""


def ca_file(settings: Settings) -> str | None:
    """The whole path of ``MEDLEY_CA_FILE``; None if it is not set.

    Raises:
        UsageError: it cannot be read, or holds no certificate.
    """
    if settings.ca_file is None:
        return None
    path = str(settings.ca_file.absolute())
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        reason = "it holds no certificate that can be read" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(
            f"MEDLEY_CA_FILE ({path}) cannot be used: {reason}. Name a file with the certificates of a CA in PEM "
            "form, or unset it."
        ) from error
    return path


def is_not_trusted(reason: str) -> bool:
    """Whether a library's complaint is that a certificate is not trusted, which asking again does not mend."""
    return any(text in reason for text in _NOT_TRUSTED)
