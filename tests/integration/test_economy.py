"""Where memory does not suffice, a picture is painted once more, with less to remember, and never smaller."""

import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

import studio as studio_module
from conftest import wait_until
from medley.costs import HISTORY, LEAST_HISTORY, bytes_needed
from medley.errors import OutOfMemory
from medley_workers.numbers import devices
from medley_workers.numbers.transfer import Step
from studio import Easel


def leave_room(easel: Easel, monkeypatch: pytest.MonkeyPatch, *, wanted: int, less: int = 0) -> None:
    """Let only so much memory be free as painting needs with a history of ``wanted`` pairs."""
    size = (48, 36)
    free = bytes_needed(size, [size], easel.options, wanted) - less
    monkeypatch.setattr(devices, "free_memory", lambda: free)


def test_where_memory_is_short_less_is_remembered_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    easel = Easel(tmp_path, num_steps=30, frame_every=10)
    leave_room(easel, monkeypatch, wanted=HISTORY)
    assert easel.undisturbed().economy == ""
    leave_room(easel, monkeypatch, wanted=LEAST_HISTORY)
    result = easel.paint()
    assert result.economy == "L-BFGS remembers 10 pairs of vectors instead of 60"
    assert result.size == (48, 36)
    assert result.losses[-1][0] == 30
    (told,) = caplog.messages
    assert told.startswith(f"1.png x 2.png is painted once more ({result.economy}): 48 x 36 px needs about")
    easel.assert_whole(result)


def test_what_is_gone_on_with_says_what_was_spared_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    easel = Easel(tmp_path, num_steps=30)
    with monkeypatch.context() as short:
        leave_room(easel, short, wanted=LEAST_HISTORY)
        easel.stop_at(15)
    assert "10 pairs" in easel.paint().economy


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, {"num_steps": 10}])
def test_where_nothing_more_can_be_spared_it_is_said_what_would_fit(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    easel = Easel(tmp_path, **{"num_steps": 30, **options})
    leave_room(easel, monkeypatch, wanted=LEAST_HISTORY, less=1)
    with pytest.raises(OutOfMemory, match=r"^48 x 36 px needs about .* --size \d+ would fit"):
        easel.paint()
    assert len(caplog.messages) == (not options), "it is tried again only where that is cheaper"
    assert easel.files() == []


def test_what_the_first_try_held_is_free_for_the_second(tmp_path: Path) -> None:
    easel = Easel(tmp_path, precision="exact", num_steps=20, frame_every=2)
    held: list[weakref.ref[object]] = []
    alive: list[bool] = []

    def look(step: Step, _: float | None) -> None:
        if not held and step.index == 15:
            held.append(weakref.ref(step.optimizer_state))  # which has the canvas and the optimiser
            assert held[0]() is not None
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if held:
            alive.append(held[0]() is not None)

    result = easel.paint(look)
    assert len(alive) == 21, "it begins anew"
    assert not any(alive)
    assert result.resumed_at == ()
    easel.assert_whole(result)


def test_the_second_try_goes_on_with_the_checkpoint_of_the_first(tmp_path: Path) -> None:
    easel = Easel(tmp_path, precision="exact", num_steps=20, frame_every=2)
    seen: list[int] = []

    def look(step: Step, _: float | None) -> None:
        if step.index == 15 and 15 not in seen:
            wait_until(lambda: easel.checkpoint in easel.files(), 10.0, "no checkpoint is stored")
            seen.append(15)
            raise MemoryError

    result = easel.paint(look, checkpoint_every_s=0.001)
    assert 0 < result.resumed_at[0] < 15
    assert result.economy
    assert result.frames == tuple(range(0, 21, 2))


PAINT_IN_LITTLE_MEMORY = """
import logging, resource, sys
from pathlib import Path
from studio import Easel

def row(name):
    return int(dict(line.split(":") for line in open("/proc/self/status"))[name].split()[0]) * 1024

logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
layers = {"content_layers": (), "style_layers": ("block1_relu1",)}
easel = Easel(Path(sys.argv[1]), precision="exact", size=256, num_steps=120, **layers)
limits = []

def look(step, _):
    if step.index == 12 and not limits:  # all that does not grow was there; a hundred pairs are 118 MB
        limits.append(row("VmPeak") + 60_000_000)
        resource.setrlimit(resource.RLIMIT_AS, (limits[0], limits[0]))

result = easel.paint(look)
print(result.steps, result.size, result.economy)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory a process has")
def test_a_history_that_outgrows_the_memory_is_painted_without(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(studio_module.__file__).parent)}
    command = [sys.executable, "-c", PAINT_IN_LITTLE_MEMORY, str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (
        "is painted once more (L-BFGS remembers 10 pairs of vectors instead of 100): No memory is left" in ended.stdout
    )
    assert ended.stdout.endswith("120 (256, 192) L-BFGS remembers 10 pairs of vectors instead of 100\n")
