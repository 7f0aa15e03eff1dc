"""Random networks: ``medley art`` makes one picture, ``medley walk`` a video, here or by the workers of a cluster."""

import hashlib
import importlib
import random
import shutil
import tempfile
import time
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from medley import keys
from medley.batches.control import require_running, retry
from medley.batches.enqueuing import enqueue_missing
from medley.batches.removing import require_no_sweep
from medley.batches.stored import read_batch, write_manifest
from medley.cluster import Cluster
from medley.errors import BatchConflict, ObjectMissing, UsageError
from medley.pieces.source import opened
from medley.records.base import BatchName, canonical_json
from medley.records.batches import QueueKind
from medley.records.jobs import ENGINE
from medley.records.networks import ArtOptions, WalkOptions
from medley.records.videos import MOST_PX
from medley.records.walks import WalkBatch, stretches
from medley.settings import Settings
from medley.telling import Told
from medley_producer.commands.controlling import exit_code
from medley_producer.commands.outputs import output_file
from medley_producer.commands.requesting import batch_name
from medley_producer.commands.telling import count, tell, tell_end, telling, told_if_interrupted
from medley_producer.following import follow
from medley_producer.local import interruptible, local_farm, local_worker, require_alive
from medley_producer.options.fields import record_from
from medley_producer.reaching import reached
from medley_producer.status import BatchStatus, stored_status
from medley_producer.submit import stand


def art(args: Namespace, settings: Settings) -> int:
    """Make one picture with a random network."""
    interruptible()
    file = output_file(args.file, ".png")
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(2**32)
    options = record_from(ArtOptions, args)
    with telling(Console(stderr=True)) as told:
        device = importlib.import_module("medley_workers.numbers.devices").choose_device(settings)
        paint = importlib.import_module("medley_workers.random_networks.art").paint
        paint(options, file, lambda done, rows: told("rendering rows", done, rows), device)
    width, height = options.size
    said = f"{args.file}: {width} x {height} px, --seed {options.seed}"
    tell(args, {"file": args.file, "seed": options.seed, "size": [width, height]}, said)
    return 0


def walk(args: Namespace, settings: Settings) -> int:
    """Make the video of a walk, here, or by the workers of a cluster."""
    options, out = walk_options(args), output_file(args.out, ".mp4") if args.out else None
    if args.batch:
        return _walk_there(args, settings, options, out)
    if not out:
        raise UsageError("--out FILE is needed, or --batch NAME, with which the workers of a cluster make the video.")
    return _walk_here(args, settings, options, out)


def walk_options(args: Namespace) -> WalkOptions:
    """The walk that is asked for, ``--size`` being its longest side.

    Raises:
        UsageError: a value is refused.
    """
    if args.size is None:
        return record_from(WalkOptions, args)
    if args.xres is not None or args.yres is not None:
        raise UsageError("--size is the longest side, and --xres and --yres are both; give either.")
    if not 1 <= args.size <= MOST_PX:
        raise UsageError(f"--size {args.size}: a video has 1 to {MOST_PX:,} px a side. `medley walk -h` explains it.")
    args.xres = args.yres = args.size
    square = record_from(WalkOptions, args)
    sides = [greatest - least for least, greatest in (square.xlim, square.y_limits)]
    args.xres, args.yres = (max(1, round(args.size * side / max(sides))) for side in sides)
    return record_from(WalkOptions, args)


def _walk_here(args: Namespace, settings: Settings, options: WalkOptions, out: Path) -> int:
    """With a worker of our own; what it left is kept beside the video until that is whole."""
    started = time.monotonic()
    console = Console(stderr=True)
    state = out.absolute().with_name(f".{out.name}.medley")
    interruptible()
    with local_farm(settings, state) as cluster:
        with telling(console) as told:
            batch = submit_walk(cluster, _name_of(options), options, "interactive", told)
        if stored_status(cluster, batch).failed:
            retry(cluster, batch)  # whoever asks for it once more wants it whole
        status = stored_status(cluster, batch)
        if not status.finished:
            with (
                told_if_interrupted(f"Run the same command again to go on; until then, {state} has what is done."),
                local_worker(cluster.settings, state / "worker.log") as worker,
            ):
                status = follow(cluster, batch, console, look=lambda: require_alive(worker))
        is_there = _fetch(cluster, status, out)
        tell_end(args, cluster, status, time.monotonic() - started, out if is_there else state)
        if not status.failed:
            shutil.rmtree(state, ignore_errors=True)
    return exit_code(status)


