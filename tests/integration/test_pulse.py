"""The thread beside a painter: it greets, survives a bad beat, and ends what hangs or keeps another time."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import wait_until
from medley.broker.ledger import Ledger
from medley.broker.roster import Painter
from medley.cluster import Cluster
from medley.settings import Settings
from medley_workers.pulse import Pulse

ME = Painter(name="w#0", version="1", engine=2, device="cpu", model_loads=1, jobs=2)


@pytest.fixture
def cluster(tmp_path: Path, redis_url: str) -> Cluster:
    storage_url = (tmp_path / "storage").as_uri()
    return Cluster.open(Settings(redis_url=redis_url, storage_url=storage_url, lease_renew_s=0.05, stall_s=5))


def pulse_of(
    cluster: Cluster, describe: Callable[[], Painter] = lambda: ME, *, speaks_for_worker: bool = True
) -> Pulse:
    return Pulse(cluster, describe, speaks_for_worker=speaks_for_worker)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # how the thread is ended here
def test_a_bad_beat_is_not_the_last(cluster: Cluster) -> None:
    beats = 0

    def describe() -> Painter:
        nonlocal beats
        beats += 1
        if beats != 2:
            raise ZeroDivisionError if beats == 1 else SystemExit  # the latter ends the thread
        return ME

    pulse = pulse_of(cluster, describe)
    pulse.start()
    pulse.join(10)
    assert beats == 3
    assert cluster.ledger.painters() == [ME]


@pytest.mark.parametrize(("skew_s", "told"), [(4.9, 0), (5.1, 1), (-5.1, 1)])
def test_a_worker_with_another_time_is_told_to_stop_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, skew_s: float, told: int
) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    monkeypatch.setattr(Ledger, "clock_skew_s", lambda _: skew_s)
    for pulse in (pulse_of(cluster), pulse_of(cluster, speaks_for_worker=False)):
        pulse.beat()
        pulse.beat()
    assert killed == [(os.getppid(), signal.SIGTERM)] * told


def test_a_painter_that_hangs_ends(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    pulse = pulse_of(cluster)
    with pulse.holding("a delivery"):
        pulse.beat()
        hung_since = time.monotonic() - cluster.settings.stall_s
        monkeypatch.setattr(pulse, "_advanced_at", hung_since)
        with pytest.raises(SystemExit):
            pulse.beat()
        pulse.advance()
        pulse.beat()


def test_a_worker_that_says_farewell_is_gone_and_one_that_says_nothing_is_silent(cluster: Cluster) -> None:
    ledger, others = cluster.ledger, ("w#1", "w-2#0", "w*#0")
    for name in (ME.name, *others):
        ledger.greet(ME.model_copy(update={"name": name}))
    ledger.farewell("w")
    assert [painter.name for painter in ledger.painters()] == ["w*#0", "w-2#0"]
    ledger.farewell("w*")
    assert [painter.name for painter in ledger.painters()] == ["w-2#0"]
    wait_until(lambda: not ledger.painters(), 10, "that it is silent")
    ((silent, silent_s),) = ledger.painters_heard()
    assert silent.name == "w-2#0"
    assert silent_s > ledger.silent_after_s
