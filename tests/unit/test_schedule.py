"""Which steps a fast painting makes, without making any."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medley.layers import LAYERS
from medley.records.options import StyleTransferOptions
from medley.sizes import smallest_side
from medley_workers.numbers.schedule import Level, Schedule, plan, shrunk

SIDES = st.integers(48, 1024)
SIZES = st.tuples(SIDES, SIDES)
LAYERS_ASKED = st.lists(st.sampled_from(LAYERS), min_size=1, max_size=4, unique=True)
properties = settings(deadline=None, derandomize=True, database=None)


def options(**changes: Any) -> StyleTransferOptions:
    return StyleTransferOptions.model_validate(changes)


def steps_in(schedule: Schedule) -> int:
    return sum(level.cost for level in schedule.levels) + schedule.plain_steps


@properties
@given(
    size=SIZES,
    styles=st.lists(SIZES, min_size=1, max_size=3),
    num_steps=st.integers(1, 400),
    levels=st.none() | st.integers(1, 4),
    whitened=st.none() | st.integers(0, 400),
    layers=LAYERS_ASKED,
)
def test_all_steps_take_as_long_as_was_asked_for(
    size: tuple[int, int],
    styles: list[tuple[int, int]],
    num_steps: int,
    levels: int | None,
    whitened: int | None,
    layers: list[str],
) -> None:
    asked = options(num_steps=num_steps, levels=levels, whitened_steps=whitened, style_layers=layers)
    schedule = plan(size, styles, asked)
    assert steps_in(schedule) == num_steps
    assert schedule.plain_steps >= 0
    *smaller, full = schedule.levels
    assert full.smaller == 1
    assert full.steps >= 0
    assert [level.smaller for level in smaller] == [2**n for n in range(len(smaller), 0, -1)]
    assert all(level.steps >= 1 for level in smaller)


@pytest.mark.parametrize("side", [48, 96, 97, 256, 1024])
def test_whatever_number_of_steps_is_asked_for_so_many_are_made(side: int) -> None:
    for num_steps in range(1, 401):
        assert steps_in(plan((side, side), [(side, side)], options(num_steps=num_steps))) == num_steps


@properties
@given(
    size=SIZES,
    styles=st.lists(SIZES, min_size=1, max_size=3),
    levels=st.none() | st.integers(1, 4),
    layers=LAYERS_ASKED,
)
def test_no_picture_of_a_level_is_too_small_for_the_layers(
    size: tuple[int, int], styles: list[tuple[int, int]], levels: int | None, layers: list[str]
) -> None:
    asked = options(levels=levels, style_layers=layers)
    least = smallest_side((*asked.content_layers, *layers))
    for level in plan(size, styles, asked).levels[:-1]:
        assert all(min(shrunk(picture, level.smaller)) >= least for picture in (size, *styles))


@properties
@given(size=SIZES, levels=st.integers(1, 4), num_steps=st.integers(10, 400))
def test_there_are_as_many_levels_as_asked_for_where_there_is_room(
    size: tuple[int, int], levels: int, num_steps: int
) -> None:
    asked = options(levels=levels, num_steps=num_steps, content_layers=(), style_layers=("block1_relu1",))
    assert len(plan(size, [size], asked).levels) == levels
    deep = options(levels=levels, num_steps=num_steps)
    least = smallest_side((*deep.content_layers, *deep.style_layers))
    room = sum(round(min(size) / 2**n) >= least for n in range(1, levels))
    assert len(plan(size, [size], deep).levels) == 1 + room


def test_larger_pictures_have_more_levels() -> None:
    numbers = [len(plan((side, side), [(side, side)], options()).levels) for side in (48, 96, 192, 1024)]
    assert numbers == [1, 2, 3, 3]


def test_a_style_that_is_too_small_for_a_level_keeps_it_away() -> None:
    assert len(plan((512, 512), [(512, 512)], options()).levels) > 1
    assert len(plan((512, 512), [(512, 512), (400, 30)], options()).levels) == 1


@properties
@given(size=SIZES, num_steps=st.integers(1, 400), levels=st.none() | st.integers(1, 4))
def test_without_styles_all_steps_are_plain_and_at_full_size(
    size: tuple[int, int], num_steps: int, levels: int | None
) -> None:
    schedule = plan(size, [], options(num_steps=num_steps, levels=levels, style_layers=()))
    assert [(level.smaller, level.steps) for level in schedule.levels] == [(1, 0)]
    assert schedule.plain_steps == num_steps


@properties
@given(num_steps=st.integers(1, 400), whitened=st.integers(0, 400))
def test_no_more_steps_are_whitened_at_full_size_than_asked_for(num_steps: int, whitened: int) -> None:
    schedule = plan((256, 192), [(256, 192)], options(num_steps=num_steps, whitened_steps=whitened))
    assert schedule.levels[-1].steps <= whitened
    if num_steps >= 4 * whitened + 50:
        assert schedule.levels[-1].steps == whitened


@properties
@given(size=SIZES, num_steps=st.integers(2, 400))
def test_the_last_steps_are_plain(size: tuple[int, int], num_steps: int) -> None:
    assert plan(size, [size], options(num_steps=num_steps)).plain_steps >= 1


def test_a_hundred_steps_have_both_phases_and_smaller_sizes_take_a_part() -> None:
    schedule = plan((512, 384), [(512, 384)], options())
    assert schedule.levels[-1].steps >= 30
    assert schedule.plain_steps >= 30
    assert 0 < sum(level.cost for level in schedule.levels[:-1]) < 20


@pytest.mark.parametrize(("smaller", "steps", "cost"), [(1, 45, 45), (2, 40, 10), (2, 41, 11), (4, 40, 3), (4, 1, 1)])
def test_steps_at_smaller_sizes_count_by_their_pixels(smaller: int, steps: int, cost: int) -> None:
    assert Level(smaller, steps, 1.0, 0.01).cost == cost


def test_a_size_is_never_nothing() -> None:
    assert shrunk((401, 1), 4) == (100, 1)
