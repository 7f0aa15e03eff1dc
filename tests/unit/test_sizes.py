"""The size at which a picture is painted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medley.errors import UsageError
from medley.layers import CONTENT_LAYERS, STYLE_LAYERS
from medley.sizes import check_size, rendered_size, smallest_side

SIDES = st.integers(1, 10_000)


@pytest.mark.parametrize(
    ("size", "longest", "pixels", "expected"),
    [
        ((640, 480), 100, None, (100, 75)),
        ((480, 640), 100, None, (75, 100)),
        ((50, 50), 100, None, (100, 100)),
        ((640, 480), None, 250_000, (577, 433)),
        ((640, 480), 100, 250_000, (100, 75)),
        ((640, 480), None, None, (640, 480)),
        ((4, 2), 5, None, (5, 2)),  # 2.5 goes to the even neighbour, as Python rounds
        ((1000, 1), 100, None, (100, 1)),
        ((1, 1000), None, 100, (1, 316)),
    ],
)
def test_rendered_size(
    size: tuple[int, int], longest: int | None, pixels: int | None, expected: tuple[int, int]
) -> None:
    assert rendered_size(*size, longest=longest, pixels=pixels) == expected


@given(width=SIDES, height=SIDES, longest=SIDES)
def test_the_longest_side_is_as_asked_and_the_ratio_stays(width: int, height: int, longest: int) -> None:
    new = rendered_size(width, height, longest=longest)
    assert max(new) == longest
    assert min(new) >= 1
    assert abs(min(new) - longest * min(width, height) / max(width, height)) <= 1


@given(width=SIDES, height=SIDES, pixels=st.integers(1, 10_000_000))
def test_no_side_is_ever_empty(width: int, height: int, pixels: int) -> None:
    assert min(rendered_size(width, height, pixels=pixels)) >= 1


def test_the_deepest_layer_decides_the_smallest_side() -> None:
    assert smallest_side(CONTENT_LAYERS + STYLE_LAYERS) == 16
    assert smallest_side(CONTENT_LAYERS) == 8
    assert smallest_side(("block1_relu1",)) == 2
    assert smallest_side(("block5_pool",)) == 32


def test_a_size_with_an_empty_layer_is_refused_with_what_it_takes() -> None:
    check_size(16, 16, STYLE_LAYERS)
    with pytest.raises(UsageError, match=r"300 x 15 px is too small: the layers asked for need 16 px"):
        check_size(300, 15, STYLE_LAYERS)
