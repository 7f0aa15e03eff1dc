"""Trials in processes of their own: what painting needs is as reckoned, and how long it takes is found out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medley.costs import bytes_needed
from medley.errors import UsageError
from medley.records.options import StyleTransferOptions
from medley.records.trials import Trial, TrialRequest
from medley.settings import Settings
from medley_producer import estimating
from medley_producer.estimating import estimate

SIZE = (96, 72)
HUGE = (8_192, 8_192)

MEASURE = """
import json, sys, torch
from medley.records.options import StyleTransferOptions
from medley.records.weights import DEFAULT_WEIGHTS
from medley_workers.network.loading import load_weights
from medley_workers.numbers.losses import Objective
from medley_workers.numbers.transfer import transfer
from medley_workers.network.vgg import Network
from medley_workers.network.weights import find_weights

def row(name):
    rows = dict(line.split(":") for line in open("/proc/self/status"))
    return int(rows[name].split()[0]) * 1024

width, height = json.loads(sys.argv[1])
options = StyleTransferOptions.model_validate_json(sys.argv[2])
network = Network(load_weights(find_weights(DEFAULT_WEIGHTS)), "cpu")
before = row("VmRSS")
content, style = torch.rand(2, 1, 3, height, width).mul(80).unbind()
for _ in transfer(Objective(network, content, [style], [1.0], options), content, options):
    pass
print(row("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the most memory that a process had")
@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((256, 192), {"num_steps": 2}),
        pytest.param((448, 336), {"num_steps": 1}, marks=pytest.mark.soak),
        ((256, 192), {"num_steps": 12, "content_layers": ["block2_relu2"], "style_layers": ["block2_relu1"]}),
    ],
)
def test_painting_takes_the_memory_that_was_reckoned(size: tuple[int, int], options: dict[str, Any]) -> None:
    asked = StyleTransferOptions.model_validate(options)
    command = [sys.executable, "-c", MEASURE, json.dumps(size), asked.json_bytes().decode()]
    measured = int(subprocess.run(command, capture_output=True, check=True, timeout=200).stdout)
    assert 0.8 < bytes_needed(size, [size], asked) / measured < 1.65  # a checkpoint is reckoned, and not made here


def ask(request: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medley_workers.trial"], input=request, env=os.environ | environment,
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def request(size: tuple[int, int], **options: Any) -> str:
    asked = StyleTransferOptions.model_validate(options)
    return TrialRequest(size=size, style_sizes=(size,), options=asked, jobs=9).json_bytes().decode()


def test_a_trial_tells_what_a_step_takes_and_what_there_is_room_for() -> None:
    ended = ask(request(SIZE), MEDLEY_DEVICE="cpu", MEDLEY_PROCESSES="2")
    assert ended.returncode == 0, ended.stderr
    trial = Trial.from_json(ended.stdout)
    assert (trial.device, trial.painters) == ("cpu", 2)
    assert trial.step_s is not None
    assert 0.001 < trial.step_s < 10
    assert trial.problem is None


def test_what_is_no_request_is_refused_in_a_sentence() -> None:
    ended = ask('{"size": [0, 5]}')
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("Not a valid TrialRequest: size.0:")
    assert len(ended.stderr.splitlines()) == 1


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures are tried, too."""
    monkeypatch.setattr(estimating, "SMALL_PIXEL_STEPS", 0)


@pytest.mark.usefixtures("tried")
def test_the_time_is_told_before_the_start() -> None:
    told = estimate(Settings(device="cpu"), SIZE, [SIZE], StyleTransferOptions(num_steps=1_000), jobs=12)
    assert told is not None
    assert told.sentence.startswith("12 pictures of up to 96 x 72 px, 1000 steps each: about ")
    assert told.sentence.endswith(" s a step on cpu)")
    assert told.seconds is not None
    assert told.seconds > 12


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory is free")
def test_a_picture_that_this_machine_has_no_room_for_is_refused_with_one_that_it_has() -> None:
    with pytest.raises(UsageError, match=r"8192 x 8192 px needs about 2\d\d\.\d GB .*; --size \d+ would fit"):
        estimate(Settings(device="cpu"), HUGE, [HUGE], StyleTransferOptions(), jobs=1)


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("echo 'The network is not here.' >&2; exit 2", "The network is not here."),
        ("kill -KILL $$", "It ended with code -9."),
        ("exec sleep 60", "It took more than 1 s."),
        ("echo '{}'", "Not a valid Trial"),
    ],
)
def test_a_trial_that_fails_is_told_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(estimating, "TRIAL_WITHIN_S", 1.0)
    told = estimate(Settings(), SIZE, [SIZE], StyleTransferOptions(), jobs=1)
    assert told is not None
    assert told.seconds is None
    assert f"as a trial failed: {reason}" in told.sentence
