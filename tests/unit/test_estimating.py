"""What is said of a batch before it starts, without a trial."""

import sys

import pytest

from medley.broker.roster import Painter
from medley.records.jobs import ENGINE
from medley.records.options import StyleTransferOptions
from medley.settings import Settings
from medley_producer.estimating import cluster_estimate, estimate

SIZE = (500, 400)
OPTIONS = StyleTransferOptions(num_steps=100)


def painter(speed: float | None, engine: int = ENGINE) -> Painter:
    return Painter(name="a", version="1", engine=engine, device="cpu", pixel_steps_s=speed, model_loads=1, jobs=1)


def test_a_cluster_takes_as_long_as_its_painters_say() -> None:
    painters = [painter(1e6), painter(3e6), painter(9e6, engine=ENGINE + 1)]
    told = cluster_estimate(painters, SIZE, OPTIONS, jobs=60)
    assert told is not None
    assert told.seconds == 300
    assert told.sentence == (
        "60 pictures of up to 500 x 400 px, 100 steps each: about 5 min with the 2 painting processes up, "
        "if nothing else waits"
    )


def test_a_painter_that_has_painted_nothing_yet_is_taken_for_an_average_one() -> None:
    told = cluster_estimate([painter(1e6), painter(None)], SIZE, OPTIONS, jobs=1)
    assert told is not None
    assert told.seconds == 10


@pytest.mark.parametrize("painters", [[], [painter(None)], [painter(0.0)]])
def test_nothing_is_said_of_a_cluster_that_has_told_no_speed(painters: list[Painter]) -> None:
    assert cluster_estimate(painters, SIZE, OPTIONS, jobs=1) is None


def test_a_small_batch_is_begun_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nothing/there")
    assert estimate(Settings(), (96, 72), [(96, 72)], StyleTransferOptions(num_steps=5), jobs=3) is None


@pytest.mark.parametrize(
    ("jobs", "said"), [(1, "20 s"), (6, "2 min"), (60, "20 min"), (600, "3.3 h"), (60_000, "14 days")]
)
def test_a_time_is_said_in_the_unit_that_people_would_use(jobs: int, said: str) -> None:
    told = cluster_estimate([painter(1e6)], SIZE, OPTIONS, jobs)
    assert told is not None
    assert f"about {said} with the painting process that is up" in told.sentence
