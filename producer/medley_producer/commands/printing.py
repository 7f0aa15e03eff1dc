"""What commands print: their results, as text or as one JSON object."""

import json
from argparse import Namespace
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from medley import keys
from medley.cluster import Cluster
from medley.records.base import BatchName
from medley.records.batches import Skipped
from medley.records.jobs import ENGINE, StyleTransfer
from medley.records.walks import WalkBatch
from medley.telling import shown
from medley_producer.estimating import Estimate
from medley_producer.failures import each_failure, failure_lines, named, reason_line
from medley_producer.layout import title
from medley_producer.status import BatchStatus, Overview, farm_status
from medley_producer.submit import Submitted

SHOWN = 20
"""Lines of a list that a person reads at once."""

FETCHED = 1_000
"""Failures whose list is fetched for that: about 1 MB."""


def print_result(args: Namespace, data: dict[str, Any], *lines: str) -> None:
    """Print the result of a command."""
    print(json.dumps(data) if args.json else "\n".join(lines))


def print_dry_run(args: Namespace, name: BatchName, jobs: list[StyleTransfer], skipped: Sequence[Skipped]) -> None:
    """The pairs that would be painted, and the files that could not be."""
    lines = [title(job) for job in islice(jobs, SHOWN)]
    if len(jobs) > SHOWN:
        lines.append(f"... and {len(jobs) - SHOWN:,} more")
    distinct = count(len({job.id for job in jobs}), "job")
    lines.append(f"{count(len(jobs), 'pair')}, {distinct}, {count(len(skipped), 'file')} skipped")
    lines += _skipped_lines(skipped)
    pairs = [job.model_dump(mode="json", exclude_none=True) for job in jobs]
    print_result(args, {"batch": name, "pairs": pairs, "skipped": len(skipped)}, *lines)


def print_estimate(console: Console, estimate: Estimate | None) -> None:
    """How long it will take, to a person who watches."""
    if estimate and console.is_terminal:
        console.print(estimate.sentence, markup=False, highlight=False)


def print_submitted(args: Namespace, submitted: Submitted) -> None:
    """What was enqueued."""
    batch, skipped = submitted.batch, len(submitted.batch.skipped)
    counts = {"pairs": batch.pairs, "jobs": batch.jobs, "enqueued": submitted.enqueued, "skipped": skipped}
    print_result(
        args,
        {"batch": batch.name, **counts},
        f"Batch {batch.name}: {count(batch.jobs, 'job')}, {submitted.enqueued:,} enqueued now.",
        *_skipped_lines(batch.skipped),
        f"Follow it with `medley status {batch.name} --watch`.",
    )


