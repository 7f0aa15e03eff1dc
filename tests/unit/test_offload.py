"""Frames that are encoded elsewhere than they are made."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from medley.media.images import encode_jpeg
from medley_workers.numbers.offload import jpeg_of

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8))


def test_on_the_cpu_a_frame_is_the_jpeg_of_its_pixels() -> None:
    assert jpeg_of(PIXELS)() == encode_jpeg(PIXELS.numpy())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_frames_leave_a_gpu_that_is_at_work_as_they_were_when_they_were_made() -> None:
    busy = torch.randn((4096, 4096), device="cuda")
    frames = []
    for shade in range(20):
        busy = busy @ busy
        frames.append(jpeg_of(torch.full((40, 48, 3), shade * 10, dtype=torch.uint8, device="cuda")))
    for shade, frame in enumerate(frames):
        assert abs(int(np.asarray(Image.open(io.BytesIO(frame()))).mean()) - shade * 10) <= 1
