"""What paints: the device that torch uses, its name, its memory, and its many ways to say that this is full."""

import ctypes
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch

from medley.costs import HISTORY, room_problem
from medley.errors import OutOfMemory, ServiceUnreachable
from medley.memory import free_memory, resident_bytes
from medley.records.base import Size
from medley.records.options import StyleTransferOptions
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


def free_bytes(device: torch.device) -> int | None:
    """What is left of the device's memory for this process; None where it cannot be told.

    Memory that torch holds and does not use is given back first (to the system), or counts as free (on a GPU).
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    with suppress(OSError, AttributeError):  # only the GNU C library keeps what was freed, and has this to let go of it
        ctypes.CDLL(None).malloc_trim(0)
    return free_memory()


def held_bytes(device: torch.device) -> int | None:
    """What this process holds of the device's memory; None where it cannot be told."""
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else resident_bytes()


def require_room(
    device: torch.device,
    size: Size,
    style_sizes: Sequence[Size],
    options: StyleTransferOptions,
    history: int = HISTORY,
) -> None:
    """See that a picture can be painted in the memory that is free, as the kernel kills who takes more.

    Args:
        device: what is to paint
        size: of the result, px
        style_sizes: at which the styles are looked at, px
        options: how to paint
        history: pairs of vectors that L-BFGS is to remember

    Raises:
        OutOfMemory: it cannot; the message has the size that could be.
    """
    free = free_bytes(device)
    problem = None if free is None else room_problem(size, style_sizes, options, free, history)
    if problem:
        raise OutOfMemory(problem)


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