def _walk_there(args: Namespace, settings: Settings, options: WalkOptions, out: Path | None) -> int:
    if args.device:
        raise UsageError("--device is of this machine, and with --batch the workers render; leave it out.")
    started = time.monotonic()
    cluster, name, console = reached(settings), batch_name(args.batch), Console(stderr=True)
    with telling(console) as told:
        batch = submit_walk(cluster, name, options, "bulk", told)
    if not out:
        said = f"Walk {name}: {count(options.frames, 'frame')} in {count(batch.jobs, 'job')}."
        tell(args, {"batch": name, "jobs": batch.jobs}, said, f"Follow it with `medley status {name} --watch`.")
        return 0
    with told_if_interrupted(f"The walk goes on; `medley status {name} --watch` follows it."):
        status = follow(cluster, batch, console)
    is_there = _fetch(cluster, status, out)
    tell_end(args, cluster, status, time.monotonic() - started, out if is_there else None)
    return exit_code(status)


def submit_walk(cluster: Cluster, name: BatchName, options: WalkOptions, queue: QueueKind, told: Told) -> WalkBatch:
    """Make the batch of a walk unless it exists, and enqueue what it lacks.

    Raises:
        BatchConflict: the name belongs to another batch.
        BatchStopped: it belongs to one that is paused or cancelled.
        ServiceUnreachable, ServiceRefused: submitting again goes on from there.
    """
    batch = read_batch(cluster.storage, name) or _create(cluster, name, options, queue)
    if not isinstance(batch, WalkBatch) or batch.options != options or batch.engine != ENGINE:
        raise BatchConflict(
            f"A batch {name!r} exists, and it is not this walk. Choose another name, or repeat its arguments."
        )
    require_running(cluster.storage, name)
    enqueue_missing(cluster, batch, queue, told=told)
    return batch


def _create(cluster: Cluster, name: BatchName, options: WalkOptions, queue: QueueKind) -> object:
    with tempfile.TemporaryDirectory(prefix="medley-") as folder:
        path = Path(folder, "manifest.jsonl")
        manifest, lines, jobs = write_manifest(path, stretches(options))
        cluster.storage.put(keys.open_batch(name), b"")  # before anything that a sweep could take for unused
        require_no_sweep(cluster)
        cluster.storage.put_file(keys.manifest(name, manifest), path)
    batch = WalkBatch(
        name=name, options=options, engine=ENGINE, queue=queue, manifest=manifest, pairs=lines, jobs=jobs,
        created_at=datetime.now(UTC),
    )  # fmt: skip
    return stand(cluster, batch)


def _fetch(cluster: Cluster, status: BatchStatus, out: Path) -> bool:
    """Put the video of a walk that has ended where it was asked for; where the workers could not make it, it is made
    here. False if nothing of it was rendered.

    Raises:
        UsageError, ObjectMissing, StorageRefused: it cannot be made; what was at ``out`` stays.
    """
    batch = status.batch
    if not (status.finished and status.done):
        return False
    try:
        cluster.storage.get_file(keys.video(batch.name), out)
    except ObjectMissing:
        from medley.pieces.video import make_walk

        with opened(cluster.storage, cluster.settings, batch) as source, telling(Console(stderr=True)) as told:
            make_walk(source, out, told)
    return True


def _name_of(options: WalkOptions) -> BatchName:
    what = [options.model_dump(mode="json"), ENGINE]
    return f"walk-{hashlib.sha256(canonical_json(what)).hexdigest()[:12]}"
