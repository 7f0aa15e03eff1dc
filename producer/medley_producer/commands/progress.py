"""How far a command is, on stderr, where a person watches."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from medley.telling import Told, quiet


@contextmanager
def telling(console: Console) -> Iterator[Told]:
    """A line of progress on a terminal, with a bar and the time that is left where work is counted; else nothing."""
    if not console.is_terminal:
        yield quiet
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
def if_interrupted(advice: str) -> Iterator[None]:
    """Have an interruption say what it leaves behind, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(advice) from None
