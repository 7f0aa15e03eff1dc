"""Files, folders, globs and CSVs, turned into an ordered list of pictures that is the same on every machine.

A scan names pictures and opens none: what cannot be read is found when it is probed.
"""

import csv
import glob
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from medley.errors import DatasetError

SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"])
"""What the name of a picture in a folder ends with, in lower case."""

IMAGE_COLUMNS = ("filename", "new_filename")
"""Where a CSV names its pictures if not told: as train_info.csv and all_data_info.csv of Painter by Numbers do."""


class Entry(NamedTuple):
    """One picture of a dataset.

    ``name`` is the path below the root of its pool item, with ``/`` on every system; ``path`` is absolute; ``label``
    is what people call the picture, where a CSV has an artist or a title.
    """

    name: str
    path: Path
    label: str | None = None


def scan(
    pool: Sequence[str],
    *,
    where: Sequence[str] = (),
    image_column: str | None = None,
    image_root: str | None = None,
) -> list[Entry]:
    """The pictures of a pool: each once, ordered by name (by code points), and no name twice.

    A pool item is a file, a folder (with all below it), a glob (``*``, ``?``, ``[...]``, ``**``) or a CSV. Folders and
    globs give the files that are called like pictures; what is hidden is left out. A CSV's rows name pictures in
    ``image_column``, below ``image_root`` (the CSV's folder if None), whether they exist or not; ``where`` keeps the
    rows in which every ``column=value`` holds exactly. Of two pictures with one name, the second is numbered.

    Raises:
        DatasetError: an item is missing or has no pictures, a CSV is not as described, or ``where`` leaves no row.
    """
    conditions = [_condition(text) for text in where]
    found: list[Entry] = []
    for item in pool:
        try:
            found += _item(item, conditions, image_column, image_root)
        except OSError as error:
            raise DatasetError(f"{item} cannot be read ({error.strerror}); correct its permissions or path.") from error
    return _distinct(found)


def _item(
    item: str, conditions: Sequence[tuple[str, str]], image_column: str | None, image_root: str | None
) -> list[Entry]:
    if "://" in item:
        raise DatasetError(f"{item} is a URL, which is not supported yet; mount it or copy it to a folder.")
    path = Path(item)
    if path.is_dir():
        return _folder(path)
    if not os.path.lexists(path):
        if glob.has_magic(item):
            return _glob(item)
        raise DatasetError(f"{item} does not exist; correct the path.")
    if path.suffix.lower() == ".csv":
        return _csv(path, conditions, image_column, Path(image_root) if image_root else path.parent)
    return [Entry(_portable(path.name), _real(path.parent) / path.name)]


def _folder(folder: Path) -> list[Entry]:
    root = str(_real(folder))
    entries, others = [], 0
    for path in _walk(root):
        if _is_picture(path):
            entries.append(Entry(_portable(os.path.relpath(path, root)), Path(path)))
        else:
            others += 1
    if not entries:
        holds = f"holds {others} files and none of them" if others else "is empty, and nothing in it"
        raise DatasetError(f"{folder} {holds} is called like a picture; name a folder with pictures.")
    return entries


def _walk(root: str) -> Iterator[str]:
    """All files below a folder, hidden ones left out; symbolic links are followed, each folder entered once."""
    entered, waiting = set(), [root]
    while waiting:
        folder = waiting.pop()
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as items:
            # Sorted, as the order decides which way a folder reached twice is named.
            for item in sorted(items, key=lambda item: item.name, reverse=True):
                if item.name.startswith("."):
                    continue
                if item.is_dir(follow_symlinks=False) or (item.is_symlink() and Path(item.path).is_dir()):
                    waiting.append(item.path)
                else:
                    yield item.path


def _glob(pattern: str) -> list[Entry]:
    parts = Path(pattern).parts
    magic = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    root = _real(Path(*parts[:magic]))
    below = "/".join(parts[magic:]) + ("/*" if parts[-1] == "**" else "")
    try:
        # Not glob.glob, whose ** follows symbolic links round and round.
        paths = [path for path in root.glob(below) if _is_picture(path.name) and not path.is_dir()]
    except ValueError as error:
        raise DatasetError(f"{pattern} is not a glob ({error}); write ** between slashes.") from error
    relative = [(path.relative_to(root), path) for path in paths]
    entries = [
        Entry(_portable(str(name)), path)
        for name, path in relative
        if not any(part.startswith(".") for part in name.parts)
    ]
    if not entries:
        raise DatasetError(f"{pattern} matches no file that is called like a picture; correct the glob.")
    return entries


def _csv(path: Path, conditions: Sequence[tuple[str, str]], image_column: str | None, root: Path) -> list[Entry]:
    columns, rows = _read_csv(path)
    for column, _ in conditions:
        _require_column(path, columns, column)
    image_column = image_column or next((name for name in IMAGE_COLUMNS if name in columns), IMAGE_COLUMNS[0])
    _require_column(path, columns, image_column)
    kept = [row for row in rows if all(row[column] == value for column, value in conditions)]
    if rows and not kept:
        wanted = " and ".join(f"{column}={value}" for column, value in conditions)
        raise DatasetError(f"None of the {len(rows)} rows of {path} has {wanted}; values are compared exactly.")
    root = _real(root)
    entries = []
    for row in kept:
        if cell := row[image_column]:
            name = os.path.normpath(cell)
            entries.append(Entry(_portable(name), root / name, _label(row)))
    if not entries:
        raise DatasetError(f"No row of {path} names a picture in its column {image_column}; name another column.")
    return entries


def _read_csv(path: Path) -> tuple[Sequence[str], list[dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # -sig: spreadsheets begin the file with a BOM
            reader = csv.DictReader(file, restval="")
            rows = list(reader)
            return reader.fieldnames or (), rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a CSV in UTF-8 ({error}); save it as one.") from error


def _require_column(path: Path, columns: Sequence[str], column: str) -> None:
    if column not in columns:
        raise DatasetError(f"{path} has no column {column}; it has {', '.join(columns) or 'none'}.")


def _condition(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not (column and equals):
        raise DatasetError(f"{text!r} is not a condition on a CSV's rows; write column=value.")
    return column, value


def _label(row: dict[str, str]) -> str | None:
    return ", ".join(text for column in ("artist", "title") if (text := row.get(column, ""))) or None


def _real(folder: Path) -> Path:
    return Path(os.path.realpath(folder))  # Path.resolve raises at a loop of links; this goes as far as it can


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122, a Path each takes six times as long


def _portable(name: str) -> str:
    """One name for one file on every system: ``/`` between parts, NFC, and valid Unicode whatever the disk holds."""
    text = name.encode(errors="surrogateescape").decode(errors="replace")
    return unicodedata.normalize("NFC", text.replace(os.sep, "/")).lstrip("/")


def _distinct(found: list[Entry]) -> list[Entry]:
    """Ordered by name, each path once, and the names of different paths made different."""
    taken = {entry.name for entry in found}
    used: set[str] = set()
    by_path: dict[Path, Entry] = {}
    for entry in sorted(found, key=lambda entry: entry.name):
        if entry.path not in by_path:
            name = _free(entry.name, taken) if entry.name in used else entry.name
            used.add(name)
            by_path[entry.path] = entry._replace(name=name)
    return sorted(by_path.values(), key=lambda entry: entry.name)


def _free(name: str, taken: set[str]) -> str:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122, names are text, not paths of this system
    number = 2
    while (candidate := f"{stem}-{number}{suffix}") in taken:
        number += 1
    taken.add(candidate)
    return candidate
