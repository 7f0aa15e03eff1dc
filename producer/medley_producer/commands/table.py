"""One function per command: from its arguments to its exit code."""

import importlib
import importlib.util
import secrets
import sys
import time
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from medley.cluster import Cluster
from medley.costs import Size
from medley.errors import UsageError
from medley.logs import is_json
from medley.settings import Settings
from medley_producer import submit as submitting
from medley_producer.choosing import Choice, Pools, check_options, choose
from medley_producer.commands import walking
from medley_producer.commands.controlling import cancel, exit_code, fetch, pause, resume, retry, rm, status
from medley_producer.commands.requesting import asked_of_run, asked_of_submit
from medley_producer.commands.showing import sheet, video
from medley_producer.commands.telling import (
    tell,
    tell_dry_run,
    tell_end,
    tell_estimate,
    tell_submitted,
    telling,
    told_if_interrupted,
)
from medley_producer.estimating import cluster_estimate, estimate
from medley_producer.following import follow
from medley_producer.layout import lay_out
from medley_producer.local import interruptible, local_farm, local_worker, require_alive
from medley_producer.reaching import reached
from medley_producer.status import BatchStatus, stored_status
from medley_producer.submit import Request

__all__ = [
    "art", "cancel", "dashboard", "doctor", "fetch", "pause", "resume", "retry", "rm", "run", "samples", "sheet",
    "status", "submit", "vgg", "video", "walk", "worker",
]  # fmt: skip


def run(args: Namespace) -> int:
    """The whole pipeline on this machine: a private Redis, a worker, and a folder."""
    started = time.monotonic()
    _require_painting()
    interruptible()
    settings, out = _settings(args), Path(args.out)
    _require_gpu(settings)
    with telling(Console(stderr=True)) as told:
        request, pools = asked_of_run(args, settings, told)
    state = out.absolute() / ".medley"
    with local_farm(settings, state) as cluster:
        status = _paint_here(cluster, request, pools, out, log=state / "worker.log")
        tell_end(args, cluster, status, time.monotonic() - started, out)
    return exit_code(status)


def _paint_here(cluster: Cluster, request: Request, pools: Pools, out: Path, log: Path) -> BatchStatus:
    """Paint a request with a worker of our own; what is done is laid out, however this ends."""
    console = Console(stderr=True)

    def chosen(choice: Choice, jobs: int) -> None:
        told("trying a few steps", 0, 0)
        expected = estimate(cluster.settings, *_sizes(choice, request), request.options, jobs, vgg=request.vgg)
        tell_estimate(console, expected)

    with telling(console) as told:
        batch = submitting.submit(cluster, request, "interactive", told, pools, chosen=chosen).batch
    status = stored_status(cluster, batch)
    try:
        if not status.finished:
            with (
                told_if_interrupted(f"What is done is in {out}; run the same command again to go on."),
                local_worker(cluster.settings, log) as worker,
            ):
                status = follow(cluster, batch, console, look=lambda: require_alive(worker))
    finally:
        lay_out(cluster.storage, cluster.settings, batch, out)
    return status


def submit(args: Namespace) -> int:
    """Sample and enqueue."""
    started = time.monotonic()
    settings = Settings.load()
    request = asked_of_submit(args, settings)
    if args.dry_run:
        return _dry_run(args, settings, request)
    console = Console(stderr=True)
    cluster = reached(settings)

    def chosen(choice: Choice, jobs: int) -> None:
        size, _ = _sizes(choice, request)
        tell_estimate(console, cluster_estimate(cluster.ledger.painters(), size, request.options, jobs))

    with telling(console) as told:
        submitted = submitting.submit(cluster, request, args.queue, told, chosen=chosen)
    if not args.wait:
        tell_submitted(args, submitted)
        return 1 if submitted.batch.skipped else 0
    with told_if_interrupted(f"The batch goes on; `medley status {request.name} --watch` follows it."):
        status = follow(cluster, submitted.batch, console)
    tell_end(args, cluster, status, time.monotonic() - started)
    return exit_code(status)


def worker(args: Namespace) -> int:
    """Paint what is enqueued, until told to stop."""
    _require_painting()
    code: int = importlib.import_module("medley_workers.app").main(_settings(args), args.queues, args.name)
    return code


