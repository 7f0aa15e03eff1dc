"""Rounding with error feedback, beside the plain recipe of it, a column at a time."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from medley_workers.compressing.grid import Rounding
from medley_workers.network.coded import steps_of
from medley_workers.threads import one_thread

Floats = npt.NDArray[np.float64]

OUT, IN = 24, 20
"""180 columns: more than are rounded before the rest hears of their errors."""


@pytest.fixture
def weight() -> Tensor:
    """Kernels whose neighbouring taps are alike, as real ones are."""
    noise = torch.randn((OUT, IN, 5, 5), generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.avg_pool2d(noise, 3, stride=1)  # (OUT, IN, 3, 3)


@pytest.fixture
def moments() -> Tensor:
    """Of inputs that go together."""
    mixing = torch.randn((9 * IN, 9 * IN), generator=torch.Generator().manual_seed(2)) + 3 * torch.eye(9 * IN)
    product = mixing @ mixing.T
    return product / product.diagonal().mean()


def harm(rounded: Tensor, weight: Tensor, moments: Tensor) -> float:
    """The mean squared error of what the layer puts out."""
    error = (rounded - weight).flatten(1).double()
    return float(((error @ moments.double()) * error).sum())


def rounded_a_column_at_a_time(weight: Floats, moments: Floats, steps: Floats) -> Floats:
    """Optimal Brain Surgeon, step by step: round a column, and solve for the best change of all later ones."""
    damped = moments + 0.01 * np.diag(moments).mean() * np.eye(len(moments))
    left, integers = weight.copy(), np.empty_like(weight)
    for column in range(weight.shape[1]):
        integers[:, column] = np.round(left[:, column] / steps[column])
        error = left[:, column] - integers[:, column] * steps[column]
        later = slice(column + 1, None)
        # Least over d of (e, d) H (e, d)^T: the later weights move by d = e H[column, later] H[later, later]^-1.
        left[:, later] += np.outer(error, np.linalg.solve(damped[later, later], damped[later, column]))
    return integers


def test_it_is_optimal_brain_surgeon(weight: Tensor, moments: Tensor) -> None:
    layer = Rounding(weight, moments, transform=False).at(0.8)
    steps = steps_of(layer.step_logs).astype(np.float64)
    expected = rounded_a_column_at_a_time(weight.flatten(1).double().numpy(), moments.double().numpy(), steps)
    same = (layer.integers == expected).mean()
    assert same > 0.999  # a tie may go either way in float32, and then changes what follows in its row


def test_each_part_lowers_the_harm_at_equal_coarseness(weight: Tensor, moments: Tensor) -> None:
    def harm_of(**parts: bool) -> float:
        return harm(Rounding(weight, moments, **parts).at(0.8).weight(), weight, moments)

    plain = harm_of(feedback=False, column_steps=False)
    assert harm_of(column_steps=False) < 0.8 * plain
    assert harm_of() < 0.8 * plain


@pytest.mark.parametrize("parts", [{}, {"transform": False}, {"feedback": False}])
def test_a_finer_grid_is_truer(parts: dict[str, bool], weight: Tensor, moments: Tensor) -> None:
    rounding = Rounding(weight, moments, **parts)
    harms = [harm(rounding.at(coarseness).weight(), weight, moments) for coarseness in (1.0, 0.25, 0.0625)]
    assert harms[0] > 8 * harms[1] > 64 * harms[2]


def test_with_nothing_known_of_the_inputs_it_is_the_nearest_integer(weight: Tensor) -> None:
    layer = Rounding(weight, None, transform=False).at(0.5)
    assert len(set(layer.step_logs)) == 1
    step = float(steps_of(layer.step_logs)[0])
    np.testing.assert_array_equal(layer.integers, np.round(weight.flatten(1).numpy() / step))


def test_the_transform_is_the_kernels_own(weight: Tensor) -> None:
    taps = Rounding(weight, None).at(0.5).taps.astype(np.float64)
    np.testing.assert_allclose(taps.T @ taps, np.eye(9), atol=2e-3)
    kernels = weight.reshape(-1, 9).double().numpy() @ taps
    together = kernels.T @ kernels
    energy = np.diag(together)
    assert (np.diff(energy) < 0).all()
    assert abs(together - np.diag(energy)).max() < 0.01 * energy[0]


def test_one_thread_is_for_the_inside_only() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
