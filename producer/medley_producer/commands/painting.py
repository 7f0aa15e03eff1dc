"""The commands that paint pairs: all on this machine, by the workers of a cluster, and as one of those."""

import time
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from medley.cluster import Cluster
from medley.settings import Settings
from medley_producer import submit as submitting
from medley_producer.choosing import Choice, Pools, check_options, choose
from medley_producer.commands.checks import painting_settings, require_painting, settings_to_paint_here
from medley_producer.commands.printing import print_dry_run, print_end, print_estimate, print_submitted
from medley_producer.commands.progress import if_interrupted, telling
from medley_producer.commands.requesting import request_of_run, request_of_submit
from medley_producer.connecting import connect
from medley_producer.estimating import cluster_estimate, estimate
from medley_producer.extras import workers_module
from medley_producer.following import follow
from medley_producer.layout import lay_out
from medley_producer.local import interruptible, local_farm, paint_here
from medley_producer.status import BatchStatus
from medley_producer.submit import Request


def run(args: Namespace) -> int:
    """The whole pipeline on this machine: a private Redis, a worker, and a folder."""
    started = time.monotonic()
    interruptible()
    settings, out = settings_to_paint_here(args), Path(args.out)
    with telling(Console(stderr=True)) as told:
        request, pools = request_of_run(args, settings, told)
    state = out.absolute() / ".medley"
    with local_farm(settings, state) as cluster:
        status = _run(cluster, request, pools, out, log=state / "worker.log")
        print_end(args, cluster, status, time.monotonic() - started, out)
    return status.exit_code


def _run(cluster: Cluster, request: Request, pools: Pools, out: Path, log: Path) -> BatchStatus:
    """Paint a request with a worker of our own; what is done is laid out, however this ends."""
    console = Console(stderr=True)

    def chosen(choice: Choice, jobs: int) -> None:
        told("trying a few steps", 0, 0)
        styles = [choice.largest_style] * request.sampling.styles_per_pair
        expected = estimate(cluster.settings, choice.largest, styles, request.options, jobs, vgg=request.vgg)
        print_estimate(console, expected)

    with telling(console) as told:
        batch = submitting.submit(cluster, request, "interactive", told, pools, chosen=chosen).batch
    try:
        with if_interrupted(f"What is done is in {out}; run the same command again to go on."):
            return paint_here(cluster, batch, log, console)
    finally:
        lay_out(cluster.storage, cluster.settings, batch, out)


def submit(args: Namespace) -> int:
    """Sample and enqueue."""
    started = time.monotonic()
    settings = Settings.load()
    request = request_of_submit(args, settings)
    if args.dry_run:
        return _dry_run(args, settings, request)
    console = Console(stderr=True)
    cluster = connect(settings)

    def chosen(choice: Choice, jobs: int) -> None:
        print_estimate(console, cluster_estimate(cluster.ledger.painters(), choice.largest, request.options, jobs))

    with telling(console) as told:
        submitted = submitting.submit(cluster, request, args.queue, told, chosen=chosen)
    if not args.wait:
        print_submitted(args, submitted)
        return 1 if submitted.batch.skipped else 0
    with if_interrupted(f"The batch goes on; `medley status {request.name} --watch` follows it."):
        status = follow(cluster, submitted.batch, console)
    print_end(args, cluster, status, time.monotonic() - started)
    return status.exit_code


def _dry_run(args: Namespace, settings: Settings, request: Request) -> int:
    check_options(request.options, request.vgg.weights)
    choice = Choice(settings, request.strict)
    with telling(Console(stderr=True)) as told:
        pools = Pools.scan(request.sampling, settings, told)
        jobs = list(choose(pools, request.sampling, request.options, choice, request.vgg.weights))
    print_dry_run(args, request.name, jobs, choice.skipped)
    return 1 if choice.skipped else 0


def worker(args: Namespace) -> int:
    """Paint what is enqueued, until told to stop."""
    require_painting()
    code: int = workers_module("app").main(painting_settings(args), args.queues, args.name)
    return code
