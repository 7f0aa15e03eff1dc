"""The commands of random networks: ``art`` makes one picture, ``walk`` a video, here or by the workers of a cluster."""

import random
import shutil
import time
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from medley import keys
from medley.batches.control import retry
from medley.cluster import Cluster
from medley.errors import ObjectMissing, UsageError
from medley.pieces.source import opened
from medley.records.jobs import ENGINE
from medley.records.networks import ArtOptions, WalkOptions
from medley.records.videos import MOST_VIDEO_PX
from medley.settings import Settings
from medley_producer.commands.checks import output_file, settings_to_paint_here
from medley_producer.commands.printing import count, print_end, print_result
from medley_producer.commands.progress import if_interrupted, telling
from medley_producer.commands.requesting import batch_name, short_digest
from medley_producer.connecting import connect
from medley_producer.extras import workers_module
from medley_producer.following import follow
from medley_producer.local import interruptible, local_farm, paint_here
from medley_producer.options.fields import record_from
from medley_producer.status import BatchStatus, stored_status
from medley_producer.submit import submit_walk


def art(args: Namespace) -> int:
    """Make one picture with a random network."""
    interruptible()
    settings = settings_to_paint_here(args)
    file = output_file(args.file, ".png")
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(2**32)
    options = record_from(ArtOptions, args)
    with telling(Console(stderr=True)) as told:
        device = workers_module("numbers.devices").choose_device(settings)
        render_png = workers_module("random_networks.art").render_png
        render_png(options, file, lambda done, rows: told("rendering rows", done, rows), device)
    width, height = options.size
    said = f"{args.file}: {width} x {height} px, --seed {options.seed}"
    print_result(args, {"file": args.file, "seed": options.seed, "size": [width, height]}, said)
    return 0


def walk(args: Namespace) -> int:
    """Make the video of a walk, here, or by the workers of a cluster."""
    settings = Settings.load() if args.batch else settings_to_paint_here(args)
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
    if not 1 <= args.size <= MOST_VIDEO_PX:
        raise UsageError(
            f"--size {args.size}: a video has 1 to {MOST_VIDEO_PX:,} px a side. `medley walk -h` explains it."
        )
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
    name = f"walk-{short_digest([options.model_dump(mode='json'), ENGINE])}"
    interruptible()
    with local_farm(settings, state) as cluster:
        with telling(console) as told:
            batch = submit_walk(cluster, name, options, "interactive", told)
        if stored_status(cluster, batch).failed:
            retry(cluster, batch)  # whoever asks for it once more wants it whole
        with if_interrupted(f"Run the same command again to go on; until then, {state} has what is done."):
            status = paint_here(cluster, batch, state / "worker.log", console)
        is_there = _fetch(cluster, status, out)
        print_end(args, cluster, status, time.monotonic() - started, out if is_there else state)
        if not status.failed:
            shutil.rmtree(state, ignore_errors=True)
    return status.exit_code


def _walk_there(args: Namespace, settings: Settings, options: WalkOptions, out: Path | None) -> int:
    if args.device:
        raise UsageError("--device is of this machine, and with --batch the workers render; leave it out.")
    started = time.monotonic()
    cluster, name, console = connect(settings), batch_name(args.batch), Console(stderr=True)
    with telling(console) as told:
        batch = submit_walk(cluster, name, options, "bulk", told)
    if not out:
        said = f"Walk {name}: {count(options.frames, 'frame')} in {count(batch.jobs, 'job')}."
        print_result(args, {"batch": name, "jobs": batch.jobs}, said, f"Follow it with `medley status {name} --watch`.")
        return 0
    with if_interrupted(f"The walk goes on; `medley status {name} --watch` follows it."):
        status = follow(cluster, batch, console)
    is_there = _fetch(cluster, status, out)
    print_end(args, cluster, status, time.monotonic() - started, out if is_there else None)
    return status.exit_code


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

        with telling(Console(stderr=True)) as told, opened(cluster.storage, cluster.settings, batch, told) as source:
            make_walk(source, out)
    return True