def count(number: int, what: str) -> str:
    """How many of something, as people say it."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _skipped_lines(skipped: Sequence[Skipped]) -> list[str]:
    return [f"  skipped {named(file.name, file.reason)}" for file in skipped[:SHOWN]]


def print_end(args: Namespace, cluster: Cluster, status: BatchStatus, seconds: float, out: Path | None = None) -> None:
    """How a batch ended, what failed and why, and where things are."""
    batch = status.batch
    where = str(out) if out else f"{cluster.storage.root}/{keys.batch_folder(batch.name)}"
    data = {"batch": batch.name, "state": status.state, "jobs": batch.jobs, "done": status.done}
    data |= {"failed": status.failed, "skipped": len(batch.skipped), "out": where, "seconds": round(seconds, 1)}
    lines = [f"{_how_much(status)}, {seconds:.0f} s"]
    if status.state == "cancelled":
        lines.append(f"It was cancelled; `medley resume {batch.name}` goes on with it.")
    lines += _failure_lines(cluster, status)
    if out:
        lines += _where_lines(out)
    else:
        lines += [*_more_lines(status), f"`medley fetch {batch.name} DIR` brings the pictures here."]
    print_result(args, data, *lines)


def _loss(loss: float | None) -> str:
    return "" if loss is None else f", loss {loss:,.0f}"


def _how_much(status: BatchStatus) -> str:
    batch = status.batch
    if isinstance(batch, WalkBatch):
        return f"{count(batch.options.frames, 'frame')}, {status.done:,} of {count(batch.jobs, 'job')} done"
    skipped = count(len(batch.skipped), "file")
    return f"{status.done:,} painted, {status.failed:,} failed, {skipped} skipped"


def _where_lines(out: Path) -> list[str]:
    """Where what people look at lies: in a folder, or in the one file that was asked for."""
    if not out.is_dir():
        return [f"video: {out}"] if out.exists() else []
    pieces = {"contact sheet": "contact_sheet.jpg", "video": "medley.mp4", "gallery": "index.html"}
    return [f"pictures: {out}"] + [f"{what}: {out / name}" for what, name in pieces.items() if (out / name).exists()]


def _failure_lines(cluster: Cluster, status: BatchStatus) -> list[str]:
    """What failed or was skipped, a line each, once the batch has ended; too long a list is not fetched for that."""
    if not status.finished or not 0 < status.failed + len(status.batch.skipped) <= FETCHED:
        return []
    return [f"  {reason_line(failure)}" for failure in islice(each_failure(cluster, status), SHOWN)]


def _more_lines(status: BatchStatus) -> list[str]:
    """Where there is more about failures, and what can be done, for people of a cluster."""
    if not status.failed:
        return []
    again = f"; `medley retry {status.batch.name}` tries again" if status.finished else ""
    return [f"`medley status {status.batch.name} --failed` says why each failed, and where{again}."]


def print_status(args: Namespace, cluster: Cluster, status: BatchStatus) -> None:
    """One batch, what is being painted in it, and why some of it failed."""
    lines = [_line(status)]
    lines += [
        f"  {shown(p.names) or job}: step {p.step} of {p.steps}{_loss(p.loss)}, by {p.worker}"
        for job, p in status.painting.items()
    ]
    lines += [*_failure_lines(cluster, status), *_more_lines(status)]
    farm = farm_status(cluster)
    print_result(args, {**status.as_json(), **farm}, *lines, *_farm_lines(farm))


def print_failures(args: Namespace, cluster: Cluster, status: BatchStatus) -> None:
    """All that failed in a batch, printed as it is read."""
    failures = each_failure(cluster, status)
    if args.json:
        print(json.dumps(status.as_json())[:-1], end=', "failures": [')
        for number, failure in enumerate(failures):
            print(", " if number else "", json.dumps(failure), sep="", end="")
        print("]}")
        return
    print(_line(status))
    for failure in failures:
        print("\n".join(failure_lines(failure)))


def print_overview(args: Namespace, cluster: Cluster, seen: Overview) -> None:
    """Every batch, the workers, and the queues."""
    farm = farm_status(cluster)
    lines = [*map(_line, seen.batches), *(f"{name}: unreadable: {why}" for name, why in seen.unreadable.items())]
    data = {"batches": [status.as_json() for status in seen.batches], "unreadable": seen.unreadable, **farm}
    print_result(args, data, *(lines or ["No batches."]), *_farm_lines(farm))


def _line(status: BatchStatus) -> str:
    batch = status.batch
    again = "; counted again from storage, as Redis did not know this batch" if status.recounted else ""
    return f"{batch.name}: {status.state}, {status.done:,} of {batch.jobs:,} painted, {status.failed:,} failed{again}"


def _farm_lines(farm: dict[str, Any]) -> list[str]:
    queues = ", ".join(f"{name} {length:,}" for name, length in farm["queues"].items())
    lines = [f"waiting: {queues}; with workers: {farm['unacknowledged']:,}"]
    lines += [
        f"worker {w['name']}: {w['device']}, {count(w['jobs'], 'job')}, {count(w['model_loads'], 'load')} of weights"
        for w in farm["workers"]
    ]
    if all(w["engine"] != ENGINE for w in farm["workers"]):
        lines.append(f"No worker of engine {ENGINE} is up." if farm["workers"] else "No worker is up.")
    lines += [f"worker {shown(name)} stopped: {shown(why)}" for name, why in farm["stopped"].items()]
    lines += [
        f"queue {shown(name)} holds {count(length, 'message')}, and no worker that is up serves it"
        for name, length in farm["unserved"].items()
    ]
    if newest := farm["set_aside_newest"]:
        aside = count(farm["set_aside"], "message")
        lines.append(f"{aside} set aside, as medley did not send them so; the newest: {shown(str(newest['reason']))}")
    return lines
