"""`medley run` as a person meets it: a picture for each pair, Ctrl-C half-way, and going on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from PIL import Image

from conftest import wait_until

STOPS_WITHIN_S = 10.0


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(dataset: Path) -> Iterator[Start]:
    """Starts runs over the dataset's twelve pairs; what still runs at the end of the test is killed."""
    with ExitStack() as stack:

        def start(out: Path, *options: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "medley_producer", "run", "--json", "--size", "48", "--out", str(out)]
            command += ["--content", str(dataset / "contents"), "--styles", str(dataset / "styles"), *options]
            pipe = subprocess.PIPE
            process = stack.enter_context(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
            stack.callback(process.kill)
            return process

        yield start


def results(out: Path) -> dict[str, float]:
    """The commits in a folder's storage, and when each was written."""
    return {path.parent.name: path.stat().st_mtime for path in out.glob(".medley/storage/jobs/*/result.json")}


def processes_of(out: Path) -> list[psutil.Process]:
    """Every process that knows of the folder: workers have it in their environment, shells on their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            known = [*process.environ().values(), *process.cmdline()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(out) in text for text in known):
            found.append(process)
    return found


def test_a_run_paints_every_pair_and_lays_it_out(tmp_path: Path, start: Start) -> None:
    process = start(tmp_path / "out", "--num-steps", "2", "--frame-every", "1", "--pairs", "4")
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    told = json.loads(stdout)
    assert (told["jobs"], told["done"], told["failed"]) == (4, 4, 0)
    pictures = sorted((tmp_path / "out").glob("*--*.png"))
    assert len(pictures) == 4
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.size == (48, 36)
            assert "job" in json.loads(image.info["medley"])
        assert len(list((tmp_path / "out" / "frames" / picture.stem).iterdir())) == 3
    assert (tmp_path / "out" / "contact_sheet.jpg").exists()
    assert stderr == ""
    assert processes_of(tmp_path / "out") == []


@pytest.mark.parametrize("signal_number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_an_interrupted_run_leaves_no_process_and_goes_on(
    tmp_path: Path, start: Start, signal_number: signal.Signals
) -> None:
    out = tmp_path / "out"
    options = ("--num-steps", "20", "--pairs", "8")
    process = start(out, *options)
    wait_until(lambda: len(results(out)) >= 3, 100, "three pictures")
    interrupted_at = time.monotonic()
    process.send_signal(signal_number)
    _, stderr = process.communicate(timeout=STOPS_WITHIN_S)
    assert process.returncode == 130
    assert time.monotonic() - interrupted_at < STOPS_WITHIN_S
    assert stderr.startswith("medley: ")
    assert "Traceback" not in stderr
    wait_until(lambda: not processes_of(out), 5, "the end of all processes")
    before = results(out)
    assert 3 <= len(before) < 8
    done = list(out.glob(".medley/storage/batches/*/outcomes/*.done.json"))
    assert len(list(out.glob("*--*.png"))) == len(done) >= len(before) - 1

    again = start(out, *options)
    stdout, stderr = again.communicate(timeout=100)
    assert again.returncode == 0, stderr
    assert json.loads(stdout)["done"] == 8
    after = results(out)
    assert len(after) == 8
    assert {job: after[job] for job in before} == before, "something was painted twice"
    assert len(list(out.glob("*--*.png"))) == 8


def test_a_killed_run_leaves_no_process(tmp_path: Path, start: Start) -> None:
    out = tmp_path / "out"
    process = start(out, "--num-steps", "2000")
    wait_until(lambda: list(out.glob(".medley/worker.log")), 20, "a worker")
    wait_until(lambda: len(processes_of(out)) >= 3, 20, "its processes")
    process.kill()
    process.communicate()
    wait_until(lambda: not processes_of(out), STOPS_WITHIN_S, "the end of all processes")


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path, start: Start) -> None:
    out = tmp_path / "out"
    first = start(out, "--num-steps", "2000")
    wait_until(lambda: list(out.glob(".medley/worker.log")), 20, "a worker")
    second = start(out)
    _, stderr = second.communicate(timeout=20)
    assert second.returncode == 2
    assert "Another medley command" in stderr
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=STOPS_WITHIN_S)
    assert first.returncode == 130