def art(args: Namespace) -> int:
    """Make a picture with a random network."""
    _require_painting()
    settings = _settings(args)
    _require_gpu(settings)
    return walking.art(args, settings)


def walk(args: Namespace) -> int:
    """Make the video of a walk through the pictures of a random network."""
    settings = _settings(args)
    if not args.batch:
        _require_painting()
        _require_gpu(settings)
    return walking.walk(args, settings)


def samples(args: Namespace) -> int:
    """Paint a small dataset."""
    from medley_producer.samples.dataset import paint_samples

    console = Console(stderr=True)
    with console.status("painting") as spinner:
        paths = paint_samples(
            Path(args.out), args.contents, args.styles, seed=args.seed,
            progress=lambda path: spinner.update(f"painted {path.name}"),
        )  # fmt: skip
    tell(args, {"out": args.out, "files": [str(path) for path in paths]}, *map(str, paths))
    return 0


def vgg(args: Namespace) -> int:
    """Make, look at and judge compressed weights."""
    _require_painting()
    from medley_producer.commands import vgg

    code: int = getattr(vgg, args.action)(args)
    return code


def dashboard(args: Namespace) -> int:
    """Serve the ops page, until told to stop."""
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError("The dashboard needs more than this machine has installed: pip install 'medley[dashboard]'.")
    if not 0 < args.port < 65_536:
        raise UsageError(f"There is no port {args.port}: choose one from 1 to 65535.")
    settings = Settings.load(**({"dashboard_token": args.token} if args.token else {}))
    token = None
    if args.allow_control:
        token = settings.dashboard_token or secrets.token_urlsafe(24)
        if not settings.dashboard_token:
            if is_json(settings):  # a secret that nobody chose would stand in a log
                raise UsageError("--allow-control needs a token: set MEDLEY_DASHBOARD_TOKEN.")
            print(f"The token of this dashboard, until it ends: {token}", file=sys.stderr)
    elif args.token:
        raise UsageError("--token lets nobody decide anything without --allow-control.")
    cluster = Cluster.open(settings)
    cluster.check()
    if not is_json(settings):
        host = f"[{args.host}]" if ":" in args.host else args.host
        print(f"The dashboard is to be at http://{host}:{args.port}/", file=sys.stderr)
    importlib.import_module("medley_producer.dashboard.serving").serve(cluster, args.host, args.port, token)
    return 0


def doctor(args: Namespace) -> int:
    """Say what is wrong with this set-up, and how to mend it."""
    from medley_producer.doctor import examine, tell_finding

    findings, console = [], Console()
    for finding in examine():
        findings.append(finding)
        if not args.json:
            tell_finding(console, finding)
    ok = all(finding.state != "red" for finding in findings)
    if args.json:
        tell(args, {"ok": ok, "checks": [asdict(finding) for finding in findings]})
    return 0 if ok else 1


def _settings(args: Namespace) -> Settings:
    """The settings, and of a command that paints those that it was told."""
    given = {name: getattr(args, name, None) for name in ("device", "checkpoint_every_s")}
    return Settings.load(**{name: value for name, value in given.items() if value is not None})


def _require_painting() -> None:
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("pynvml") is None:
        raise UsageError("Painting needs more than this machine has installed: pip install 'medley[worker]'.")


def _dry_run(args: Namespace, settings: Settings, request: Request) -> int:
    check_options(request.options, request.vgg.weights)
    choice = Choice(settings, request.strict)
    with telling(Console(stderr=True)) as told:
        pools = Pools.scan(request.sampling, settings, told)
        jobs = list(choose(pools, request.sampling, request.options, choice, request.vgg.weights))
    tell_dry_run(args, request.name, jobs, choice.skipped)
    return 1 if choice.skipped else 0


def _require_gpu(settings: Settings) -> None:
    if settings.device == "cuda" and not importlib.import_module("medley_workers.gpus").visible_gpus(settings):
        raise UsageError("There is no GPU here to paint on. See `nvidia-smi`, or ask for the device cpu or auto.")


def _sizes(choice: Choice, request: Request) -> tuple[Size, list[Size]]:
    """The sizes of the largest picture that was chosen, and of a pair's styles, as if each were the largest."""
    if choice.largest is None or choice.largest_style is None:
        raise ValueError("nothing was chosen, which choose() refuses")
    return choice.largest, [choice.largest_style] * request.sampling.styles_per_pair
