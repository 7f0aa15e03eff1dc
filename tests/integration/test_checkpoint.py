"""A painting that was stopped is gone on with, by another attempt, with the real network and storage in a folder."""

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import wait_until
from farm import open_farm
from medley import keys
from medley.errors import StorageRefused
from medley.records.results import Result
from medley_workers.numbers.transfer import Step
from outcomes import transfers
from studio import LAYERS, Easel, open_studio, paint_job, token

TAKEN_OVER_WITHIN_S = 60.0

AS_GOOD = {"exact": 1.02, "fast": 1.06}
"""How much higher the loss may end than that of a painting that nobody stopped: the optimiser of the fast path begins
anew where it is gone on with."""


@pytest.mark.parametrize(
    ("stopped_at", "options"),
    [
        pytest.param(45, {"precision": "exact"}, marks=pytest.mark.soak),
        (135, {"precision": "exact", "frame_every": 50}),
        (70, {"init": "noise", "frame_every": 7}),
        (100, {"preserve_color": "luminance", "frame_every": 50}),
        pytest.param(20, {"preserve_color": "linalg"}, marks=pytest.mark.soak),
        (3, {"optimizer": "adam", "preserve_color": "luminance"}),
        pytest.param(150, {"optimizer": "adam", "init": "noise", "frame_every": 50}, marks=pytest.mark.soak),
    ],
)
def test_another_attempt_goes_on_and_ends_as_if_nobody_had_stopped_it(
    stopped_at: int, options: dict[str, Any], tmp_path: Path
) -> None:
    """At so many steps that the loss hardly falls any more; before, L-BFGS ends 10 % elsewhere for a millionth of
    difference in its start.
    """
    easel = Easel(tmp_path, num_steps=150, **options)
    undisturbed = easel.undisturbed()
    easel.stop_at(stopped_at)
    first = {token(key) for key in easel.files() if key != easel.checkpoint}
    assert easel.checkpoint in easel.files()
    seen: list[int] = []
    result = easel.paint(lambda step, _: seen.append(step.index))
    assert seen == list(range(stopped_at, 151))
    assert result.resumed_at == (stopped_at,)
    print(f"{options} at {stopped_at}: loss {result.loss / undisturbed.loss - 1:+.2%}")
    assert result.loss < undisturbed.loss * AS_GOOD[easel.options.precision]
    assert result.frames == undisturbed.frames
    assert result.files.keys() == undisturbed.files.keys()
    looked_at = [step for step, _ in result.losses]
    assert looked_at == sorted(set(looked_at))
    assert (looked_at[0], looked_at[-1]) == (0, 150)
    assert {token(result.files[name].key) for name in frames(result, stopped_at)} == first
    easel.assert_whole(result)


def frames(result: Result, until: int) -> list[str]:
    return [f"frames/{step:06d}.jpg" for step in result.frames if step <= until]


@pytest.mark.parametrize(("stopped_at", "options"), [(7, {"optimizer": "adam"}), (4, {"precision": "exact"})])
def test_nothing_differs_where_all_that_the_optimiser_remembered_was_kept(
    stopped_at: int, options: dict[str, Any], tmp_path: Path
) -> None:
    easel = Easel(tmp_path, deterministic=True, **options)
    undisturbed = easel.undisturbed()
    easel.stop_at(stopped_at)
    assert easel.paint().files["pastiche.png"].sha256 == undisturbed.files["pastiche.png"].sha256


def test_a_painting_may_be_stopped_often(tmp_path: Path) -> None:
    easel = Easel(tmp_path, frame_every=2)
    for step in (3, 4, 9):
        easel.stop_at(step)
    result = easel.paint()
    assert result.resumed_at == (3, 4, 9)
    assert result.frames == (0, 2, 4, 6, 8, 10, 12)
    assert len({token(file.key) for file in result.files.values()}) == 4
    easel.assert_whole(result)


def test_a_painting_that_was_stopped_after_its_last_step_needs_no_other(tmp_path: Path) -> None:
    easel = Easel(tmp_path, frame_every=4)
    easel.stop_at(12)
    result = easel.paint()
    assert result.steps == 12
    assert result.losses[-1] == (12, result.loss)
    easel.assert_whole(result)


def test_what_made_no_step_leaves_what_there_was(tmp_path: Path) -> None:
    easel = Easel(tmp_path, frame_every=2)
    easel.stop_at(0)
    assert easel.files() == []
    easel.stop_at(5)
    kept = easel.files()
    easel.stop_at(5)
    assert easel.files() == kept
    assert easel.paint().resumed_at == (5,)


def test_what_nobody_wants_to_go_on_with_leaves_nothing(tmp_path: Path) -> None:
    easel = Easel(tmp_path, frame_every=2)
    easel.stop_at(5, worth_keeping=False)
    assert easel.files() == []


