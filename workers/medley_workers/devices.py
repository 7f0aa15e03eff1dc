"""What paints: the device that torch uses, its name, and its many ways to say that its memory is full."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from medley.errors import OutOfMemory, ServiceUnreachable
from medley.settings import Settings

log = logging.getLogger(__name__)

_SIGNS_OF_NO_ROOM = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
"""What the CPU's allocator, CUDA, cuBLAS and cuDNN say, none of which has an exception of its own."""


def choose_device(settings: Settings) -> torch.device:
    """What to paint on; MEDLEY_DEVICE=auto takes the GPU that this process was given, if there is one.

    On the CPU, the processes of one worker share the cores.

    Raises:
        ServiceUnreachable: MEDLEY_DEVICE is cuda and torch cannot use a GPU; jobs must go to other workers.
    """
    has_gpu = settings.device != "cpu" and torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise ServiceUnreachable("torch cannot use the GPU that is here (see `nvidia-smi`), and MEDLEY_DEVICE is cuda.")
    if not has_gpu:
        if os.environ.get("CUDA_VISIBLE_DEVICES"):  # set to the GPU that NVML showed us
            log.warning("There is a GPU, but torch cannot use it (see `nvidia-smi`): painting on the CPU.")
        torch.set_num_threads(max(1, torch.get_num_threads() // max(1, settings.processes)))
    return torch.device("cuda" if has_gpu else "cpu")


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
        if any(sign in str(error) for sign in _SIGNS_OF_NO_ROOM):
            raise _no_room(error) from error
        raise


def is_lost(error: BaseException) -> bool:
    """Whether the device will serve this process no more: after such an error, CUDA refuses everything."""
    accelerator_error = getattr(torch, "AcceleratorError", None)  # torch 2.8 and later
    return accelerator_error is not None and isinstance(error, accelerator_error)


def _no_room(error: BaseException) -> OutOfMemory:
    return OutOfMemory(
        f"No memory is left to paint this picture ({error}). Ask for a smaller size, or a larger device."
    )
