"""``medley samples``: a small dataset, painted here."""

from argparse import Namespace
from pathlib import Path

from rich.console import Console

from medley_producer.commands.printing import print_result
from medley_producer.commands.progress import telling
from medley_producer.samples.dataset import paint_samples


def samples(args: Namespace) -> int:
    """Paint a small dataset."""
    with telling(Console(stderr=True)) as told:
        paths = paint_samples(Path(args.out), args.contents, args.styles, seed=args.seed, told=told)
    print_result(args, {"out": args.out, "files": [str(path) for path in paths]}, *map(str, paths))
    return 0
