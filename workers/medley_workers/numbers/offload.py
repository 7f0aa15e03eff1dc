"""Frames are taken off a GPU beside its work: on a stream of their own, into memory that it can write by itself."""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from medley.media.images import encode_jpeg


def jpeg_of(pixels: Tensor) -> Callable[[], bytes]:
    """What makes a JPEG of a frame, (H, W, 3) of uint8, RGB, on any thread; its device is not waited for here.

    The pixels must not be changed afterwards. It is the CPU that encodes: nvJPEG by way of torchvision is deprecated
    there, and was reported not to keep to the order of streams (its issues 8587, 8929 and 9060).
    """
    if not pixels.is_cuda:
        return partial(encode_jpeg, pixels.numpy())
    beside = _stream(pixels.device)
    beside.wait_stream(torch.cuda.current_stream(pixels.device))
    copied: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(beside):
        there = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
        there.copy_(pixels, non_blocking=True)
        copied.record(beside)
    return partial(_encoded, pixels, there, copied)


def _encoded(pixels: Tensor, there: Tensor, copied: torch.cuda.Event) -> bytes:
    copied.synchronize()
    del pixels  # whose memory must stay as it was until then
    return encode_jpeg(there.numpy())


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream
