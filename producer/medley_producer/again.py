"""What paints a picture of medley's again: what it says of how it was made, and its inputs wherever they lie."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from medley import keys
from medley.errors import ImageError, ObjectMissing, UsageError
from medley.files import digest_of
from medley.media.images import png_text
from medley.records.base import InputName
from medley.records.batches import Sampling
from medley.records.jobs import ENGINE, HowMade
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture
from medley.records.weights import Weights
from medley.settings import Settings
from medley.telling import shown
from medley_producer.choosing import Pools
from medley_producer.datasets.buckets import Buckets
from medley_producer.datasets.entries import Entry
from medley_producer.weights import NAMED


class Again(NamedTuple):
    """What to ask for, and where the picture to begin with lies, if there is one."""

    options: StyleTransferOptions
    sampling: Sampling
    pools: Pools
    init: str | None


def find_again(
    file: Path, out: Path, pools: Pools | None, settings: Settings, weights: Weights, *, with_init: bool
) -> Again:
    """What to ask for to have this picture once more, with weights that must be those that it was painted with.

    Its inputs are searched for, by their digests, in the storage of the run that it lies in, in that of ``out``, and
    in the pools; the picture that it began with only ``with_init``.

    Raises:
        UsageError: the file does not say how it was made, it needs other weights, or an input is nowhere.
    """
    made = how_made(file, settings)
    if made.job.init and with_init:
        raise UsageError(
            f"{shown(file.name)} is of a chain and began with the picture before it; name that one with --init."
        )
    _require_weights(file, made.weights, weights)
    init = made.options.init if with_init and isinstance(made.options.init, Picture) else None
    wanted = [made.job.content, *made.job.styles, *([init] if init else [])]
    found = _beside(wanted, [file.parent, out])
    found |= _among([picture for picture in wanted if picture.input not in found], pools, Buckets(settings))
    content = Entry(made.job.content.name, found[made.job.content.input], made.job.content.label)
    styles = [Entry(style.name, found[style.input], style.label) for style in made.job.styles]
    sampling = Sampling(
        content=(content.name,),
        styles=tuple(style.name for style in styles),
        pairing="zip",
        styles_per_pair=len(styles),
        style_weights=tuple(style.weight for style in made.job.styles),
    )
    return Again(made.options, sampling, Pools([content], styles), found[init.input] if init else None)


def how_made(file: Path, settings: Settings) -> HowMade:
    """What a PNG of medley's says of how it was made.

    Raises:
        UsageError: it is none, it says nothing, or another version painted it, as this one would do it differently.
    """
    try:
        text = png_text(file, "medley", settings)
    except ImageError as error:
        raise UsageError(f"{error} --again takes a PNG that medley painted.") from error
    if text is None:
        raise UsageError(
            f"{shown(file.name)} does not say how it was made. --again takes a PNG as medley stored it; "
            "programs that edit or convert pictures drop what it said."
        )
    try:
        made = HowMade.from_json(text)
    except UsageError as error:
        raise UsageError(
            f"{shown(file.name)} was painted by another version of medley; use that one. {error}"
        ) from error
    if made.engine != ENGINE:
        raise UsageError(
            f"{shown(file.name)} was painted by engine {made.engine}, and engine {ENGINE} would paint another picture; "
            "use the version that painted it."
        )
    return made


def _require_weights(file: Path, needed: Weights, here: Weights) -> None:
    """Refuse weights with which another picture would come of it, and say how to have the right ones."""
    if needed.sha256 == here.sha256:
        return
    named = next((name for name, weights in NAMED.items() if weights.sha256 == needed.sha256), None)
    raise UsageError(
        f"{shown(file.name)} was painted with the weights {shown(needed.label)}, and {here.label} would paint another "
        f"picture; set MEDLEY_VGG to {named or 'that file, or to its s3:// URL'}."
    )


def _beside(pictures: Iterable[Picture], folders: Iterable[Path]) -> dict[InputName, str]:
    """Where pictures lie in the storage of runs whose folders these are."""
    storages = [folder.absolute() / ".medley" / "storage" for folder in folders]
    places = [
        (picture.input, storage / keys.input_picture(picture.input)) for picture in pictures for storage in storages
    ]
    # By its bytes, as a file there may have been damaged.
    return {name: str(path) for name, path in places if path.is_file() and name.startswith(digest_of(path))}


def _among(pictures: Sequence[Picture], pools: Pools | None, buckets: Buckets) -> dict[InputName, str]:
    """Where pictures lie in the pools.

    Raises:
        UsageError: one of them does not.
    """
    wanted = {picture.sha256: picture for picture in pictures}
    found: dict[InputName, str] = {}
    names = {picture.name for picture in pictures}
    entries = [*pools.contents, *pools.styles] if pools else []
    for entry in sorted(entries, key=lambda entry: entry.name not in names):  # the likeliest first
        if len(found) == len(wanted):
            break
        with suppress(ImageError, ObjectMissing, OSError), buckets.here(entry.where) as path:
            digest = digest_of(path) if path.is_file() else ""  # a FIFO would be waited for
            if digest in wanted:
                found[wanted[digest].input] = entry.where
    if missing := [shown(picture.name) for picture in wanted.values() if picture.input not in found]:
        raise UsageError(
            f"To paint it again, {', '.join(missing)} would be needed, and no such picture lies here. "
            "Name folders that have them with --content and --styles."
        )
    return found
