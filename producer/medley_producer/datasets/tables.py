"""The pictures that a CSV names, row by row, so that its size does not matter."""

import csv
import os
import re
import stat
from collections.abc import Generator, Iterator, Sequence
from inspect import GEN_CLOSED, getgeneratorstate
from pathlib import Path
from typing import NamedTuple, TextIO

from medley.errors import DatasetError
from medley.records.batches import Skipped
from medley.telling import shown
from medley_producer.datasets.buckets import Buckets
from medley_producer.datasets.entries import S3, Entry, Found, portable

IMAGE_COLUMNS = ("filename", "new_filename")
"""Where a CSV names its pictures if not told: as train_info.csv and all_data_info.csv of Painter by Numbers do."""

LONGEST_LINE = 1_000_000
"""Characters. What has no ends of lines is no CSV, and need not fit into memory to be found out."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Columns(NamedTuple):
    """Which rows are taken, those in which every column holds exactly that value, and which column names pictures."""

    conditions: Sequence[tuple[str, str]]
    image: str | None


class Root:
    """The folder or the bucket below which a CSV's pictures lie."""

    def __init__(self, place: str, buckets: Buckets) -> None:
        self.place = place
        if place.startswith(S3):
            self._scheme, self._folders = "s3:/", ["/" + place.removeprefix(S3).rstrip("/")]
            self._versions = buckets.versions(place)
        else:
            # A row may spell the way as it was typed, or as it really is.
            self._scheme, self._folders = "", [os.path.realpath(place), os.path.abspath(place)]  # noqa: PTH100, lexical
            self._versions = {}

    def entry(self, path: str, label: str | None) -> Entry | None:
        """The picture at a path relative to the root, or None if that lies elsewhere, by the look of it."""
        for folder in self._folders:
            whole = os.path.normpath(os.path.join(folder, path))  # noqa: PTH118, a Path each takes memory
            if whole.startswith(folder.rstrip("/") + "/"):
                name = whole[len(folder.rstrip("/")) + 1 :]
                where = f"{self._scheme}{self._folders[0].rstrip('/')}/{name}"
                return Entry(portable(name), where, label, self._versions.get(where))
        return None


def pictures_named(path: str, columns: Columns, root: Root) -> Iterator[Found]:
    """The pictures of a CSV's rows, whether they exist or not.

    Rows without a picture are left out; those whose picture does not lie below the root are skipped.

    Raises:
        OSError: the file cannot be read.
        DatasetError: it is no CSV in UTF-8, has not these columns, or has no row that is wanted.
    """
    rows = _rows(path)
    at = {name: n for n, name in enumerate(next(rows, _Row([], torn=False)).cells)}
    image = columns.image or next((name for name in IMAGE_COLUMNS if name in at), IMAGE_COLUMNS[0])
    _require(path, at, [*(column for column, _ in columns.conditions), image])
    total = kept = named = 0
    for number, (row, torn) in enumerate(rows, start=2):
        cells = {column: row[n] for column, n in at.items() if n < len(row)}
        total += bool(row)
        cell, where = cells.get(image, ""), f"Row {number} of {path}"
        if torn:  # whatever it holds: its columns cannot be told
            kept, named = kept + 1, named + 1
            reason = f"{where} is torn: a quote that it opens is never closed; mend the row."
            yield Skipped(name=where, reason=reason)
        elif row and all(cells.get(column, "") == value for column, value in columns.conditions):
            kept += 1
            if cell:
                named += 1
                yield _picture(where, cell, _label(cells), root)
    if total and not kept:
        wanted = " and ".join(f"{column}={value}" for column, value in columns.conditions)
        raise DatasetError(f"None of the {total} rows of {path} has {wanted}; values are compared exactly.")
    if not named:
        raise DatasetError(f"No row of {path} names a picture in its column {image}; name another column.")


def _require(path: str, at: dict[str, int], wanted: Sequence[str]) -> None:
    if any("\0" in name for name in at):
        raise DatasetError(f"{path} is not a CSV in UTF-8 (its first row holds NULs); save it as one.")
    for column in wanted:
        if column not in at:
            raise DatasetError(f"{path} has no column {column}; it has {shown(', '.join(at)) or 'none'}.")


class _Row(NamedTuple):
    cells: list[str]
    torn: bool


def _rows(path: str) -> Iterator[_Row]:
    if not stat.S_ISREG(Path(path).stat().st_mode):  # opening a FIFO would wait for ever
        raise DatasetError(f"{path} is not a regular file; name a CSV file.")
    with Path(path).open(encoding="utf-8-sig", newline="") as file:  # -sig: spreadsheets begin the file with a BOM
        lines = _lines(file)
        rows = csv.reader(lines)
        try:
            for row in rows:
                # A row is there before the next line is asked for, unless one of its quotes is never closed.
                yield _Row(row, torn=getgeneratorstate(lines) == GEN_CLOSED)
        except (UnicodeDecodeError, csv.Error) as error:
            place = f"near line {rows.line_num}: {error}"
            raise DatasetError(f"{path} is not a CSV in UTF-8 ({place}); save it as one.") from error


def _lines(file: TextIO) -> Generator[str, None, None]:
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise csv.Error(f"longer than {LONGEST_LINE:,} characters")
        yield line


def _picture(row: str, cell: str, label: str | None, root: Root) -> Found:
    if _URL.match(cell):
        raise DatasetError(
            f"{row} names {shown(cell)}, and pictures are not fetched from URLs; download them first and name the "
            "files, or set --image-root to s3://bucket/prefix and name what lies below it."
        )
    if "\0" in cell or "\n" in cell:
        reason = "which holds a NUL or the end of a line, as after a quote that is never closed; correct the row."
    elif entry := root.entry(cell, label):
        return entry
    else:
        reason = f"which does not lie below {root.place}; correct the row, or set --image-root to a folder above it."
    return Skipped(name=cell, reason=f"{row} names {shown(cell)}, {reason}")


def _label(cells: dict[str, str]) -> str | None:
    return ", ".join(text for column in ("artist", "title") if (text := cells.get(column, ""))) or None
