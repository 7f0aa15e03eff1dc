"""What commands print: results on stdout, as text or as one JSON object; progress on stderr, where a person watches."""

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from medley import keys
from medley.cluster import Cluster
from medley.errors import ObjectMissing
from medley.jobs import Skipped, StyleTransfer
from medley.media.images import shown
from medley_producer.estimating import Estimate
from medley_producer.layout import title, titles
from medley_producer.status import BatchStatus, Overview
from medley_producer.submit import Submitted, Told

SHOWN = 20
"""Lines of a list that a person reads at once."""


def tell(args: Namespace, data: dict[str, Any], *lines: str) -> None:
    """Print the result of a command."""
    print(json.dumps(data) if args.json else "\n".join(lines))


@contextmanager
def telling(console: Console) -> Iterator[Told]:
    """A line of progress on a terminal, with a bar and the time that is left where work is counted; else nothing."""
    if not console.is_terminal:
        yield lambda *_: None
        return
    # Rates are means of ten minutes, as one step of some work takes a minute.
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(24), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, speed_estimate_period=600) as progress:
        yield partial(_show, progress)


def _show(progress: Progress, what: str, done: int, total: int) -> None:
    """Draw the one line; other work begins its time anew."""
    if [task.fields["work"] for task in progress.tasks] != [(what, total)]:
        for task in progress.task_ids:
            progress.remove_task(task)
        progress.add_task(what, total=total or None, work=(what, total))
    progress.update(progress.task_ids[0], description=f"{what}{_so_far(done, total)}", completed=done)


def _so_far(done: int, total: int) -> str:
    return f" {done:,} of {total:,}" if total else f" {done:,}" if done else ""


@contextmanager
def told_if_interrupted(advice: str) -> Iterator[None]:
    """Says what an interruption leaves behind, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(advice) from None


def tell_dry_run(args: Namespace, jobs: list[StyleTransfer], skipped: Sequence[Skipped]) -> None:
    """The pairs that would be painted, and the files that could not be."""
    lines = [title(job) for job in islice(jobs, SHOWN)]
    if len(jobs) > SHOWN:
        lines.append(f"... and {len(jobs) - SHOWN:,} more")
    distinct = _count(len({job.id for job in jobs}), "job")
    lines.append(f"{_count(len(jobs), 'pair')}, {distinct}, {_count(len(skipped), 'file')} skipped")
    lines += _skipped_lines(skipped)
    pairs = [job.model_dump(mode="json", exclude_none=True) for job in jobs]
    tell(args, {"batch": args.batch, "pairs": pairs, "skipped": len(skipped)}, *lines)


def tell_estimate(console: Console, estimate: Estimate | None) -> None:
    """How long it will take, to a person who watches."""
    if estimate and console.is_terminal:
        console.print(estimate.sentence, markup=False, highlight=False)


def tell_submitted(args: Namespace, submitted: Submitted) -> None:
    """What was enqueued."""
    batch = submitted.batch
    tell(
        args,
        {"batch": batch.name, "pairs": batch.pairs, "jobs": batch.jobs, "enqueued": submitted.enqueued}
        | {"skipped": len(batch.skipped)},
        f"Batch {batch.name}: {_count(batch.jobs, 'job')}, {submitted.enqueued:,} enqueued now.",
        *_skipped_lines(batch.skipped),
        f"Follow it with `medley status {batch.name} --watch`.",
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _skipped_lines(skipped: Sequence[Skipped]) -> list[str]:
    return [f"  skipped {_named(file.name, file.reason)}" for file in skipped[:SHOWN]]


def _named(name: str, reason: str) -> str:
    """A reason that begins with the name, as most do by themselves."""
    return reason if reason.startswith(shown(name)) else f"{shown(name)}: {reason}"


def tell_end(args: Namespace, cluster: Cluster, status: BatchStatus, seconds: float, out: Path | None = None) -> None:
    """How a batch ended, what failed and why, and where things are."""
    batch = status.batch
    where = str(out) if out else f"{cluster.storage.root}/{keys.batch_folder(batch.name)}"
    data = {"batch": batch.name, "jobs": batch.jobs, "done": status.done, "failed": status.failed}
    data |= {"skipped": len(batch.skipped), "out": where, "seconds": round(seconds, 1)}
    skipped = _count(len(batch.skipped), "file")
    lines = [f"{status.done:,} painted, {status.failed:,} failed, {skipped} skipped, {seconds:.0f} s"]
    lines += islice(failure_lines(cluster, status), SHOWN)
    if out:
        sheet = out / "contact_sheet.jpg"
        lines += [f"pictures: {out}", *([f"contact sheet: {sheet}"] if sheet.exists() else [])]
    else:
        lines.append(f"`medley fetch {batch.name} DIR` brings the pictures here.")
    tell(args, data, *lines)


def failure_lines(cluster: Cluster, status: BatchStatus) -> Iterator[str]:
    """What failed or was skipped, a line each, once the batch has ended."""
    try:
        text = cluster.storage.get(keys.failures(status.batch.name)).decode()
    except ObjectMissing:
        return
    for line in text.split("\n")[:-1]:  # not splitlines(), as names may hold other ends of lines
        failure = json.loads(line)
        name = failure.get("skipped") or f"{failure['content']} x {', '.join(failure['styles'])}"
        yield f"  {_named(name, failure['reason'])}"


def tell_status(args: Namespace, cluster: Cluster, status: BatchStatus) -> None:
    """One batch, what is being painted in it, and why some of it failed."""
    lines = [_line(status)]
    if status.painting:
        names = {job: name for job, name in titles(cluster.storage, status.batch) if job in status.painting}
        lines += [
            f"  {names.get(job, job)}: step {p.step} of {p.steps}, loss {p.loss or 0:,.0f}, by {p.worker}"
            for job, p in status.painting.items()
        ]
    lines += islice(failure_lines(cluster, status), SHOWN)
    farm = _farm(cluster)
    tell(args, {**status.as_json(), **farm}, *lines, *_farm_lines(farm))


def tell_overview(args: Namespace, cluster: Cluster, seen: Overview) -> None:
    """Every batch, the workers, and the queues."""
    farm = _farm(cluster)
    lines = [*map(_line, seen.batches), *(f"{name}: unreadable: {why}" for name, why in seen.unreadable.items())]
    data = {"batches": [status.as_json() for status in seen.batches], "unreadable": seen.unreadable, **farm}
    tell(args, data, *(lines or ["No batches."]), *_farm_lines(farm))


def _line(status: BatchStatus) -> str:
    batch = status.batch
    return f"{batch.name}: {status.state}, {status.done:,} of {batch.jobs:,} painted, {status.failed:,} failed"


def _farm(cluster: Cluster) -> dict[str, Any]:
    return {
        "workers": [painter.model_dump() for painter in cluster.ledger.painters()],
        "queues": cluster.ledger.queue_lengths(),
        "unacknowledged": cluster.ledger.unacknowledged(),
    }


def _farm_lines(farm: dict[str, Any]) -> list[str]:
    queues = ", ".join(f"{name} {length:,}" for name, length in farm["queues"].items())
    workers = [
        f"worker {w['name']}: {w['device']}, {_count(w['jobs'], 'job')}, {_count(w['model_loads'], 'load')} of weights"
        for w in farm["workers"]
    ]
    return [f"waiting: {queues}; with workers: {farm['unacknowledged']:,}", *(workers or ["No worker is up."])]
