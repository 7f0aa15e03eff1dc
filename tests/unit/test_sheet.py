"""A contact sheet shows every cell, says what failed, and stays within what a JPEG can hold."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from medley.errors import UsageError
from medley.media.sheet import PANEL, Cell, contact_sheet


def plain(colour: str, size: tuple[int, int] = (80, 60)) -> Image.Image:
    return Image.new("RGB", size, colour)


def decoded(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    with Image.open(io.BytesIO(data)) as sheet:
        assert sheet.format == "JPEG"
        return np.asarray(sheet.convert("RGB")).astype(np.int64)


def share(pixels: np.ndarray[tuple[int, ...], np.dtype[np.int64]], colour: tuple[int, ...]) -> float:
    """How much of a picture has a colour, about."""
    return float((np.abs(pixels - colour).max(axis=-1) < 12).mean())


def test_result_content_and_every_style_are_shown() -> None:
    cell = Cell("a × b", plain("#ff0000"), [plain("#00ff00"), plain("#0000ff")], plain("#ffff00", (400, 300)))
    sheet = decoded(contact_sheet([cell]))
    result, *inputs = (share(sheet, c) for c in ((255, 255, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)))
    assert result > 0.4
    assert all(0.01 < small < result / 5 for small in inputs)


def test_failed_cell_is_grey_and_carries_its_reason() -> None:
    grey = tuple(bytes.fromhex(PANEL[1:]))
    silent, telling = (
        decoded(contact_sheet([Cell("a", plain("#ff0000"), [plain("#00ff00")], None, reason)]))
        for reason in ("x", "noon.jpg cannot be read " * 30)
    )
    assert share(silent, grey) > 0.4
    assert share(telling, grey) < share(silent, grey) - 0.03
    assert silent.shape == telling.shape


def test_cells_follow_each_other_in_rows() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]
    cells = [Cell("", result=Image.new("RGB", (40, 30), colour)) for colour in colours]
    sheet = decoded(contact_sheet(cells, 2, cell_px=120))
    height, width, _ = sheet.shape
    places = [np.argwhere(np.abs(sheet - colour).max(axis=-1) < 12).mean(axis=0) for colour in colours]
    grid = [(int(y * 3 / height), int(x * 2 / width)) for y, x in places]
    assert grid == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]


def test_cells_are_taken_one_at_a_time_and_no_more_than_asked_for() -> None:
    taken = []

    def cells() -> Iterator[Cell]:
        for n in range(10_000):
            taken.append(n)
            yield Cell(str(n), result=plain("#ff0000"))

    contact_sheet(cells(), limit=7, cell_px=60)
    assert taken == list(range(7))


@pytest.mark.parametrize("columns", [1, 500])
def test_sheet_fits_into_a_jpeg(columns: int) -> None:
    sheet = decoded(contact_sheet((Cell(str(n)) for n in range(500)), columns, cell_px=160, limit=500))
    assert max(sheet.shape) <= 65_500


@pytest.mark.parametrize("text", ["", "夜" * 200, "Cézanne\n\tx\0", "W" * 500, "a b " * 500, "\U0001f600 × \u202eabc"])
def test_any_text_is_a_caption(text: str) -> None:
    sheet = decoded(contact_sheet([Cell(text, reason=text)], cell_px=60))
    assert sheet.shape == decoded(contact_sheet([Cell("a")], cell_px=60)).shape


def test_extreme_shapes_and_many_styles_keep_to_their_cell() -> None:
    cell = Cell("a", plain("#ff0000", (3000, 1)), [plain("#00ff00")] * 40, plain("#0000ff", (1, 3000)))
    assert decoded(contact_sheet([cell])).shape == decoded(contact_sheet([Cell("a")])).shape


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(UsageError, match="nothing to put on a contact sheet"):
        contact_sheet([])
    with pytest.raises(UsageError, match="60 to 600 px"):
        contact_sheet([Cell("a")], cell_px=10)
