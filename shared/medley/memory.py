"""How much memory this machine has left, and this process holds, by Linux's own account."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class _Account(NamedTuple):
    """Where a version of cgroups keeps its account: files of a group's folder, and a row of its ``memory.stat``."""

    limit: str
    used: str
    reclaimable: str


_V2 = _Account("memory.max", "memory.current", "inactive_file")
_V1 = _Account("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still take without being killed for them.

    That is what the kernel calls available, or what a cgroup of ours (a container's, a service's) leaves of its limit,
    whichever is less. File pages that were not used lately count as free, as the kernel drops them first.

    Args:
        root: where ``proc`` and ``sys`` are

    Returns:
        None where it cannot be told: this is not Linux.
    """
    available = _row(root / "proc/meminfo", "MemAvailable:")
    left = [_left(folder, account) for folder, account in _groups(root)]
    known = [number for number in (None if available is None else available * 1024, *left) if number is not None]
    return min(known, default=None)


def resident_bytes(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process holds; None where it cannot be told."""
    kilobytes = _row(root / "proc/self/status", "VmRSS:")
    return None if kilobytes is None else kilobytes * 1024


def _groups(root: Path) -> Iterator[tuple[Path, _Account]]:
    """The folders of our memory cgroup and of those above it, whose limits hold too."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", maxsplit=2)
        mount, account = root / "sys/fs/cgroup", _V2
        if controllers:
            mount, account = mount / "memory", _V1
            if "memory" not in controllers.split(","):
                continue
        # Inside a container the path may be that of the host, and the container's own group lies at the mount.
        group = PurePosixPath(path).relative_to("/")
        for part in (group, *group.parents):
            yield mount / part, account


def _left(folder: Path, account: _Account) -> int | None:
    """What a cgroup leaves of its limit; None if it has none."""
    limit, used = _text(folder / account.limit).strip(), _text(folder / account.used).strip()
    if not limit.isdigit() or not used.isdigit():
        return None
    reclaimable = _row(folder / "memory.stat", account.reclaimable) or 0
    return max(0, int(limit) - int(used) + reclaimable)


def _row(path: Path, name: str) -> int | None:
    """The number in a file's row of this name."""
    rows = (line.split() for line in _text(path).splitlines())
    return next((int(row[1]) for row in rows if row[0] == name), None)


def _text(path: Path) -> str:
    """A file's text; nothing if it is not there, as most of these are not on most machines."""
    try:
        return path.read_text()
    except OSError:
        return ""
