"""``medley vgg``: what its commands ask of the workers' side, and how they print what comes back."""

import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from medley.errors import DatasetError, ImageError, UsageError
from medley.layers import CONTENT_LAYERS, STYLE_LAYERS
from medley.settings import Settings
from medley.telling import Told, shown
from medley.weight_files import CODED_ENDINGS, FLOAT_ENDINGS, WORDS
from medley_producer.commands.checks import require_painting, require_place
from medley_producer.commands.printing import print_result
from medley_producer.commands.progress import telling
from medley_producer.datasets.buckets import Buckets
from medley_producer.datasets.entries import is_picture
from medley_producer.datasets.scanning import scan
from medley_producer.extras import workers_module
from medley_producer.samples.dataset import calibration_pictures

_EMPTY: tuple[object, ...] = ([], {}, None)
"""What there is nothing to say of."""

_WIDE = 160
"""Columns for tables that go into a file or another program."""


def vgg(args: Namespace) -> int:
    """Make, look at and judge compressed weights."""
    require_painting()
    return {"compress": _compress, "info": _info, "compare": _compare}[args.action](args)


def _compress(args: Namespace) -> int:
    """Make a file of weights."""
    settings, out = Settings.load(), Path(args.out)
    _require_for_method(args)
    require_place(out)
    # Read here to tell of a bad one at once, as painting samples takes a while.
    workers_module("compressing.sources").read_source(args.source, settings)
    workers = workers_module("compressing.compress")
    with telling(Console(stderr=True)) as told, _pictures_as_input(), _calibration(args, settings, told) as pictures:
        asked = workers.Asked(
            source=args.source, out=out, method=args.method, bits=args.bits, target_bytes=args.target_bytes,
            target_error=args.target_error, without=frozenset(args.without), all_layers=args.all_layers,
            memory_bytes=int((args.memory or 1.0) * 1e9), pictures=tuple(pictures),
        )  # fmt: skip
        made = workers.compress(asked, settings, told)
    print_result(
        args,
        asdict(made) | {"path": str(made.path)},
        f"{made.path}: {made.bytes:,} bytes, {made.bits:.2f} bits a weight, {made.layers} convolutions, "
        f"{made.seconds:.0f} s",
        f"SHA-256 {made.sha256}",
        *made.notes,
    )
    return 0


def _info(args: Namespace) -> int:
    """Say what a file of weights holds."""
    path = workers_module("compressing.sources").named_file(args.file, Settings.load()) or Path(args.file)
    found = workers_module("network.loading").describe(path)
    made = found.provenance
    layers = [{"name": name, "weights": weights} for name, weights in found.layers]
    data = {"file": args.file, "bytes": found.bytes, "sha256": found.sha256, "ratio": found.ratio}
    table = Table("convolution", box=box.SIMPLE_HEAD)
    table.add_column("weights", justify="right")
    for name, weights in found.layers:
        table.add_row(name, f"{weights:,}")
    print_result(
        args,
        data | made.model_dump() | {"layers": layers},
        _drawn(table),
        f"{args.file}: {found.bytes:,} bytes, {made.bits:.3g} bits a weight, "
        f"{found.ratio:.1f} times smaller than float32",
        f"SHA-256 {found.sha256}",
        f"method {made.method}, by {shown(made.made_by)}",
        f"made of {shown(made.source)}, SHA-256 {made.source_sha256}",
        *(shown(f"{key.replace('_', ' ')}: {value}") for key, value in made.how.items() if value not in _EMPTY),
        shown(made.licence),
    )
    return 0


def _compare(args: Namespace) -> int:
    """Judge files of weights."""
    settings = Settings.load()
    files, contents, styles = _weights_and_pictures(args)
    grid = _grid(args)
    with (
        telling(Console(stderr=True)) as told,
        _pictures_as_input(),
        _pictures(contents, settings) as photos,
        _pictures(styles, settings) as paintings,
    ):
        workers = workers_module("compressing.compare")
        asked = workers.Asked(
            files=tuple(files), reference=args.reference, contents=tuple(photos), styles=tuple(paintings),
            size=args.size, num_steps=args.num_steps, starts=args.starts, grid=grid,
        )  # fmt: skip
        compared = workers.compare(asked, settings, told)
    data = compared.model_dump() | {"grid": str(grid) if grid else None}
    print_result(args, data, _drawn(_table(compared)), *_notes(compared), *([f"grid: {grid}"] if grid else []))
    return 0


def _require_for_method(args: Namespace) -> None:
    """Refuse what the method does not take."""
    if args.method == "feedback":
        if args.memory is not None:
            raise UsageError("--memory is for --method kmeans; feedback takes what it takes.")
        return
    if args.bits is None:
        raise UsageError("--method kmeans takes --bits alone; a target is for --method feedback.")
    for option, value in (("--without", args.without), ("--calibrate-on", args.calibrate_on)):
        if value:
            raise UsageError(f"{option} is for --method feedback; kmeans has no parts, and looks at no pictures.")


