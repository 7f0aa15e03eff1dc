"""How much memory is left, read from made-up files of the kernel."""

from pathlib import Path

import pytest

from medley.memory import free_memory

GB = 10**9


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def machine(groups: str) -> dict[str, str]:
    meminfo = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"
    return {"proc/meminfo": meminfo, "proc/self/cgroup": groups}


def group(folder: str, limit: str, used: int, inactive: int) -> dict[str, str]:
    stat = f"anon {used}\ninactive_file {inactive}\nactive_file 5\n"
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": stat,
    }


def group_v1(folder: str, limit: int, used: int, inactive: int) -> dict[str, str]:
    stat = f"cache 7\ninactive_file 1\ntotal_inactive_file {inactive}\n"
    names = ("limit_in_bytes", str(limit)), ("usage_in_bytes", str(used)), ("stat", stat)
    return {f"{folder}/memory.{name}": text for name, text in names}


def test_without_a_limit_it_is_what_the_kernel_calls_available(tmp_path: Path) -> None:
    files = machine("0::/user.slice\n") | group("sys/fs/cgroup/user.slice", "max", GB, 0)
    assert free_memory(write(tmp_path, files)) == 8_000_000 * 1024


def test_a_groups_limit_counts_less_what_is_used_and_cannot_be_dropped(tmp_path: Path) -> None:
    files = machine("0::/box\n") | group("sys/fs/cgroup/box", str(4 * GB), 3 * GB, GB // 2)
    assert free_memory(write(tmp_path, files)) == GB + GB // 2


def test_the_tightest_group_on_the_way_up_counts(tmp_path: Path) -> None:
    files = machine("0::/a/b\n")
    files |= group("sys/fs/cgroup/a/b", str(4 * GB), GB, 0) | group("sys/fs/cgroup/a", str(5 * GB), 4 * GB, 0)
    assert free_memory(write(tmp_path, files)) == GB


def test_inside_a_container_the_group_lies_at_the_mount(tmp_path: Path) -> None:
    files = machine("0::/../../elsewhere\n") | group("sys/fs/cgroup", str(2 * GB), GB, 0)
    assert free_memory(write(tmp_path, files)) == GB


@pytest.mark.parametrize("folder", ["sys/fs/cgroup/memory/docker/1f0c", "sys/fs/cgroup/memory"])
def test_the_first_version_of_cgroups_is_read_too(tmp_path: Path, folder: str) -> None:
    groups = "9:name=systemd:/\n4:cpu,memory:/docker/1f0c\n1:cpuset:/\n0::/\n"
    files = machine(groups) | group_v1(folder, 3 * GB, 2 * GB, GB // 4)
    assert free_memory(write(tmp_path, files)) == GB + GB // 4


def test_the_first_versions_way_to_say_no_limit_is_none(tmp_path: Path) -> None:
    files = machine("4:memory:/\n") | group_v1("sys/fs/cgroup/memory", 9_223_372_036_854_771_712, GB, 0)
    assert free_memory(write(tmp_path, files)) == 8_000_000 * 1024


def test_more_used_than_allowed_is_nothing_left(tmp_path: Path) -> None:
    files = machine("0::/\n") | group("sys/fs/cgroup", str(GB), 2 * GB, 0)
    assert free_memory(write(tmp_path, files)) == 0


def test_where_there_is_no_such_account_nothing_is_told(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
