"""What any machine needs: versions, settings, memory, disk and picture formats."""

import difflib
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from medley.errors import MedleyError, UsageError
from medley.files import os_errors
from medley.memory import free_memory
from medley.records.jobs import ENGINE
from medley.settings import Settings
from medley_producer.doctor.findings import Finding, refusal

ROOM_BYTES = 2_000_000_000
"""A thousand pictures of a megapixel, as PNGs of 2 MB; below it, a batch is likely to fill the disk."""

NO_ROOM_BYTES = 200_000_000
"""Below it, the first hundred pictures do."""


MEMORY_BYTES = 2_000_000_000
"""A process that imported torch, and paints a picture of 512 px; below it, only smaller ones can be painted."""

LEAST_MEMORY_BYTES = 500_000_000
"""What importing torch takes."""


def versions() -> Iterator[Finding]:
    """medley's version and Python's; which Pythons will do, pip has seen to."""
    yield Finding("medley", "green", f"{version('medley-farm')}, engine {ENGINE}")
    where = f"{platform.system()} {platform.machine()}, {sys.prefix}"
    yield Finding("Python", "green", f"{platform.python_version()}, {where}")


def read_settings() -> tuple[Settings, list[Finding]]:
    """The settings, with the default for each that cannot be used, and what is to be said of them."""
    try:
        settings = Settings.load()
        findings = list(_strangers())
    except UsageError as error:
        cause = error.__cause__
        wrong = {str(each["loc"][0]) for each in cause.errors()} if isinstance(cause, ValidationError) else set()
        settings = Settings(**{name: Settings.model_fields[name].default for name in wrong})
        findings = [refusal("settings", error), *_strangers()]
    known = sorted(f"MEDLEY_{name.upper()}" for name in settings.model_fields_set)
    return settings, findings or [Finding("settings", "green", ", ".join(known) or "none set; the defaults")]


def _strangers() -> Iterator[Finding]:
    """Variables that look like settings and are none."""
    known = [name.upper() for name in Settings.model_fields]
    for name in sorted(os.environ):
        stem = name.upper().removeprefix("MEDLEY_")
        if stem != name.upper() and stem not in known:
            near = difflib.get_close_matches(stem, known, 1)
            remedy = f"If MEDLEY_{near[0]} is meant, set that, and unset this." if near else f"Unset {name}."
            yield Finding("settings", "yellow", f"{name} is set, and is no setting", remedy)


def memory() -> Iterator[Finding]:
    """Memory that is free for this process, where that can be told."""
    free = free_memory()
    if free is None:
        yield Finding("memory", "green", f"not told by {platform.system()}")
        return
    found = f"{free / 1e9:.1f} GB free"
    if free >= MEMORY_BYTES:
        yield Finding("memory", "green", found)
        return
    remedy = "End other programs, raise the container's limit, or submit here and paint elsewhere."
    yield Finding("memory", "yellow" if free >= LEAST_MEMORY_BYTES else "red", found, remedy)


def disk(settings: Settings) -> Iterator[Finding]:
    """Room where results, temporary files and a folder as storage go; one finding for each file system."""
    places: list[tuple[str, Callable[[], Path]]] = [
        ("The current folder", Path.cwd),
        ("The temporary folder", lambda: Path(tempfile.gettempdir())),
    ]
    if settings.storage_url and (folder := storage_folder(settings.storage_url)):
        places.append(("The storage folder", lambda: nearest(folder)))
    systems: dict[int, list[Path]] = {}
    for name, find in places:
        try:
            with os_errors(name):
                place = find()
                systems.setdefault(place.stat().st_dev, []).append(place)
        except MedleyError as error:
            yield refusal("disk", error)
    for together in systems.values():
        yield _room(together)


def storage_folder(url: str) -> Path | None:
    """The folder of a ``file://`` URL."""
    return Path(unquote(urlsplit(url).path)) if url.lower().startswith("file:") else None


def nearest(folder: Path) -> Path:
    """The folder, or what there is of the way to it: storage is made when it is opened."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _room(places: list[Path]) -> Finding:
    free = shutil.disk_usage(places[0]).free
    found = f"{free / 1e9:.1f} GB free for {', '.join(map(str, dict.fromkeys(places)))}"
    if free >= ROOM_BYTES:
        return Finding("disk", "green", found)
    remedy = "Make room, or choose other places: --out, TMPDIR, MEDLEY_STORAGE_URL."
    return Finding("disk", "yellow" if free >= NO_ROOM_BYTES else "red", found, remedy)


def formats() -> Iterator[Finding]:
    """Which picture formats are read, of those that a Pillow may lack."""
    from PIL import features

    supported = features.get_supported()
    lacking = [name for name, feature in _FEATURES.items() if feature not in supported]
    if lacking:
        found = f"this Pillow does not read {', '.join(lacking)}, and skips such files"
        yield Finding("formats", "yellow", found, "pip install --upgrade --force-reinstall --only-binary pillow pillow")
        return
    heic = "HEIC" if importlib.util.find_spec("pi_heif") else "and no HEIC (pip install 'medley-farm[heic]')"
    yield Finding("formats", "green", f"JPEG, PNG, GIF, BMP, {', '.join(_FEATURES)}, {heic}")


def video() -> Iterator[Finding]:
    """Whether videos can be made."""
    import av

    encoder = "libx264"
    if encoder in av.codecs_available:
        yield Finding("video", "green", f"H.264 by {encoder}, PyAV {version('av')}")
        return
    found = f"this PyAV has no H.264 encoder ({encoder}), so batches end without their video"
    yield Finding("video", "yellow", found, "pip install --upgrade --force-reinstall --only-binary av av")


_FEATURES = {"WebP": "webp", "AVIF": "avif", "compressed TIFF": "libtiff"}
"""The formats that a Pillow may be built without, and what it calls them."""
