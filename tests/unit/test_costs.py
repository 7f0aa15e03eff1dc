"""What a painting needs, without painting any; that the formula is right is measured in ``test_trial``."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from medley.costs import HISTORY, LEAST_HISTORY, bytes_needed, histories, largest_side, room_problem
from medley.layers import LAYERS, STYLE_LAYERS
from medley.records.options import StyleTransferOptions

GB = 1_000_000_000
SIZES = st.tuples(st.integers(16, 4_096), st.integers(16, 4_096))


def options(**changes: Any) -> StyleTransferOptions:
    return StyleTransferOptions.model_validate(changes)


def needed(size: tuple[int, int], style: tuple[int, int] | None = None, **changes: Any) -> int:
    return bytes_needed(size, [style or size], options(**changes))


@given(size=SIZES, style=SIZES, wider=st.integers(0, 500), higher=st.integers(0, 500))
def test_a_larger_picture_or_style_needs_no_less(
    size: tuple[int, int], style: tuple[int, int], wider: int, higher: int
) -> None:
    assert needed((size[0] + wider, size[1] + higher), style) >= needed(size, style)
    assert needed(size, (style[0] + wider, style[1] + higher)) >= needed(size, style)


@given(layer=st.sampled_from(LAYERS), deeper=st.sampled_from(LAYERS))
def test_a_deeper_layer_needs_no_less(layer: str, deeper: str) -> None:
    first, second = sorted((layer, deeper), key=LAYERS.index)
    assert needed((512, 512), content_layers=(), style_layers=(first,)) <= needed(
        (512, 512), content_layers=(second,), style_layers=(first,)
    )


def test_the_pairs_that_lbfgs_remembers_are_counted_up_to_a_hundred() -> None:
    by_steps = [needed((512, 512), num_steps=steps) for steps in (1, 100, 1_000)]
    assert by_steps[1] - by_steps[0] >= 99 * 2 * 512 * 512 * 3 * 4
    assert by_steps[2] == by_steps[1]
    assert needed((512, 512), optimizer="adam", num_steps=1_000) < by_steps[0]


@given(size=SIZES, steps=st.integers(1, 400), optimizer=st.sampled_from(["lbfgs", "adam"]))
def test_a_second_try_is_cheaper_or_there_is_none(size: tuple[int, int], steps: int, optimizer: str) -> None:
    asked = options(num_steps=steps, optimizer=optimizer)
    needs = [bytes_needed(size, [size], asked, history) for history in histories(asked)]
    assert needs == sorted(set(needs), reverse=True)
    assert bytes_needed(size, [size], asked, LEAST_HISTORY) == needs[-1]


def test_a_larger_picture_fits_where_less_is_remembered() -> None:
    sides = [largest_side((512, 512), [(512, 512)], options(), 3 * GB, history) for history in (HISTORY, LEAST_HISTORY)]
    assert sides[0] * 1.2 < sides[1]
    assert room_problem((sides[1], sides[1]), [(sides[1], sides[1])], options(), 3 * GB, LEAST_HISTORY) is None
    problem = room_problem((2_000, 2_000), [(2_000, 2_000)], options(), 3 * GB, LEAST_HISTORY)
    assert f"--size {sides[1]} would fit" in str(problem)


def test_a_style_that_is_far_larger_than_the_picture_decides() -> None:
    assert needed((256, 256), (2_048, 2_048)) > 2 * needed((256, 256))


@given(size=SIZES, free=st.integers(GB // 2, 100 * GB))
def test_the_largest_side_fits_and_the_next_one_does_not(size: tuple[int, int], free: int) -> None:
    side = largest_side(size, [size], options(), free)
    for longest, fits in ((side, True), (side + 1, False)):
        if 0 < longest <= 8_192:
            scaled = max(1, round(longest * size[0] / max(size))), max(1, round(longest * size[1] / max(size)))
            # Halves are rounded another way here, which is at most a row of pixels.
            assert (needed(scaled) <= free + 30_000 * longest) if fits else (needed(scaled) > free - 30_000 * longest)


def test_the_size_that_a_refusal_names_is_not_refused() -> None:
    problem = room_problem((1_024, 768), [(900, 874)], options(), 3 * GB)
    assert problem is not None
    assert "1024 x 768 px needs about 5.0 GB" in problem
    assert "3.0 GB are free" in problem
    side = int(problem.partition("--size ")[2].split()[0])
    assert 600 < side < 1_024
    pixels = side * round(side * 0.75)
    style = round((pixels * 900 / 874) ** 0.5), round((pixels * 874 / 900) ** 0.5)
    assert room_problem((side, round(side * 0.75)), [style], options(size=side), 3 * GB) is None


def test_styles_with_a_size_of_their_own_are_not_made_smaller() -> None:
    own = options(style_size=2_000)
    assert largest_side((512, 512), [(2_000, 2_000)], own, 3 * GB) == 0
    assert "--style-size" in str(room_problem((512, 512), [(2_000, 2_000)], own, 3 * GB))
    assert room_problem((512, 512), [(512, 512)], options(style_size=512), 3 * GB) is None


def test_what_runs_no_layer_below_the_asked_ones_is_cheaper() -> None:
    assert needed((512, 512), content_layers=(), style_layers=STYLE_LAYERS[:2]) < needed((512, 512))
