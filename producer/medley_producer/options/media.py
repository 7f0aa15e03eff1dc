"""The options of what people watch: a batch's video and sheet, a random network's picture and walk."""

import argparse

from medley.pieces import PAGE_CELLS
from medley.records.base import Record
from medley.records.networks import ArtOptions, WalkOptions
from medley.records.videos import MOST_VIDEO_PX, MedleyOptions
from medley_producer.options.fields import add_field


def add_video(parser: argparse.ArgumentParser) -> None:
    """The options of ``medley video``."""
    _batch_or_folder(parser)
    parser.add_argument("--out", "-o", metavar="FILE", help="where it goes, an .mp4 (default: where the batch has it)")
    _add_fields(parser, MedleyOptions)


def add_sheet(parser: argparse.ArgumentParser) -> None:
    """The options of ``medley sheet``."""
    _batch_or_folder(parser)
    parser.add_argument(
        "--out", "-o", metavar="DIR",
        help="make sheets of all pairs, page by page, in this folder (default: one sheet, where the batch has it)",
    )  # fmt: skip
    parser.add_argument("--page", type=int, metavar="N", help="with --out, only this page, from 1 on")
    parser.add_argument("--columns", type=int, default=0, metavar="N", help="pairs in a row (default: about a square)")
    parser.add_argument(
        "--cells", type=int, default=PAGE_CELLS, metavar="N",
        help=f"pairs on a sheet; without --out, evenly chosen from the batch (default: {PAGE_CELLS})",
    )  # fmt: skip


def add_art(parser: argparse.ArgumentParser) -> None:
    """The options of ``medley art``."""
    parser.add_argument("file", metavar="FILE", help="the picture to make, a .png")
    _add_device(parser)
    _add_fields(parser, ArtOptions, seed="draws the network's weights; a random one, which is told, if not given")


def add_walk(parser: argparse.ArgumentParser) -> None:
    """The options of ``medley walk``."""
    parser.add_argument("--out", "-o", metavar="FILE", help="the video to make, an .mp4")
    parser.add_argument(
        "--batch", metavar="NAME",
        help="have the workers make it, as a batch of this name; with --out, wait for it and fetch it",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=int, metavar="N", help=f"longest side, px, at most {MOST_VIDEO_PX}; instead of --xres"
    )
    _add_device(parser)
    _add_fields(parser, WalkOptions)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="what makes it (default: MEDLEY_DEVICE)")


def _batch_or_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("batch", metavar="BATCH", help="its name, as it was submitted, or the folder of a `medley run`")


def _add_fields(parser: argparse.ArgumentParser, record: type[Record], **instead: str) -> None:
    """Options for a record's fields; ``instead`` are other descriptions, of other defaults."""
    for name, field in record.model_fields.items():
        if name in instead:
            parser.add_argument(f"--{name}", metavar="N", help=instead[name])
        elif name != "kind":
            add_field(parser, name, field)
