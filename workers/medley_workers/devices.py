"""What paints: the device that torch uses, its name, and its many ways to say that its memory is full."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from medley.errors import OutOfMemory
from medley.settings import Settings


def choose_device(settings: Settings) -> torch.device:
    """What to paint on; MEDLEY_DEVICE=auto takes the GPU that this process was given, if there is one.

    On the CPU, the processes of one worker share the cores.
    """
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // max(1, settings.processes)))
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """The device, as people call it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Gives the many faces of exhausted memory one name.

    Raises:
        OutOfMemory: the device, or this machine, has no room.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _no_room(error) from error
    except RuntimeError as error:
        # The CPU's allocator has no exception of its own.
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise _no_room(error) from error
        raise


def _no_room(error: BaseException) -> OutOfMemory:
    return OutOfMemory(
        f"No memory is left to paint this picture ({error}). Ask for a smaller size, or a larger device."
    )
