"""What is looked at before a command spends hours: whether this machine can paint, and files that are to be made."""

import os
import tempfile
from argparse import Namespace
from pathlib import Path

from medley.errors import UsageError
from medley.settings import Settings
from medley_producer.extras import INSTALL_PAINTING, can_paint, workers_module


def require_painting() -> None:
    """See that what painting needs is installed.

    Raises:
        UsageError: it is not.
    """
    if not can_paint():
        raise UsageError(f"Painting needs more than this machine has installed: {INSTALL_PAINTING}.")


def painting_settings(args: Namespace) -> Settings:
    """The settings, with those that a command which paints was told."""
    given = {name: getattr(args, name, None) for name in ("device", "checkpoint_every_s")}
    return Settings.load(**{name: value for name, value in given.items() if value is not None})


def settings_to_paint_here(args: Namespace) -> Settings:
    """The settings of a command for which this machine paints.

    Raises:
        UsageError: what painting needs is not installed, or a GPU is asked for and there is none.
    """
    require_painting()
    settings = painting_settings(args)
    if settings.device == "cuda" and not workers_module("gpus").visible_gpus(settings):
        raise UsageError("There is no GPU here to paint on. See `nvidia-smi`, or ask for the device cpu or auto.")
    return settings


def output_file(text: str, suffix: str) -> Path:
    """A file that can be made there; its folder is made by whoever writes it.

    Raises:
        UsageError: its name ends otherwise, a folder is in its place, or nothing can be written there.
    """
    path = Path(text)
    if path.suffix.lower() != suffix:
        raise UsageError(f"{text} is made as {suffix[1:].upper()}, so its name must end in {suffix}.")
    if path.is_dir():
        raise UsageError(f"{text} is a folder; name a file in it.")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise UsageError(f"{text} cannot be made, as nothing can be written into {nearest}; name another place.")
    return path


def require_place(path: Path) -> None:
    """See that a file can be written into a folder that exists.

    Raises:
        UsageError: it cannot, or something that is no file is in its place.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name a file in it.")
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no file; name another place, or a file that may be replaced.")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); name another place.") from error
