"""The commands for a batch that exists: how far it is, what is decided about it, and its pictures."""

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from medley.batches import control
from medley.batches.removing import remove_batch, sweep
from medley.cluster import Cluster
from medley.errors import UsageError
from medley.records.batches import AnyBatch
from medley.settings import Settings
from medley_producer.commands.printing import count, print_failures, print_overview, print_result, print_status
from medley_producer.commands.progress import if_interrupted, telling
from medley_producer.commands.requesting import batch_name
from medley_producer.connecting import connect
from medley_producer.following import follow
from medley_producer.layout import lay_out
from medley_producer.status import named_batch, overview, stored_status


def status(args: Namespace) -> int:
    """Show how far one batch is, or all of them."""
    if args.batch is None:
        if args.watch or args.failed:
            raise UsageError("--watch and --failed are about one batch; name it.")
        cluster = connect(Settings.load())
        print_overview(args, cluster, overview(cluster))
        return 0
    cluster, batch = _connected_batch(args)
    if args.watch:
        follow(cluster, batch, Console(stderr=True))
    printed = print_failures if args.failed else print_status
    printed(args, cluster, stored_status(cluster, batch))
    return 0


def pause(args: Namespace) -> int:
    """Stop a batch for now."""
    cluster, batch = _stored_batch(args)
    control.pause(cluster, batch)
    return _decided(
        args, batch, "paused", "Painters stop within seconds, and keep how far they are.",
        f"`medley resume {batch.name}` goes on with it.",
    )  # fmt: skip


def cancel(args: Namespace) -> int:
    """Stop a batch for good."""
    cluster, batch = _stored_batch(args)
    control.cancel(cluster, batch)
    return _decided(
        args, batch, "cancelled", f"Painters stop within seconds; what is done stays: `medley fetch {batch.name} DIR`.",
        f"`medley rm {batch.name}` removes it, and `medley resume {batch.name}` goes on with it after all.",
    )  # fmt: skip


def _decided(args: Namespace, batch: AnyBatch, state: str, *lines: str) -> int:
    print_result(args, {"batch": batch.name, "state": state}, f"Batch {batch.name} is {state}.", *lines)
    return 0


def resume(args: Namespace) -> int:
    """Go on with a batch."""
    cluster, batch = _connected_batch(args)
    enqueued = control.resume(cluster, batch)
    print_result(
        args,
        {"batch": batch.name, "state": "running", "enqueued": enqueued},
        f"Batch {batch.name} goes on: {count(enqueued, 'job')} enqueued now.",
        f"Follow it with `medley status {batch.name} --watch`.",
    )
    return 0


def retry(args: Namespace) -> int:
    """Try again what failed in a batch."""
    cluster, batch = _connected_batch(args)
    again = control.retry(cluster, batch, args.kind)
    lines = [f"Batch {batch.name}: {count(again, 'job')} that failed {'is' if again == 1 else 'are'} tried again."]
    if again:
        lines.append(f"Follow it with `medley status {batch.name} --watch`.")
    elif args.kind:
        lines.append(
            f"None failed as {' or '.join(args.kind)}; `medley status {batch.name} --failed` says how they did."
        )
    print_result(args, {"batch": batch.name, "retried": again}, *lines)
    return 0


def rm(args: Namespace) -> int:
    """Remove a batch, or what no batch needs."""
    if args.unused == (args.batch is not None):
        raise UsageError("`medley rm` takes either a BATCH, or --unused for what no batch needs.")
    if args.dry_run and not args.unused:
        raise UsageError("--dry-run says what --unused would remove; of a batch, `medley rm` removes everything.")
    if args.force and args.unused:
        raise UsageError("--force is for a BATCH that is running; --unused removes nothing that a batch needs.")
    return _rm_unused(args) if args.unused else _rm_batch(args)


def _rm_batch(args: Namespace) -> int:
    name = batch_name(args.batch)
    cluster = connect(Settings.load())
    with if_interrupted("Run it again to go on."), telling(Console(stderr=True)) as told:
        objects = remove_batch(cluster, name, force=args.force, told=told)
    print_result(
        args,
        {"batch": name, "state": "removed", "objects": objects},
        f"Batch {name} is removed: {count(objects, 'object')}.",
        "`medley rm --unused` frees what its pictures take, where no other batch has them.",
    )
    return 0


def _rm_unused(args: Namespace) -> int:
    cluster = connect(Settings.load())
    with if_interrupted("Run it again to go on."), telling(Console(stderr=True)) as told:
        swept = sweep(cluster, dry_run=args.dry_run, told=told)
    print_result(
        args,
        {"dry_run": args.dry_run, **asdict(swept)},
        f"{'Would remove' if args.dry_run else 'Removed'} {count(swept.objects, 'object')}: those of "
        f"{count(swept.jobs, 'job')} that no batch has, {swept.leftovers:,} that interrupted attempts at others left, "
        f"{count(swept.inputs, 'input picture')}, and {count(swept.models, 'file')} of weights.",
    )
    return 0


def fetch(args: Namespace) -> int:
    """Bring a batch's pictures to this machine."""
    cluster, batch = _connected_batch(args)
    placed = lay_out(cluster.storage, cluster.settings, batch, Path(args.out))
    state = stored_status(cluster, batch)
    print_result(
        args,
        {**state.as_json(), "out": args.out, "fetched": placed},
        f"{placed} of {batch.jobs} pictures are in {args.out}; the batch is {state.state}.",
    )
    return state.exit_code


def _connected_batch(args: Namespace) -> tuple[Cluster, AnyBatch]:
    """The batch that is named, where both services answer."""
    cluster = connect(Settings.load())
    return cluster, named_batch(cluster.storage, batch_name(args.batch))


def _stored_batch(args: Namespace) -> tuple[Cluster, AnyBatch]:
    """The batch that is named; only storage has to answer, as decisions stand there."""
    cluster = Cluster.open(Settings.load())
    cluster.storage.check()
    return cluster, named_batch(cluster.storage, batch_name(args.batch))
