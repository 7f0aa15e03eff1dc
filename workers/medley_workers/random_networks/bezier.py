"""Walks of z along connected cubic Bézier curves, in steps of one length.

The curves' end points are random, in a cube of side 2 about the origin. Where two curves meet, both have their handles
along one slope, a third of it away: so a curve's first handle continues the slope of the curve before, at the same
speed (C1). The slope halves the angle between the lines to the neighbours, turned a little by chance, and is as long as
the shorter line: so no curve is sharp where it ends, and few are in between.

All arithmetic is elementwise in float64, no BLAS is used, and positions are rounded to ten decimals, so every machine
walks the same way.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice

import numpy as np
import numpy.typing as npt

from medley.records.networks import WalkOptions

Floats = npt.NDArray[np.float64]
Node = tuple[Floats, Floats]
"""An end point, (Z,), and by how much chance turns the slope there, (Z,)."""

_STREAM = 0x62657A696572
"""Besides the seed, what curves are drawn from ("bezier" in ASCII), so that they share a stream with nothing else."""

_LEAST_APART = 1.0
"""Neighbouring end points are at least this far apart, which is twice the longest step: so wherever a step begins,
one of the next two end points is a step away."""

_CANDIDATES = 4
"""Of so many next end points, the one that lies most straight ahead is taken, so sharp turns are rare."""

_CHANCE = 0.5
"""Half the range in which chance turns a slope, per dimension, where the lines to the neighbours have unit length."""

_FINER = 8
"""Curves are walked as polylines, of at least so many pieces a step."""

_ROUNDS, _ATTEMPTS = 60, 12
"""How often the steps of a loop are evened out, and how many loops are drawn before a circle is taken."""

_LOOP_TOLERANCE = 0.004
"""By how much a step of a loop may differ from the mean, as a share of it; two steps then differ by less than 1 %."""


@lru_cache(maxsize=2)
def walk(options: WalkOptions) -> Floats:
    """Positions of z, (frames, z_dims).

    Each is ``step`` from the one before it, as the crow flies; of a loop this holds within half a percent, and from the
    last to the first, too. No coordinate of an open walk is beyond 2, and none of a loop's beyond 5.

    A hundred thousand take about two seconds; the last two walks are kept, so that the jobs of one walk cost this once.
    The array cannot be written to.
    """
    positions = np.round(_closed(options) if options.loop else _open(options), 10)
    positions.setflags(write=False)
    return positions


def _open(options: WalkOptions) -> Floats:
    """A walk that goes on as long as it is asked to."""
    curves = _curves(_nodes(options, attempt=0))
    steps = _march((_polyline(curve, options.step) for curve in curves), options.step)
    return np.array(list(islice(steps, options.frames)))


def _march(polylines: Iterable[Floats], step: float) -> Iterator[Floats]:
    """The beginning of connected polylines, and points on them, each ``step`` from the one before.

    The next point is where the polyline leaves the ball of that radius about the last one. As a ball is convex, that is
    on the first piece whose end is outside. So no step is shorter or longer, whatever turns the polyline takes.
    """
    position = None
    for vertices in polylines:
        if position is None:
            position = vertices[0]
            yield position
        at = 0  # the position lies before this vertex, or in an earlier polyline
        while (out := _first_outside(vertices, at, position, step)) is not None:
            inside = position if out == at else vertices[out - 1]
            position = _leaving(inside, vertices[out], position, step)
            at = out
            yield position


def _first_outside(vertices: Floats, at: int, centre: Floats, radius: float) -> int | None:
    """The first vertex from ``at`` on that is outside of a ball; None if all are inside."""
    window = 2 * _FINER
    for begin in range(at, len(vertices), window):
        outside = ((vertices[begin : begin + window] - centre) ** 2).sum(axis=1) > radius**2
        if outside.any():
            return begin + int(outside.argmax())
    return None


def _leaving(inside: Floats, outside: Floats, centre: Floats, radius: float) -> Floats:
    """Where the line between two points crosses a sphere."""
    ahead, behind = outside - inside, inside - centre
    squared, along = float((ahead * ahead).sum()), float((ahead * behind).sum())
    excess = float((behind * behind).sum()) - radius * radius  # at most 0, but for rounding
    share = (math.sqrt(max(0.0, along * along - squared * excess)) - along) / squared
    return inside + share * ahead


def _closed(options: WalkOptions) -> Floats:
    """A walk that ends a step before its beginning: a closed curve, grown or shrunk until the steps fit.

    A curve on which steps cannot be evened out is replaced by another one; this is so where steps are about as long as
    the curve's turns. After some, a circle is taken.
    """
    for attempt in range(_ATTEMPTS):
        nodes = list(islice(_nodes(options, attempt), _segments(options)))
        curves = list(_curves([nodes[-1], *nodes, *nodes[:2]]))
        length = sum(_lengths(_polyline(curve, math.inf)).sum() for curve in curves)
        polylines = [_polyline(curve, length / options.frames) for curve in curves]
        vertices = np.concatenate([polylines[0][:1], *(polyline[1:] for polyline in polylines)])
        if (positions := _evened(vertices, options.frames)) is not None:
            return _scaled(positions, options.step)
    return _circle(options)


def _segments(options: WalkOptions) -> int:
    """Curves of a loop, so many that it is about as long as its steps together: one is as long as two random points of
    the cube are apart, and a quarter more.
    """
    typical = 1.25 * math.sqrt(options.z_dims * 2 / 3)
    return max(3, round(options.frames * options.step / typical))


def _evened(vertices: Floats, frames: int) -> Floats | None:
    """Points on a closed polyline, (V, Z) with its beginning as its end, all equally far apart.

    Where steps are found shorter than others, the points move apart along the polyline.

    Returns:
        (frames, Z), or None if they cannot be brought to be.
    """
    arcs = np.concatenate([[0.0], np.cumsum(_lengths(vertices))])
    at = arcs[-1] * np.arange(frames + 1) / frames
    for _ in range(_ROUNDS):
        positions = np.stack([np.interp(at, arcs, coordinate) for coordinate in vertices.T], axis=1)
        steps = _lengths(positions)
        if np.abs(steps / steps.mean() - 1).max() <= _LOOP_TOLERANCE:
            return positions[:-1]
        gone = np.concatenate([[0.0], np.cumsum(steps)])
        at = np.interp(gone[-1] * np.arange(frames + 1) / frames, gone, at)
    return None


def _scaled(positions: Floats, step: float) -> Floats:
    """A loop, grown or shrunk about its first position until the mean step is this one."""
    mean = _lengths(np.concatenate([positions, positions[:1]])).mean()
    scaled: Floats = positions[0] + (positions - positions[0]) * (step / mean)
    return scaled


def _circle(options: WalkOptions) -> Floats:
    """A loop in a plane through the origin, about it, of radius 1 or less, gone round as often as that needs."""
    rounds = math.ceil(options.frames * math.asin(options.step / 2) / math.pi)
    angles = 2 * math.pi * rounds * np.arange(options.frames) / options.frames
    radius = options.step / (2 * math.sin(math.pi * rounds / options.frames))
    positions = np.zeros((options.frames, options.z_dims))
    positions[:, 0], positions[:, 1] = radius * np.cos(angles), radius * np.sin(angles)
    return positions


def _nodes(options: WalkOptions, attempt: int) -> Iterator[Node]:
    """Endless end points, each at least :data:`_LEAST_APART` from the one before."""
    random = np.random.Generator(np.random.PCG64([_STREAM, options.seed, attempt]))
    dims = options.z_dims
    before, point = np.zeros(dims), 2 * random.random(dims) - 1
    while True:
        yield point, _CHANCE * (2 * random.random(dims) - 1)
        candidates = [_next_point(random, point) for _ in range(_CANDIDATES)]
        ahead = [float((_unit(point - before) * _unit(to - point)).sum()) for to in candidates]  # cosines
        before, point = point, candidates[ahead.index(max(ahead))]


def _next_point(random: np.random.Generator, point: Floats) -> Floats:
    """A random point that is far enough from another; there are such, as each point is far from some corner."""
    while True:
        drawn = 2 * random.random(len(point)) - 1
        if ((drawn - point) ** 2).sum() >= _LEAST_APART**2:
            return drawn


def _curves(nodes: Iterable[Node]) -> Iterator[Floats]:
    """Curves, as four control points each, (4, Z): from the second node to the third, and on to the last but one."""
    latest: deque[Node] = deque(maxlen=4)
    for node in nodes:
        latest.append(node)
        if len(latest) == 4:
            (before, _), (begin, _), (end, _), (after, _) = latest
            first = _slope(before, latest[1], end)
            second = _slope(begin, latest[2], after)
            yield np.stack([begin, begin + first / 3, end - second / 3, end])


def _slope(before: Floats, node: Node, after: Floats) -> Floats:
    """The slope at an end point between its neighbours."""
    point, chance = node
    back, ahead = point - before, after - point
    shorter = math.sqrt(min((back * back).sum(), (ahead * ahead).sum()))
    return shorter * _unit(_unit(back) + _unit(ahead) + chance)


def _polyline(curve: Floats, step: float) -> Floats:
    """A curve (4, Z) as a polyline, (V, Z), of at least 64 pieces, each at most a step / _FINER long."""
    fastest = 3 * _lengths(curve).max()
    pieces = max(64, math.ceil(_FINER * fastest / step))
    t = (np.arange(pieces + 1) / pieces)[:, np.newaxis]
    begin, first, second, end = curve
    s = 1 - t
    vertices: Floats = s * s * s * begin + 3 * s * s * t * first + 3 * s * t * t * second + t * t * t * end
    return vertices


def _lengths(vertices: Floats) -> Floats:
    """How far each of a series of points, (V, Z), is from the one before, (V - 1,)."""
    lengths: Floats = np.sqrt((np.diff(vertices, axis=0) ** 2).sum(axis=1))
    return lengths


def _unit(vector: Floats) -> Floats:
    """A vector's direction; no direction has none."""
    length = math.sqrt((vector * vector).sum())
    return vector / length if length else vector
