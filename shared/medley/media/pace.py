"""Which pictures of a gradient descent a video shows, and when: equal time shows equal change."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_UNSEEN = 1 / 512
"""A share of a blend that changes no 8-bit sample by half a step."""

_LEAST_STEP = 0.01
"""What each step has at least, as a share of the mean change."""


class Mix(NamedTuple):
    """A blend of two pictures, named by their numbers; ``near`` comes first on the way, ``share`` is ``far``'s."""

    near: int
    far: int
    share: float


def chosen(count: int, most: int) -> list[int]:
    """At most ``most`` (>= 2) of ``count`` pictures: the first, the last, and the denser the nearer to the beginning.

    The gaps grow linearly, as early steps change a painting more.
    """
    size = min(count, most)
    numbers: list[int] = []
    for n in range(size):
        wanted = round((count - 1) * (n / max(1, size - 1)) ** 2)
        numbers.append(max(wanted, numbers[-1] + 1 if numbers else 0))
    return numbers


def places(thumbnails: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Where between 0, the first picture, and 1, the last, each one stands, by the change up to it.

    Thumbnails have one shape; change is their mean absolute difference. No two stand in one place, even if nothing
    changes between them.
    """
    steps = np.array([_change(before, after) for before, after in itertools.pairwise(thumbnails)])
    if len(steps):
        steps += steps.mean() * _LEAST_STEP or 1
    distance: NDArray[np.float64] = np.cumsum([0.0, *steps])
    return distance / (distance[-1] or 1)


def mixes(placed: NDArray[np.float64], moments: Sequence[float]) -> list[Mix]:
    """What stands at each moment, 0 to 1, all rising or all falling, of pictures at these places."""
    falling = len(moments) > 1 and moments[0] > moments[-1]
    return [_mix(number, falling) for number in np.interp(moments, placed, np.arange(len(placed))).tolist()]


def _mix(number: float, falling: bool) -> Mix:
    """A number between two pictures' as a blend."""
    if abs(number - round(number)) < _UNSEEN:
        return Mix(round(number), round(number), 0.0)
    below, above = math.floor(number), math.ceil(number)
    return Mix(above, below, above - number) if falling else Mix(below, above, number - below)


def _change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    return float(np.abs(before.astype(np.int16) - after).mean())
