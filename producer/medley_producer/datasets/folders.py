"""The pictures of a folder, and those that a glob matches; what is hidden is left out."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from medley.errors import DatasetError
from medley.records.batches import Skipped
from medley_producer.datasets.entries import Entry, Found, is_hidden, is_picture, no_pictures, portable


def pictures_below(folder: str) -> Iterator[Found]:
    """The files at any depth that are called like pictures; symbolic links are followed, each folder entered once.

    A folder below that cannot be read is skipped.

    Raises:
        OSError: the folder itself cannot be read.
        DatasetError: there is nothing called like a picture.
    """
    root = os.path.realpath(folder)  # Path.resolve raises at a loop of links; this goes as far as it can
    begin = len(root.rstrip(os.sep)) + 1
    entered: set[tuple[int, int]] = set()
    waiting, others, empty = [root], 0, True
    while waiting:
        inside = waiting.pop()
        try:
            files, folders = _listed(inside, entered)
        except OSError as error:
            if inside == root:
                raise
            empty = False
            yield _unreadable(portable(inside[begin:]), error)
            continue
        waiting += folders
        for path in files:
            if is_picture(path):
                empty = False
                yield Entry(portable(path[begin:]), path)
            else:
                others += 1
    if empty:
        raise no_pictures(folder, others, "files")


def _listed(folder: str, entered: set[tuple[int, int]]) -> tuple[list[str], list[str]]:
    """The paths of the files and of the folders in a folder, last one first; none if it was entered before."""
    status = Path(folder).stat()
    if (status.st_dev, status.st_ino) in entered:
        return [], []
    entered.add((status.st_dev, status.st_ino))
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as items:
        for item in items:
            if not item.name.startswith("."):
                (folders if _is_folder(item) else files).append(item.path)
    # Sorted, as the order decides which way a folder reached twice is named.
    return sorted(files, reverse=True), sorted(folders, reverse=True)


def _is_folder(item: "os.DirEntry[str]") -> bool:
    return item.is_dir(follow_symlinks=False) or (item.is_symlink() and _leads_to_folder(item.path))


def _leads_to_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112, Path.is_dir raises where the way there may not be looked at


def _unreadable(name: str, error: OSError) -> Skipped:
    return Skipped(name=name, reason=f"{name} cannot be read ({error.strerror}); correct its permissions or path.")


def pictures_matching(pattern: str) -> Iterator[Entry]:
    """The files that a glob (``*``, ``?``, ``[...]``, ``**``) matches and that are called like pictures.

    Raises:
        DatasetError: it is no glob, or matches no picture.
    """
    parts = Path(pattern).parts
    magic = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    root = os.path.realpath(Path(*parts[:magic]))
    begin = len(root.rstrip(os.sep)) + 1
    below = "/".join(parts[magic:]) + ("/*" if parts[-1] == "**" else "")
    try:
        # Not glob.glob, whose ** follows symbolic links round and round. Sorted, as of equal names the first is kept.
        matches = sorted(str(path)[begin:] for path in Path(root).glob(below) if is_picture(path.name))
    except ValueError as error:
        raise DatasetError(f"{pattern} is not a glob ({error}); write ** between slashes.") from error
    empty = True
    for name in matches:
        path = os.path.join(root, name)  # noqa: PTH118, a Path each takes memory
        if not is_hidden(name) and not _leads_to_folder(path):
            empty = False
            yield Entry(portable(name), path)
    if empty:
        raise DatasetError(f"{pattern} matches no file that is called like a picture; correct the glob.")
