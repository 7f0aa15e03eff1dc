"""Every option means what it means in neuralart 1.1.1 itself, which runs beside ours: its pixels, but for roundings."""

from typing import Any

import numpy as np
import pytest
import torch
from neuralart import neuralart

from medley.records.networks import ArtOptions, NetworkOptions, WalkOptions
from medley_workers.numbers.tensors import Pixels
from medley_workers.random_networks.art import frames
from medley_workers.random_networks.bezier import walk
from medley_workers.random_networks.cppn import RandomNetwork


def theirs(options: NetworkOptions, z: list[float] | None) -> Pixels:
    """neuralart's picture, (H, W, C)."""
    names = ("seed", "xlim", "ylim", "xres", "yres", "units", "depth", "hidden_std", "output_std")
    same = {name: getattr(options, name) for name in names}
    flags = {"radius": not options.no_radius, "bias": not options.no_bias}
    picture: Pixels = neuralart.render(**same, **flags, channels=options.channels, z=z)
    return picture


def ours(options: ArtOptions) -> Pixels:
    picture: Pixels = RandomNetwork(options, len(options.z)).render(np.array([options.z]))[0]
    return picture


def require_same(one: Pixels, other: Pixels) -> None:
    """One grey level apart where a rounding tips it, and in few pixels."""
    assert one.shape == other.shape
    differences = np.abs(one.astype(int) - other)
    assert differences.max() <= 1
    assert (differences > 0).mean() < 0.005


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"seed": 2**63 - 1},
        {"seed": 2**32 + 5, "color_space": "bw"},
        {"no_radius": True},
        {"no_bias": True},
        {"no_radius": True, "no_bias": True, "color_space": "bw"},
        {"z": (0.5,)},
        {"z": (1.0, -2.0, 3.5, 0.1)},
        {"z": (0.3, -0.3) * 10, "no_bias": True},
        {"z": (0.7, 0.1), "no_radius": True, "color_space": "bw", "depth": 1},
        {"units": 1, "depth": 1},
        {"units": 5, "depth": 3, "hidden_std": 2.0},
        {"units": 17, "depth": 16},
        {"units": 100, "depth": 4},
        {"units": 1024, "depth": 2, "xres": 24},
        {"hidden_std": 0.3, "output_std": 8.0},
        {"hidden_std": 0.0},
        {"output_std": 0.0},
        {"xlim": (-3.0, 5.5)},
        {"xlim": (0.0, 0.001)},
        {"xlim": (-0.5, 2.0), "ylim": (-7.0, -6.1)},
        {"xlim": (-0.5, 2.0), "ylim": (-7.0, -6.1), "yres": 83},
        {"xres": 1, "yres": 7},
        {"xres": 131, "yres": 1},
    ],
    ids=str,
)
def test_pixels_are_neuralarts(asked: dict[str, Any]) -> None:
    options = ArtOptions.model_validate({"seed": 1, "xres": 77, **asked})
    require_same(ours(options), theirs(options, list(options.z) or None))


def test_many_seeds_are_neuralarts() -> None:
    for seed in range(100, 130):
        options = ArtOptions(seed=seed, xres=40)
        require_same(ours(options), theirs(options, None))


@pytest.mark.parametrize("loop", [False, True])
def test_a_walk_shows_neuralarts_pictures_of_its_positions(loop: bool) -> None:
    options = WalkOptions(seed=5, xres=48, yres=31, frames=9, loop=loop)
    for frame, z in zip(frames(options, 0, 9), walk(options), strict=True):
        require_same(frame, theirs(options, list(z)))


def test_the_weights_are_drawn_as_neuralart_draws_them() -> None:
    """Pixels would not tell a last bit, or a layer that is drawn too often behind the last."""
    options = ArtOptions(seed=77, units=5, depth=2, z=(0.0,), hidden_std=1.7, output_std=0.6)
    torch.manual_seed(77)
    drawn = [torch.randn(5, 5) * 1.7, torch.randn(6, 5) * 1.7, torch.randn(6, 3) * 0.6]  # (1 + inputs, units)
    network = RandomNetwork(options, 1)
    assert torch.equal(torch.cat([network._first.T, torch.from_numpy(network._of_z).float()]), drawn[0])
    assert torch.equal(network._hidden[0].T, drawn[1])
    assert torch.equal(network._last.T * 2, drawn[2])
