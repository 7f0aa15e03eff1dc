"""A batch that has ended as batches end, painted in this process by the real network; without workers or a queue."""

from pathlib import Path
from typing import Any

from medley.batches.ending import finish_batch
from medley.batches.stored import read_manifest, write_outcome
from medley.cluster import Cluster
from medley.records.batches import Batch, Sampling
from medley.records.networks import WalkOptions
from medley.records.options import StyleTransferOptions
from medley.records.walks import Walk, WalkBatch
from medley.storage import Storage
from medley.telling import quiet
from medley_producer.submit import Request, submit, submit_walk
from medley_workers.jobs.scene import Studio
from medley_workers.jobs.walking import Gear, render_stretch
from outcomes import an_outcome, transfers
from studio import LAYERS, network, paint_job


def paint_batch(cluster: Cluster, sampling: Sampling, name: str = "b", fail: int = 0, **options: Any) -> Batch:
    """Paint the pairs of a sampling, but for the last ``fail`` of them, and end the batch."""
    chosen = StyleTransferOptions(**({"size": 64, "num_steps": 4, "frame_every": 2} | LAYERS | options))
    batch = submit(cluster, Request(name, sampling, chosen), "bulk", quiet).batch
    jobs = transfers(cluster.storage, batch)
    studio = Studio(cluster.settings, cluster.storage, network(), "painter")
    for number, job in enumerate(jobs):
        failed = number >= len(jobs) - fail
        if not failed:
            paint_job(job, batch, studio, lambda *_: None)
        write_outcome(cluster.storage, an_outcome(batch, job, "image" if failed else "painted"))
    assert finish_batch(cluster, name, lambda: None)
    return batch


def render_walk(cluster: Cluster, options: WalkOptions, name: str = "w") -> WalkBatch:
    """Render a walk, and end its batch."""
    batch = submit_walk(cluster, name, options, "bulk", quiet)
    gear = Gear(cluster.settings, cluster.storage, network().device, "painter")
    for job in read_manifest(cluster.storage, batch):
        assert isinstance(job, Walk)
        render_stretch(job, batch, gear, lambda _: None)
        write_outcome(cluster.storage, an_outcome(batch, job))
    assert finish_batch(cluster, name, lambda: None)
    return batch


def all_pairs(dataset: Path, contents: int = 2, styles: int = 3, **more: Any) -> Sampling:
    """Every pair of so many of the dataset's pictures."""
    photos = tuple(str(dataset / "contents" / f"photo{n}.jpg") for n in range(contents))
    paintings = tuple(str(dataset / "styles" / f"paint{n}.png") for n in range(styles))
    return Sampling(content=photos, styles=paintings, pairing="product", sample_seed="x", **more)


def copy_all(source: Storage, target: Storage) -> None:
    """Put everything of one storage into another."""
    for key in source.list():
        target.put(key, source.get(key))
