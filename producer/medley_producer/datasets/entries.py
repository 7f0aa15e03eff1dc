"""What a dataset is made of: its pictures, each with a name that is the same on every machine."""

import os
import unicodedata
from typing import NamedTuple

from medley.errors import DatasetError
from medley.records.batches import Skipped

SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"]
)
"""What the name of a picture in a folder or a bucket ends with, in lower case."""

S3 = "s3://"
"""How the place of a picture begins that lies in a bucket."""


class Entry(NamedTuple):
    """One picture of a dataset; a hundred thousand of them are held at once, so it is text and nothing more.

    ``name`` is the path below the root of its pool item, with ``/`` on every system; ``where`` is an absolute path, or
    ``s3://bucket/key``; ``label`` is what people call the picture, where a CSV has an artist or a title; ``version``
    tells a changed picture from the one that was there before, where a listing says so (S3's ETag).
    """

    name: str
    where: str
    label: str | None = None
    version: str | None = None


Found = Entry | Skipped
"""What a scan comes upon: a picture, or what cannot be one, with the reason."""


def is_picture(name: str) -> bool:
    """Whether a file is called like a picture."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122, a Path each takes six times as long


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder on the way to it, is called so that listings leave it out."""
    return "/." in f"/{name}"


def portable(name: str) -> str:
    """One name for one file on every system: ``/`` between parts, NFC, and valid Unicode whatever the disk holds."""
    text = name.encode(errors="surrogateescape").decode(errors="replace")
    return unicodedata.normalize("NFC", text.replace(os.sep, "/")).lstrip("/")


def no_pictures(place: str, others: int, what: str) -> DatasetError:
    """The error for a folder or a bucket that has ``others`` files (called ``what``), and no picture."""
    holds = f"holds {others} {what} and none of them" if others else "is empty, and nothing in it"
    return DatasetError(f"{place} {holds} is called like a picture; name a folder with pictures.")