@contextmanager
def _pictures_as_input() -> Iterator[None]:
    try:
        yield
    except ImageError as error:  # here a picture is what was asked for, not one of many to be painted
        raise UsageError(str(error)) from error


@contextmanager
def _calibration(args: Namespace, settings: Settings, told: Told) -> Iterator[list[Path]]:
    """The pictures that the method looks at: samples of ours, and those that were named."""
    if args.method == "kmeans" or not set(workers_module("compressing.feedback").CALIBRATED).difference(args.without):
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="medley-") as folder, ExitStack() as stack:
        given = stack.enter_context(_pictures(args.calibrate_on, settings)) if args.calibrate_on else []
        yield calibration_pictures(Path(folder), told) + given


@contextmanager
def _pictures(pool: Sequence[str], settings: Settings) -> Iterator[list[Path]]:
    """The local files of a pool; what lies in a bucket is fetched, and gone after the block."""
    buckets = Buckets(settings)
    scanned = scan(pool, buckets)
    if scanned.skipped:
        raise DatasetError(scanned.skipped[0].reason)
    with ExitStack() as stack:
        yield [stack.enter_context(buckets.here(entry.where)) for entry in scanned.entries]


def _weights_and_pictures(args: Namespace) -> tuple[list[str], list[str], list[str]]:
    """Weights, contents and styles: an option takes every word after it, so weights are told by what they are called.

    Raises:
        UsageError: no weights, or no pictures, are named.
    """
    words = [*args.file, *filter(_is_weights, (*args.content, *args.style))]
    contents, styles = ([word for word in pool if not _is_weights(word)] for pool in (args.content, args.style))
    if not words or not contents or not styles:
        raise UsageError("Name weights to judge, and pictures for --content and --style.")
    if wrong := next(filter(is_picture, args.file), None):
        raise UsageError(f"{wrong} is a picture, not weights; put it after --content or --style.")
    return words, contents, styles


def _is_weights(word: str) -> bool:
    path = Path(word)
    return path.suffix.lower() in CODED_ENDINGS + FLOAT_ENDINGS or (word in WORDS and not path.exists())


def _grid(args: Namespace) -> Path | None:
    """Where the grid goes, if one is asked for."""
    if not args.grid:
        return None
    path = Path(args.grid)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{path} is neither a .png nor a .jpg; name the grid so that it ends in one of them.")
    if not args.num_steps:
        raise UsageError("A grid shows paintings; ask for at least one step, or leave out --grid.")
    require_place(path)
    return path


def _table(compared: Any) -> Table:
    """A row a file; under a mean stands the worst error, or the range of losses. 80 columns have room for it."""
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("\nfile", overflow="fold")
    grams = [f"Gram\n{number}" for number, _ in enumerate(STYLE_LAYERS, start=1)]
    for heading in ("\nMB", "load\ns", *grams, "con-\ntent", "\nloss", "grey\nRMS"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in (compared.reference, *compared.files):
        errors = [row.errors.get(layer) for layer in STYLE_LAYERS + CONTENT_LAYERS]
        loss = row.loss
        table.add_row(
            shown(Path(row.file).name),
            f"{row.bytes / 1e6:.3f}",
            f"{row.load_s:.2f}",
            *(f"{_three(error.mean)}\n{_three(error.most)}" if error else "" for error in errors),
            f"{_three(loss.mean)}\n{_three(loss.least)}-{_three(loss.most)}" if loss else "",
            f"{row.distance:.2f}" if row.distance is not None else "",
        )
    return table


def _three(number: float) -> str:
    """Three decimals, or four digits of what is far off."""
    return f"{number:.3f}" if number < 10 else f"{number:.4g}"


def _notes(compared: Any) -> Iterator[str]:
    """What the columns are, and what is missing."""
    reference, pictures = compared.reference.file, compared.pictures
    yield (
        f"Gram ({STYLE_LAYERS[0]} to {STYLE_LAYERS[-1]}), content ({CONTENT_LAYERS[0]}): relative error of what is "
        f"seen, to {reference}; mean, and below it the worst, of {pictures} pictures."
    )
    if paintings := compared.pairs * compared.starts:
        yield (
            f"loss: what {reference} finds in a painting, over that of its own; mean, and below it the range, of "
            f"{paintings} with {compared.num_steps} steps. grey RMS: between the two, in grey levels."
        )
    yield from (f"{row.file}: {row.problem}" for row in compared.files if row.problem)


def _drawn(table: Table) -> str:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    with console.capture() as captured:
        console.print(table)
    return captured.get().strip("\n")
