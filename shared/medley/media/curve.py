"""The curve of a loss over the steps: numbers in, places on a small drawing and their labels out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 150
"""Of the drawing, labels included."""

LEFT, RIGHT, TOP, BOTTOM = 44, 308, 10, 126
"""Between these lies the curve; what is outside is for the labels."""

MOST_POINTS = 60
"""More are hardly seen at this width."""

LOG_FROM = 10.0
"""A loss that falls by more than this is drawn on a logarithmic scale, or its end would be a flat line."""

_SHORT = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Tick:
    """A label of an axis, and where on that axis it stands."""

    at: float
    label: str


@dataclass(frozen=True)
class Curve:
    """What is drawn: points from the left to the right, y growing downwards, within ``LEFT`` to ``BOTTOM``.

    ``begin`` is the loss at the ``first`` step, ``end`` that at the ``last``.
    """

    points: Sequence[tuple[float, float]]
    steps: Sequence[Tick]
    losses: Sequence[Tick]
    first: int
    last: int
    begin: float
    end: float
    logarithmic: bool


def loss_curve(losses: Sequence[tuple[int, float]]) -> Curve | None:
    """The curve of ``losses``, (step, loss) by rising step; None where fewer than two of them are finite numbers."""
    known = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    if len(known) < 2 or known[0][0] >= known[-1][0]:
        return None
    (first, begin), (last, end) = known[0], known[-1]
    low, high = min(loss for _, loss in known), max(loss for _, loss in known)
    logarithmic = low > 0 and high / low >= LOG_FROM
    across = _scale(first, last, LEFT, RIGHT)
    up = _scale(low, high, BOTTOM, TOP, logarithmic)
    return Curve(
        points=[(round(across(step), 1), round(up(loss), 1)) for step, loss in _thinned(known)],
        steps=[Tick(round(across(step), 1), f"{step:,}") for step in (first, last)],
        losses=[Tick(round(up(loss), 1), _short(loss)) for loss in _round_numbers(low, high, logarithmic)],
        first=first,
        last=last,
        begin=begin,
        end=end,
        logarithmic=logarithmic,
    )


def _scale(low: float, high: float, start: float, end: float, logarithmic: bool = False) -> Callable[[float], float]:
    """What maps ``low`` to ``start`` and ``high`` to ``end``; where both are the same, to the middle."""
    bent = math.log if logarithmic else float
    begin, extent = bent(low), bent(high) - bent(low)
    if extent == 0 or not math.isfinite(extent):
        return lambda _: (start + end) / 2
    return lambda value: start + (end - start) * (bent(value) - begin) / extent


def _thinned(known: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """At most ``MOST_POINTS`` of them, evenly, the first and the last among them."""
    if len(known) <= MOST_POINTS:
        return known
    apart = (len(known) - 1) / (MOST_POINTS - 1)
    return [known[round(n * apart)] for n in range(MOST_POINTS)]


def _round_numbers(low: float, high: float, logarithmic: bool) -> list[float]:
    """Two to four numbers between these that are easy to read; the numbers themselves, where there are none."""
    found = _powers(low, high) if logarithmic else _multiples(low, high)
    return found[:: -(-len(found) // 4)] if len(found) >= 2 else sorted({low, high})


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten between these, or with their multiples where those alone are too few."""
    exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5)):
        found = [n * 10.0**e for e in exponents for n in digits if low <= n * 10.0**e <= high]
        if len(found) >= 3:
            break
    return found


def _multiples(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between these."""
    apart = (high - low) / 3
    size = 10.0 ** math.floor(math.log10(apart)) if 0 < apart < math.inf else 0
    if size == 0 or high / size > 1e15:  # no extent, or one of the last digits
        return []
    step = next(n * size for n in (1, 2, 5, 10) if n * size >= apart * 0.99)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _short(loss: float) -> str:
    """A number in few letters: 1.2M rather than 1,234,567."""
    for size, letter in _SHORT:
        if size <= abs(loss) < 1e15:
            return f"{loss / size:.3g}{letter}"
    return f"{loss:.3g}"
