"""An S3 bucket as storage, on AWS or on any server that speaks its protocol."""

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from medley import keys
from medley.errors import ObjectMissing, UsageError
from medley.files import os_errors, whole_file
from medley.redacting import without_password
from medley.settings import Settings
from medley.storage.contract import check_size, checked, checked_prefix, content_type_of, is_key
from medley.storage.s3_errors import FAULTS, as_medley_error, status_of
from medley.tls import ca_file

_ATTEMPTS = 2
"""Of one request: two connection timeouts of 5 s and a pause of up to 1 s stay under the 15 s a command may take."""

_CONFLICT_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
"""Between create-only puts that the server answers with 409: another one is under way, so ask again."""


class StoredObject(NamedTuple):
    """What a listing says of an object; ``etag`` is another one when its bytes are."""

    key: str
    bytes: int
    etag: str


class S3Storage:
    """Storage under a prefix of a bucket, with the credentials of boto3's usual chain."""

    def __init__(self, bucket: str, prefix: str, settings: Settings) -> None:
        self.root = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._settings = settings
        self._ca_file = ca_file(settings)
        self._place = self.root
        _check_endpoint(settings.s3_endpoint_url or "")
        with self._errors():
            self._session = boto3.session.Session()
            self._client = self._connect(settings.read_timeout_s)
        endpoint: str = self._client.meta.endpoint_url  # boto3 also takes it from AWS_ENDPOINT_URL and its files
        _check_endpoint(endpoint)
        self._place = f"{self.root} at {endpoint}"
        self._probe_lock = threading.Lock()
        self._conditions_hold: bool | None = None

    def put(
        self,
        key: str,
        data: bytes,
        content_type: str | None = None,
        *,
        private: bool = False,  # noqa: ARG002  the bucket's rules say who may read
    ) -> None:
        """See :meth:`Storage.put`."""
        named = self._object(key)
        tag = self._settings.frame_tag
        tagged = {"Tagging": tag} if tag and keys.is_frame(key) else {}
        with self._errors(key):
            self._client.put_object(**named, **tagged, Body=data, ContentType=content_type or content_type_of(key))

    def put_file(self, key: str, path: Path) -> None:
        """See :meth:`Storage.put_file`; large files go in parts, which are removed if one fails."""
        named = self._object(key)
        with os_errors(str(path)), self._errors(key):
            self._client.upload_file(str(path), **named, ExtraArgs={"ContentType": content_type_of(key)})

    def put_new(self, key: str, data: bytes) -> bool:
        """See :meth:`Storage.put_new`."""
        self._object(key)
        with self._errors(key):
            if self.honours_conditions():
                return self._create_patiently(key, data)
        if self.exists(key):
            return False
        self.put(key, data)
        return True

    def get(self, key: str, most_bytes: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        named = self._object(key)
        with self._errors(key):
            answer = self._client.get_object(**named)
            with answer["Body"] as body:
                check_size(key, answer["ContentLength"], most_bytes)
                data: bytes = body.read()
                return data

    def get_file(self, key: str, path: Path, *, link: bool = False) -> None:  # noqa: ARG002  a bucket has no links
        """See :meth:`Storage.get_file`."""
        named = self._object(key)
        with os_errors(str(path)), self._errors(key):
            body = self._client.get_object(**named)["Body"]
            with body, whole_file(path) as file:
                shutil.copyfileobj(body, file)

    def exists(self, key: str) -> bool:
        """See :meth:`Storage.exists`."""
        named = self._object(key)
        try:
            with self._errors(key):
                self._client.head_object(**named)
        except ObjectMissing:
            return False
        return True

    def list(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """See :meth:`Storage.list`."""
        return (found.key for found in self.objects(prefix, after) if is_key(found.key))

    def objects(self, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        """As :meth:`list`, with what a listing says of each object; names that are no key are among them."""
        checked_prefix(prefix)
        return self._objects(prefix, after)

    def folders(self, prefix: str) -> Iterator[str]:
        """See :meth:`Storage.folders`."""
        whole = self._prefix + checked_prefix(prefix)
        with self._errors(prefix):
            paginator = self._client.get_paginator("list_objects_v2")
            for page in paginator.paginate(Bucket=self._bucket, Prefix=whole, Delimiter="/"):
                for entry in page.get("CommonPrefixes", []):
                    yield entry["Prefix"].removeprefix(whole).removesuffix("/")

    def delete(self, key: str) -> None:
        """See :meth:`Storage.delete`."""
        named = self._object(key)
        with self._errors(key):
            self._client.delete_object(**named)

    def check(self) -> None:
        """See :meth:`Storage.check`; lists one key, as the answer to HEAD has no room for a reason."""
        with self._errors():
            client = self._connect(read_timeout_s=self._settings.connect_timeout_s)
            client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)

    def honours_conditions(self) -> bool:
        """See :meth:`Storage.honours_conditions`; asked once."""
        with self._errors(), self._probe_lock:
            if self._conditions_hold is None:
                self._conditions_hold = self._probe()
            return self._conditions_hold

    def clock_skew_s(self) -> float | None:
        """See :meth:`Storage.clock_skew_s`; an answer's Date has whole seconds."""
        with self._errors():
            answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
            said = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
            return time.time() - parsedate_to_datetime(said).timestamp() if said else None

    def url(self, key: str, expires_s: int = 3600) -> str:
        """See :meth:`Storage.url`."""
        named = self._object(key)
        with self._errors(key):
            url: str = self._client.generate_presigned_url("get_object", Params=named, ExpiresIn=expires_s)
            return url

    def _connect(self, read_timeout_s: float) -> Any:
        return self._session.client(
            "s3",
            endpoint_url=self._settings.s3_endpoint_url,
            verify=self._ca_file,  # None leaves it to AWS_CA_BUNDLE
            region_name=self._session.region_name or "us-east-1",
            config=Config(
                connect_timeout=self._settings.connect_timeout_s,
                read_timeout=read_timeout_s,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                signature_version="s3v4",  # boto3 signs URLs for other servers with version 2, which some refuse
                s3={"addressing_style": "path"},  # a server at an IP address has no names for buckets
                request_checksum_calculation="when_required",  # newer checksums break servers that do not know them
                response_checksum_validation="when_required",
                max_pool_connections=32,  # a worker's threads, and the ten of each file that goes in parts
            ),
        )

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked(key)}

    def _objects(self, prefix: str, after: str) -> Iterator[StoredObject]:
        paginator = self._client.get_paginator("list_objects_v2")
        start = {"StartAfter": self._prefix + after} if after else {}
        with self._errors(prefix):
            for page in paginator.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix, **start):
                for entry in page.get("Contents", []):
                    key = entry["Key"].removeprefix(self._prefix)
                    yield StoredObject(key, entry["Size"], entry["ETag"].strip('"'))

    def _probe(self) -> bool:
        key = f"probe/{secrets.token_hex(16)}"
        try:
            self._create(key, b"")
            honoured = not self._create(key, b"")
        except ClientError as error:
            if status_of(error) != 501:  # "not implemented"; nothing was written
                raise
            return False
        self._client.delete_object(**self._object(key))
        return honoured

    def _create_patiently(self, key: str, data: bytes) -> bool:
        for pause_s in _CONFLICT_PAUSES_S:
            try:
                return self._create(key, data)
            except ClientError as error:
                if status_of(error) != 409:
                    raise
            time.sleep(pause_s)
        return self._create(key, data)

    def _create(self, key: str, data: bytes) -> bool:
        """One create-only put; False if something is there."""
        try:
            self._client.put_object(**self._object(key), Body=data, ContentType=content_type_of(key), IfNoneMatch="*")
        except ClientError as error:
            if status_of(error) != 412:
                raise
            return False
        return True

    @contextmanager
    def _errors(self, key: str = "") -> Iterator[None]:
        """Around calls of boto3: its errors become medley's."""
        try:
            yield
        except FAULTS as error:
            raise as_medley_error(error, self._place, key) from error


def _check_endpoint(url: str) -> None:
    """See that a server's URL holds no secret, which it would put into each signed link.

    Raises:
        UsageError: it does, or is none.
    """
    if without_password(url) != url:
        raise UsageError(
            "The URL of the S3 server (MEDLEY_S3_ENDPOINT_URL, AWS_ENDPOINT_URL) has a user, a password or a query, or "
            "no port where it should: write http://host:port or https://host:port, and put the credentials into "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
