"""What is kept of pictures that are looked at often."""

from collections.abc import Callable, Hashable

import pytest
import torch

from medley_workers.numbers.targets import TargetCache
from medley_workers.numbers.tensors import Tensors


class Looking:
    """Makes targets of so many bytes, and counts."""

    def __init__(self) -> None:
        self.looks: list[Hashable] = []

    def __call__(self, key: Hashable, size: int = 40) -> Callable[[], Tensors]:
        def make() -> Tensors:
            self.looks.append(key)
            return {"a": torch.zeros(size // 8), "b": torch.zeros(size // 8)}

        return make


@pytest.fixture
def look() -> Looking:
    return Looking()


def test_what_was_made_is_not_made_again(look: Looking) -> None:
    cache = TargetCache(100)
    first = cache.get("x", look("x"))
    assert cache.get("x", look("x")) is first
    assert look.looks == ["x"]


def test_what_was_used_longest_ago_goes_first(look: Looking) -> None:
    cache = TargetCache(100)  # room for two
    for key in ("x", "y", "x", "z", "x", "y"):
        cache.get(key, look(key))
    assert look.looks == ["x", "y", "z", "y"]


def test_bytes_are_counted_and_not_entries(look: Looking) -> None:
    cache = TargetCache(100)
    for key, size in (("small", 16), ("middle", 48), ("small", 16), ("large", 80), ("small", 16), ("middle", 48)):
        cache.get(key, look(key, size))
    assert look.looks == ["small", "middle", "large", "middle"]


def test_as_many_bytes_as_are_allowed_are_kept(look: Looking) -> None:
    cache = TargetCache(80)
    for key in ("x", "y", "x", "y"):
        cache.get(key, look(key))
    assert look.looks == ["x", "y"]


@pytest.mark.parametrize("most", [0, 39])
def test_what_has_no_room_is_given_all_the_same(most: int, look: Looking) -> None:
    cache = TargetCache(most)
    for _ in range(2):
        assert cache.get("x", look("x"))["a"].numel() == 5
    assert look.looks == ["x", "x"]


def test_nothing_is_kept_under_none(look: Looking) -> None:
    cache = TargetCache(100)
    for _ in range(2):
        cache.get(None, look(None))
    assert look.looks == [None, None]


def test_all_can_be_let_go_of(look: Looking) -> None:
    cache = TargetCache(100)
    cache.get("x", look("x"))
    cache.clear()
    cache.get("x", look("x"))
    assert look.looks == ["x", "x"]


def test_what_could_not_be_made_is_made_the_next_time(look: Looking) -> None:
    cache = TargetCache(100)

    def fail() -> Tensors:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.get("x", fail)
    cache.get("x", look("x"))
    assert look.looks == ["x"]
