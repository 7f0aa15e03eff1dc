"""Frames that leave while the painter goes on."""

import io
import threading
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image

from medley.errors import StorageUnreachable
from medley.media.images import encode_jpeg
from medley_workers.jobs.frames import FrameKeeper

DEADLINE_S = 10.0


def frame(step: int) -> Callable[[], bytes]:
    return lambda: bytes([step])


def failing_at(step: int, kept: list[int]) -> Callable[[int, bytes], None]:
    """A storage that refuses one frame."""

    def put(at: int, _: bytes) -> None:
        if at == step:
            raise StorageUnreachable("Storage does not answer.")
        kept.append(at)

    return put


def test_frames_arrive_in_order_and_all_of_them() -> None:
    kept: list[tuple[int, bytes]] = []
    with FrameKeeper(lambda step, data: kept.append((step, data)), waiting=2) as keeper:
        for step in range(50):
            keeper.keep(step, frame(step))
    assert kept == [(step, bytes([step])) for step in range(50)]


def test_a_frame_is_a_jpeg_with_colours_at_full_resolution() -> None:
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:, ::2, 0] = 255  # columns of one pixel: half of the colour would be lost at 4:2:0
    image = Image.open(io.BytesIO(encode_jpeg(pixels)))
    assert image.format == "JPEG"
    assert np.abs(np.asarray(image).astype(int) - pixels).mean() < 10


def test_the_painter_works_meanwhile_and_waits_when_too_many_are_on_their_way() -> None:
    changed = threading.Condition()
    handed_over = stored = most = 0

    def put(step: int, _: bytes) -> None:
        nonlocal stored, most
        with changed:
            # The first one is slow: it ends only after the painter has handed over as many as may wait.
            assert changed.wait_for(lambda: step > 0 or handed_over >= 3, DEADLINE_S)
            most = max(most, handed_over - stored)
            stored += 1

    with FrameKeeper(put, waiting=3) as keeper:
        for step in range(100):
            keeper.keep(step, frame(step))
            with changed:
                handed_over += 1
                changed.notify_all()
    assert stored == 100
    assert most <= 3


def test_an_error_meets_the_painter_at_the_next_frame_that_is_kept() -> None:
    kept: list[int] = []
    painted: list[int] = []

    def paint() -> None:
        with FrameKeeper(failing_at(1, kept), waiting=1) as keeper:
            for step in range(100):
                keeper.keep(step, frame(step))
                painted.append(step)

    with pytest.raises(StorageUnreachable):
        paint()
    assert painted == [0, 1]
    assert kept == [0]


def test_an_error_of_the_last_frame_meets_the_painter_at_the_end() -> None:
    kept: list[int] = []
    keeper = FrameKeeper(failing_at(2, kept), waiting=4)
    for step in range(3):
        keeper.keep(step, frame(step))
    with pytest.raises(StorageUnreachable), keeper:
        pass
    assert kept == [0, 1]


def test_an_error_of_encoding_meets_the_painter_too() -> None:
    keeper = FrameKeeper(failing_at(-1, []), waiting=4)
    with pytest.raises(ZeroDivisionError), keeper:
        keeper.keep(0, partial(divmod, 1, 0))


def test_a_painter_that_fails_is_not_held_up_and_its_error_is_the_one_raised() -> None:
    kept: list[int] = []
    failed = threading.Event()

    def put(step: int, _: bytes) -> None:
        assert failed.wait(DEADLINE_S)
        kept.append(step)
        raise StorageUnreachable("Storage does not answer.")

    def paint() -> None:
        with FrameKeeper(put, waiting=4) as keeper:
            for step in range(4):
                keeper.keep(step, frame(step))
            failed.set()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        paint()
    assert kept == list(range(len(kept)))


def test_what_is_done_after_frames_finds_those_kept_that_were_handed_over_before_it() -> None:
    kept: list[int] = []
    found: list[list[int]] = []
    with FrameKeeper(lambda step, _: kept.append(step), waiting=4) as keeper:
        for step in range(20):
            keeper.keep(step, frame(step))
            if step % 5 == 0:
                keeper.after_frames(lambda: found.append(list(kept)))
    assert found == [list(range(step + 1)) for step in range(0, 20, 5)]


def test_nothing_is_done_after_a_frame_that_failed() -> None:
    kept: list[int] = []
    done: list[str] = []
    keeper = FrameKeeper(failing_at(1, kept), waiting=4)
    keeper.keep(0, frame(0))
    keeper.after_frames(lambda: done.append("before")).result(DEADLINE_S)
    keeper.keep(1, frame(1))
    keeper.after_frames(lambda: done.append("after")).result(DEADLINE_S)
    with pytest.raises(StorageUnreachable), keeper:
        pass
    assert done == ["before"]
