"""Walks of z: steps of one length, along curves that are smooth and stay near the origin."""

from itertools import islice, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medley.records.networks import WalkOptions
from medley_workers.random_networks import bezier
from medley_workers.random_networks.bezier import walk

Floats = npt.NDArray[np.float64]


def steps(positions: Floats, loop: bool = False) -> Floats:
    """The vectors from each position to the next; of a loop, back to the first as well."""
    return np.diff(np.concatenate([positions, positions[: int(loop)]]), axis=0)


def degrees(vectors: Floats) -> Floats:
    """How far each vector is turned against the one before."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    turned: Floats = np.degrees(np.arccos(np.clip((units[1:] * units[:-1]).sum(axis=1), -1, 1)))
    return turned


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    z_dims=st.integers(2, 12),
    step=st.floats(1e-3, 0.5),
    frames=st.integers(3, 400),
    loop=st.booleans(),
)
@example(seed=0, z_dims=32, step=0.5, frames=100, loop=True)
@example(seed=0, z_dims=4, step=1e-4, frames=50, loop=False)
@example(seed=0, z_dims=4, step=1e-4, frames=50, loop=True)
@example(seed=0, z_dims=2, step=0.1, frames=3000, loop=False)  # with sharp turns
def test_all_steps_are_of_one_length(seed: int, z_dims: int, step: float, frames: int, loop: bool) -> None:
    positions = walk(WalkOptions(seed=seed, z_dims=z_dims, step=step, frames=frames, loop=loop))
    assert positions.shape == (frames, z_dims)
    lengths = np.linalg.norm(steps(positions, loop), axis=1)
    assert np.abs(lengths / step - 1).max() < (0.005 if loop else 1e-5)
    assert np.abs(positions).max() < (5 if loop else 2)


def test_where_no_curve_is_gentle_enough_a_loop_is_a_circle() -> None:
    options = WalkOptions(z_dims=2, step=0.5, frames=2000, loop=True)
    to_and_fro = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert bezier._evened(to_and_fro, 3) is None, "three points of a line are not equally far apart"
    positions = bezier._circle(options)
    assert np.linalg.norm(steps(positions, loop=True), axis=1) == pytest.approx(0.5)
    assert np.abs(positions).max() <= 1
    assert len(np.unique(positions.round(6), axis=0)) > 100


@pytest.mark.parametrize("frames", [1, 2])
def test_a_walk_may_be_short_but_a_loop_goes_round(frames: int) -> None:
    assert len(walk(WalkOptions(frames=frames))) == frames
    with pytest.raises(ValidationError, match="does not go round"):
        WalkOptions(frames=frames, loop=True)


@pytest.mark.parametrize("loop", [False, True])
def test_by_default_a_walk_turns_gently_also_at_the_seam_of_a_loop(loop: bool) -> None:
    for seed in range(12):
        vectors = steps(walk(WalkOptions(seed=seed, loop=loop)), loop)
        around = np.concatenate([vectors, vectors[: int(loop)]])
        assert degrees(around).max() < 25
        assert np.linalg.norm(vectors.sum(axis=0)) < 1e-6 or not loop


def test_it_gets_about() -> None:
    reached = [np.ptp(walk(WalkOptions(seed=seed, frames=3000)), axis=0).min() for seed in range(5)]
    assert min(reached) > 1.5, "each coordinate has most of -1 to 1"


def test_each_curves_first_handle_continues_the_slope_of_the_curve_before() -> None:
    for before, after in pairwise(islice(bezier._curves(bezier._nodes(WalkOptions(seed=3), 0)), 30)):
        assert (after[0] == before[3]).all()
        assert after[1] - after[0] == pytest.approx(before[3] - before[2])
        assert np.linalg.norm(after[1] - after[0]) > 0.1


def test_walks_do_not_change() -> None:
    """Two workers, or two versions, that walk differently would tear a video."""
    begin = walk(WalkOptions(seed=1, z_dims=3, step=0.1, frames=20))[[0, 1, 19]]
    assert begin == pytest.approx(
        np.array([[-0.642363, 0.708789, 0.825247], [-0.639743, 0.639853, 0.897642], [-0.273194, -0.738263, 0.702541]]),
        abs=1e-6,
    )
    loop = walk(WalkOptions(seed=1, z_dims=3, step=0.1, frames=20, loop=True))[[0, 1, 19]]
    assert loop == pytest.approx(
        np.array([[-0.06157, 0.219751, -0.027041], [-0.078926, 0.318048, -0.021682], [-0.07582, 0.132861, 0.020367]]),
        abs=1e-6,
    )


def test_a_longer_walk_begins_as_a_shorter_one() -> None:
    longer, shorter = (walk(WalkOptions(seed=5, frames=frames)) for frames in (700, 300))
    assert (longer[:300] == shorter).all()


@pytest.mark.parametrize("changes", [{"seed": 8}, {"z_dims": 5}, {"step": 0.02}, {"loop": True}])
def test_others_are_other_walks(changes: dict[str, Any]) -> None:
    base = walk(WalkOptions(seed=7, frames=50))
    other = walk(WalkOptions.model_validate({"seed": 7, "frames": 50, **changes}))
    assert base.shape != other.shape or not np.allclose(base, other)


def test_nobody_can_change_a_walk_that_others_get() -> None:
    with pytest.raises(ValueError, match="read-only"):
        walk(WalkOptions())[0] = 0
