"""A chain of four styles through two workers, one of which is killed: in order, and whole."""

import hashlib
import io
import itertools
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from conftest import draw_picture, wait_until
from farm import open_farm
from medley import keys
from medley.records.batches import Sampling
from medley.records.options import StyleTransferOptions
from medley.records.results import Result
from medley.storage import Storage
from medley_producer.submit import Request, submit
from outcomes import transfers

STEPS = 60
"""Of each picture: long enough to be killed in."""


def picture_of(storage: Storage, result: Result, name: str) -> NDArray[np.float64]:
    """A stored picture's pixels (H, W, 3); its bytes are what the result says."""
    file = result.files[name]
    data = storage.get(file.key)
    assert hashlib.sha256(data).hexdigest() == file.sha256
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float)


def test_a_chain_whose_worker_is_killed_is_whole_and_in_order(tmp_path: Path, redis_url: str) -> None:
    photo = draw_picture(tmp_path / "data" / "photo.jpg", seed=1)
    styles = [draw_picture(tmp_path / "data" / f"paint{n}.png", seed=100 + n) for n in range(4)]
    sampling = Sampling(content=(str(photo),), styles=tuple(map(str, styles)), pairing="product", chain=True)
    options = StyleTransferOptions(size=48, num_steps=STEPS, frame_every=20)
    with open_farm(tmp_path, redis_url, (tmp_path / "storage").as_uri()) as farm:
        for _ in range(2):
            farm.start_worker()
        batch = submit(farm.cluster, Request("flow", sampling, options), "bulk", lambda *_: None).batch
        storage, ledger = farm.cluster.storage, farm.cluster.ledger
        jobs = transfers(storage, batch)

        def painter_of(number: int) -> str:
            report = ledger.painting("flow", within_s=30).get(jobs[number].id)
            return report.worker if report and 0 < report.step < STEPS // 2 else ""

        killed = wait_until(lambda: painter_of(1), 90, f"the second picture; {farm.told()}")
        pid = int(killed.partition("#")[0].rpartition("-")[2])
        next(worker for worker in farm.workers if worker.parent.pid == pid).kill()
        results = farm.await_end(batch, within_s=180)

    in_order = [results[job.id] for job in jobs]
    assert len(in_order) == batch.jobs == 4
    assert [result.init for result in in_order] == [None, *(job.id for job in jobs[:-1])]
    assert sorted(in_order, key=lambda result: result.finished_at) == in_order
    assert in_order[1].worker != killed
    begun_with = Image.open(photo).convert("RGB").resize((48, 36))
    before = np.asarray(begun_with, dtype=float)
    for result in in_order:
        first = picture_of(storage, result, "frames/000000.jpg")
        begun = np.abs(first - before).mean()  # JPEG's error alone
        before = picture_of(storage, result, "pastiche.png")
        assert begun < np.abs(first - before).mean() / 2, "it did not begin with the picture before it"
    with av.open(io.BytesIO(storage.get(keys.video("flow"))), "r") as video:
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in video.decode(video=0)]
        assert [chapter["metadata"]["title"] for chapter in video.chapters()] == [f"paint{n}" for n in range(4)]
    jumps = [np.abs(after - before).mean() for before, after in itertools.pairwise(frames)]
    assert max(jumps) < np.abs(frames[-1] - frames[0]).mean() / 2, "the flow is broken by a jump"
