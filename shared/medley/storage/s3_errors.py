"""boto3's errors as medley's: which mean that the service is away, and which that it says no."""

import re
from types import ModuleType

import boto3.exceptions
import botocore.exceptions
import s3transfer.exceptions
from botocore.exceptions import ClientError, SSLError
from urllib3.exceptions import HTTPError

from medley.errors import MedleyError, StorageRefused, StorageUnreachable
from medley.storage.contract import missing
from medley.tls import TRUST_IT, is_not_trusted


def _errors_of(module: ModuleType) -> list[type[Exception]]:
    """The errors that a module defines."""
    classes = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, Exception)]
    return [each for each in classes if each.__module__ == module.__name__ and not issubclass(each, Warning)]


FAULTS: tuple[type[Exception], ...] = (
    *_errors_of(botocore.exceptions),
    *_errors_of(boto3.exceptions),
    *_errors_of(s3transfer.exceptions),
    HTTPError,  # of a body, as it is read
    ValueError,  # "Invalid endpoint", and configuration that is no number
)
"""All that a call of boto3 raises; the three packages have no common base."""

_UNREACHABLE = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.IncompleteReadError,
    botocore.exceptions.ChecksumError,
    botocore.exceptions.FlexibleChecksumError,
    HTTPError,
)
"""Faults of the network, after which the same call may succeed."""

_BUSY = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "RequestLimitExceeded"})
"""Codes that ask to come back later, whatever status they arrive with."""

_REASONS = {
    "NoSuchBucket": "has no such bucket. Make it, or correct the URL (of storage: MEDLEY_STORAGE_URL)",
    "InvalidAccessKeyId": "does not know AWS_ACCESS_KEY_ID. Correct it",
    "SignatureDoesNotMatch": "does not take AWS_SECRET_ACCESS_KEY. Correct it",
    "ExpiredToken": "finds the credentials expired. Renew them",
    "RequestTimeTooSkewed": "has another time than this machine. Set this machine's clock",
    "AccessDenied": "gives these credentials no right to this. Grant it, or set other AWS_* credentials",
    "403": "gives these credentials no right to this. Grant it, or set other AWS_* credentials",
}
"""What is wrong and what to do, by the code of a refusal."""

_CREDENTIALS = re.compile(r"\S*@")
"""What the URL of a proxy, or of a server that boto3 was told of elsewhere, may begin with."""


def as_medley_error(error: Exception, place: str, key: str) -> MedleyError:
    """The error to raise instead of one of ``FAULTS``, met at ``place`` (URL and server) with ``key``, if any."""
    if isinstance(error, boto3.exceptions.S3UploadFailedError) and isinstance(error.__context__, ClientError):
        error = error.__context__  # boto3 wraps the server's answer to an upload in a text
    if isinstance(error, ClientError):
        return _answered(error, place, key)
    said = _CREDENTIALS.sub("***@", str(error))
    if isinstance(error, SSLError) and is_not_trusted(said):
        hint = f"{TRUST_IT} MEDLEY_S3_ENDPOINT_URL."
        return StorageRefused(f"{place} shows a certificate that is not trusted: {said}. {hint}")
    if isinstance(error, _UNREACHABLE):
        certificates = ", MEDLEY_CA_FILE, AWS_CA_BUNDLE" if isinstance(error, SSLError) else ""
        hint = f"Start it, or correct MEDLEY_S3_ENDPOINT_URL{certificates} or the network."
        return StorageUnreachable(f"{place} does not answer: {said}. {hint}")
    hint = "Check the AWS_* variables, boto3's configuration files and MEDLEY_S3_ENDPOINT_URL (http://host:port)."
    return StorageRefused(f"{place} cannot be used: {said}. {hint}")


def status_of(error: ClientError) -> int:
    """The HTTP status of a server's answer; 0 if there is none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _answered(error: ClientError, place: str, key: str) -> MedleyError:
    """What an answer means; see the S3 API reference, "Error responses"."""
    code, status = str(error.response.get("Error", {}).get("Code", "")), status_of(error)
    if status == 404 and key and code != "NoSuchBucket":
        return missing(place, key)
    if status == 507:  # insufficient storage, which waiting does not mend
        return StorageRefused(f"{place} is full: {error}. Make room there.")
    if code in _BUSY or status in (409, 429) or status >= 500:
        return StorageUnreachable(f"{place} cannot answer now: {error}. Try again later, or look at its log.")
    reason = _REASONS.get(
        code, "refuses. Check the URL (of storage: MEDLEY_STORAGE_URL), the AWS_* variables and the server's settings"
    )
    return StorageRefused(f"{place} {reason}. It said: {error}.")
