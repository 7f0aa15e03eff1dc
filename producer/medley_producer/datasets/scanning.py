"""Files, folders, globs, CSVs and buckets, turned into an ordered list of pictures that is the same on every machine.

A scan names pictures and opens none: what cannot be read is found when it is probed.
"""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from medley.errors import DatasetError
from medley.records.batches import Skipped
from medley.telling import Told, quiet
from medley_producer.datasets.buckets import Buckets
from medley_producer.datasets.entries import S3, Entry, Found, portable
from medley_producer.datasets.folders import pictures_below, pictures_matching
from medley_producer.datasets.tables import Columns, Root, pictures_named

TOLD_EVERY = 1_000
"""Pictures. A folder gives as many in some milliseconds, a bucket in one page of its list."""


class Scanned(NamedTuple):
    """What a pool holds: its pictures, and what could not be read of it."""

    entries: list[Entry]
    skipped: list[Skipped]


def scan(
    pool: Sequence[str],
    buckets: Buckets,
    *,
    where: Sequence[str] = (),
    image_column: str | None = None,
    image_root: str | None = None,
    told: Told = quiet,
) -> Scanned:
    """The pictures of a pool: each once, ordered by name (by code points), and no name twice.

    A pool item is a file, a folder (with all below it), a glob (``*``, ``?``, ``[...]``, ``**``), a CSV, or
    ``s3://bucket/prefix`` (with all below it). Folders, globs and buckets give the files that are called like pictures;
    what is hidden is left out. A CSV's rows name pictures in ``image_column``, below ``image_root`` (a folder or
    ``s3://``; the CSV's folder if None), whether they exist or not; ``where`` keeps the rows in which every
    ``column=value`` holds exactly. Of two pictures with one name, the second is numbered.

    Folders below that cannot be read and rows that name something outside the root are skipped.

    Raises:
        DatasetError: an item is missing or has no pictures, a CSV is not as described, ``where`` leaves no row, or
            nothing is left but what was skipped.
        StorageUnreachable, StorageRefused: a bucket cannot be listed.
    """
    columns = Columns([_condition(text) for text in where], image_column)
    scanned = Scanned([], [])
    for item in pool:
        try:
            for found in _item(item, columns, image_root, buckets):
                if isinstance(found, Entry):
                    scanned.entries.append(found)
                else:
                    scanned.skipped.append(found)
                if (count := len(scanned.entries) + len(scanned.skipped)) % TOLD_EVERY == 0:
                    told("scanning", count, 0)
        except OSError as error:
            raise DatasetError(f"{item} cannot be read ({error.strerror}); correct its permissions or path.") from error
    if not scanned.entries:
        count, first = len(scanned.skipped), scanned.skipped[0].reason
        raise DatasetError(f"Not one picture can be used: {count} were skipped. The first: {first}")
    return Scanned(_distinct(scanned.entries), scanned.skipped)


def _item(item: str, columns: Columns, image_root: str | None, buckets: Buckets) -> Iterator[Found]:
    if item.startswith(S3):
        return buckets.pictures(item)
    if "://" in item:
        raise DatasetError(
            f"{item} is a URL that is not read; download its pictures first and name their folder, "
            "or put them below s3://bucket/prefix and name that."
        )
    path = Path(item)
    if path.is_dir():
        return pictures_below(item)
    if not os.path.lexists(path):
        if glob.has_magic(item):
            return pictures_matching(item)
        raise DatasetError(f"{item} does not exist; correct the path.")
    if path.suffix.lower() == ".csv":
        return pictures_named(item, columns, Root(image_root or str(path.parent), buckets))
    return iter([Entry(portable(path.name), str(Path(os.path.realpath(path.parent), path.name)))])


def _condition(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not (column and equals):
        raise DatasetError(f"{text!r} is not a condition on a CSV's rows; write column=value.")
    return column, value


def _distinct(found: list[Entry]) -> list[Entry]:
    """Ordered by name, each picture once, and the names of different ones made different."""
    taken = {entry.name for entry in found}
    seen: set[str] = set()
    kept: list[Entry] = []
    last = None
    for entry in sorted(found, key=lambda entry: entry.name):
        if entry.where in seen:
            continue
        seen.add(entry.where)
        kept.append(entry if entry.name != last else entry._replace(name=_free(entry.name, taken)))
        last = entry.name
    return sorted(kept, key=lambda entry: entry.name)


def _free(name: str, taken: set[str]) -> str:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122, names are text, not paths of this system
    number = 2
    while (candidate := f"{stem}-{number}{suffix}") in taken:
        number += 1
    taken.add(candidate)
    return candidate