def test_a_painting_that_takes_long_is_kept_on_the_way_and_outlives_its_worker(tmp_path: Path) -> None:
    easel = Easel(tmp_path, frame_every=2)

    def look(step: Step, _: float | None) -> None:
        if step.index == 9:
            wait_until(lambda: easel.checkpoint in easel.files(), 10.0, "no checkpoint is stored")
            raise SystemExit  # as when it is killed

    with pytest.raises(SystemExit):
        easel.paint(look, checkpoint_every_s=0.001)
    result = easel.paint()
    assert result.frames == (0, 2, 4, 6, 8, 10, 12)
    (went_on_at,) = result.resumed_at
    assert 0 < went_on_at < 9
    assert easel.checkpoint not in easel.files()


def test_a_painting_that_is_done_in_time_has_no_checkpoint(tmp_path: Path) -> None:
    easel = Easel(tmp_path)

    def look(*_: object) -> None:
        assert easel.checkpoint not in easel.files()

    assert easel.paint(look).resumed_at == ()


def test_that_no_checkpoint_can_be_stored_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    easel = Easel(tmp_path, frame_every=4)
    easel.storage.at = "checkpoint.safetensors"
    easel.stop_at(6)
    assert "is not kept as a checkpoint: The disk is full." in caplog.text
    easel.storage.at = None
    assert easel.paint().resumed_at == (6,), "it was refused, and stands all the same"
    easel = Easel(tmp_path / "other")
    easel.storage.at = "checkpoint.safetensors"
    assert easel.paint(checkpoint_every_s=0.001).steps == 12


def test_that_a_checkpoint_cannot_be_removed_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    easel = Easel(tmp_path)
    easel.stop_at(6)
    easel.storage.deletes = False
    assert easel.paint().steps == 12
    assert "may be deleted" in caplog.text


@pytest.mark.parametrize("error", [ZeroDivisionError("Never."), StorageRefused("The disk is full.")])
def test_an_attempt_that_fails_leaves_what_its_checkpoint_names(error: Exception, tmp_path: Path) -> None:
    easel = Easel(tmp_path, frame_every=2)

    def look(step: Step, _: float | None) -> None:
        if step.index == 5:
            wait_until(lambda: easel.checkpoint in easel.files(), 10.0, "no checkpoint is stored")
            easel.storage.at = "checkpoint.safetensors"  # for what follows, the door is shut
        if step.index == 11:
            raise error

    with pytest.raises(type(error)):
        easel.paint(look, checkpoint_every_s=0.001)
    easel.storage.at = None
    result = easel.paint()
    assert result.frames == (0, 2, 4, 6, 8, 10, 12)
    for file in result.files.values():
        assert hashlib.sha256(easel.storage.get(file.key)).hexdigest() == file.sha256


def test_a_checkpoint_names_no_frame_that_was_refused(tmp_path: Path) -> None:
    easel = Easel(tmp_path, frame_every=2)
    easel.storage.at = "frames/000004.jpg"
    easel.stop_at(4)
    assert easel.files() == []


def test_a_twin_may_go_on_with_the_checkpoint_of_one_that_is_at_work(tmp_path: Path) -> None:
    easel = Easel(tmp_path, frame_every=2)
    sooner: list[Result] = []

    def look(step: Step, _: float | None) -> None:
        if step.index == 8:
            wait_until(lambda: easel.checkpoint in easel.files(), 10.0, "no checkpoint is stored")
            sooner.append(easel.paint())
            assert easel.checkpoint not in easel.files()

    result = easel.paint(look, checkpoint_every_s=0.001)
    assert sooner == [result]
    assert len(result.resumed_at) == 1
    assert easel.checkpoint not in easel.files()
    for file in result.files.values():
        assert hashlib.sha256(easel.storage.get(file.key)).hexdigest() == file.sha256


def test_another_worker_goes_on_where_one_was_told_to_stop(tmp_path: Path, redis_url: str, dataset: Path) -> None:
    with open_farm(tmp_path, redis_url, (tmp_path / "storage").as_uri(), grace_s=20.0) as farm:
        stopped = farm.start_worker()
        batch = farm.submit("long", dataset, pairs=1, num_steps=300, frame_every=100, **LAYERS)

        def step() -> int:
            return max((report.step for report in farm.cluster.ledger.painting(batch.name, 60).values()), default=0)

        wait_until(lambda: step() > 30, 60, f"the first steps; {farm.told()}")
        stopped.parent.terminate()
        told_at, reached = time.monotonic(), step()
        farm.start_worker()
        wait_until(lambda: "is gone on with at step" in farm.told(), TAKEN_OVER_WITHIN_S, f"another; {farm.told()}")
        print(f"gone on with {time.monotonic() - told_at:.1f} s after SIGTERM, by a worker that started then")
        (result,) = farm.await_end(batch).values()
        (job,) = transfers(farm.cluster.storage, batch)
        farm.cluster.storage.delete(keys.result(job.id))
        undisturbed = paint_job(job, batch, open_studio(tmp_path / "storage"), lambda *_: None)
    assert len(result.resumed_at) == 1
    assert result.resumed_at[0] >= reached
    assert result.frames == (0, 100, 200, 300)
    print(f"stopped at step {result.resumed_at[0]}: loss {result.loss / undisturbed.loss - 1:+.2%}")
    assert result.loss < undisturbed.loss * AS_GOOD[batch.options.precision]
