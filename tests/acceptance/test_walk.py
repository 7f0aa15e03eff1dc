"""Bézier walks through the queue: the same video whatever the workers and whoever is killed; a loop; the command."""

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import wait_until
from farm import Farm, open_farm
from medley import keys
from medley.batches.stored import read_result
from medley.records.base import BatchName
from medley.records.networks import WalkOptions
from medley.records.walks import WalkBatch
from medley.settings import Settings
from medley.telling import quiet
from medley_producer.local import environment
from medley_producer.submit import submit_walk

SMALL = WalkOptions(seed=3, xres=192, frames=240, step=0.02, fps=60, depth=48)
"""Five jobs of 48 frames, long enough that a worker can be killed in one; its video is some seconds long."""


def walked(farm: Farm, name: BatchName, options: WalkOptions) -> bytes:
    """The video of a walk, made by the farm's workers."""
    batch = submit_walk(farm.cluster, name, options, "bulk", quiet)
    return video_of(farm, batch)


def video_of(farm: Farm, batch: WalkBatch) -> bytes:
    storage = farm.cluster.storage
    wait_until(lambda: storage.exists(keys.finished(batch.name)), 90, f"the end of {batch.name}; {farm.told()}")
    return storage.get(keys.video(batch.name))


def frames_of(video: bytes) -> list[NDArray[np.float64]]:
    with av.open(io.BytesIO(video), "r") as container:
        return [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_video_is_the_same_of_one_and_of_three_workers_one_of_which_is_killed(
    tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    with open_farm(tmp_path / "one", redis_url, (tmp_path / "one" / "storage").as_uri()) as farm:
        farm.start_worker()
        alone = walked(farm, "walk", SMALL)
    with open_farm(tmp_path / "three", redis_url, (tmp_path / "three" / "storage").as_uri()) as farm:
        for _ in range(3):
            farm.start_worker()
        batch = submit_walk(farm.cluster, "walk", SMALL, "bulk", quiet)
        painting = lambda: farm.cluster.ledger.painting("walk", within_s=30)  # noqa: E731
        busy = wait_until(painting, 60, f"a painter; {farm.told()}")
        job, report = next(iter(busy.items()))
        host, _, pid = report.worker.partition("#")[0].rpartition("-")
        next(worker for worker in farm.workers if int(pid) == worker.parent.pid).kill()
        assert job not in farm.done(batch), f"{host} was killed too late"
        together = video_of(farm, batch)
        result = read_result(farm.cluster.storage, job)
        assert result
        assert result.worker != report.worker
    assert digest(together) == digest(alone)
    with av.open(io.BytesIO(alone), "r") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (192, 192, SMALL.frames)
        assert stream.average_rate == 60
        assert container.duration == pytest.approx(SMALL.frames / 60 * 1_000_000, rel=1e-3)


def test_a_loop_closes_and_a_walk_is_even(tmp_path: Path, redis_url: str) -> None:
    with open_farm(tmp_path, redis_url, (tmp_path / "storage").as_uri()) as farm:
        farm.start_worker()
        frames = frames_of(
            walked(farm, "round", SMALL.model_copy(update={"loop": True, "frames": 150, "crf": 10, "depth": 8}))
        )
    steps = [np.abs(after - before).mean() for before, after in zip(frames, [*frames[1:], frames[0]], strict=True)]
    assert len(frames) == 150
    assert steps[-1] < 2 * np.median(steps), "the last frame does not meet the first"
    assert np.median(steps) > 0.1, "nothing moves"


def test_the_command_makes_a_video_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "medley_producer", "walk", "--out", "walk.mp4", "--size", "48", "--frames", "60",
               "--ylim", "-0.5", "0.5", "--seed", "5", "--json"]  # fmt: skip
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment(Settings()), capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["failed"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["walk.mp4"]
    frames = frames_of((tmp_path / "walk.mp4").read_bytes())
    assert len(frames) == 60
    assert frames[0].shape == (64, 128, 3)  # enlarged, as no phone plays less than 64 px
