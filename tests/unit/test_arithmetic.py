"""Ways to compute a convolution: each beside torch's own gradient, and which of them is chosen."""

from collections.abc import Iterator
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medley.errors import UsageError
from medley_workers.numbers import arithmetic as module
from medley_workers.numbers import winograd
from medley_workers.numbers.arithmetic import Arithmetic, choose, make

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(params=get_args(Arithmetic))
def arithmetic(request: pytest.FixtureRequest) -> Arithmetic:
    try:
        return choose(CPU, request.param)
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """Nobody has asked yet which is the quickest, and nobody is told afterwards what was found here."""
    module._quickest.cache_clear()
    yield
    module._quickest.cache_clear()


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_near(found: Tensor, expected: Tensor, arithmetic: Arithmetic) -> None:
    assert found.shape == expected.shape
    off = float((found.double() - expected.double()).norm() / expected.double().norm())
    assert off <= (0.02 if "bfloat16" in arithmetic else 1e-5)


@pytest.mark.parametrize("relu", [True, False])
def test_a_convolution_and_its_gradient_are_torchs(arithmetic: Arithmetic, relu: bool) -> None:
    """The gradient is the one before the ReLU; of the input, a ReLU made it, and something else pulls at it too."""
    x, weight, bias = drawn(0, 2, 32, 9, 11).relu(), drawn(1, 48, 32, 3, 3) / 17, drawn(2, 48)
    gradient, elsewhere = drawn(3, 2, 48, 9, 11), drawn(4, 2, 32, 9, 11)
    convolution = make(arithmetic, weight, bias)
    expected = F.conv2d(x, weight, bias, padding=1)
    assert_near(convolution.forward(x, relu=relu), expected.relu() if relu else expected, arithmetic)
    alone = F.conv_transpose2d(gradient, weight, padding=1)
    assert_near(convolution.backward(gradient, (9, 11)), alone, arithmetic)
    own = convolution.forward(x).dtype
    both = convolution.backward(gradient, (9, 11), mask=x.to(own), add=elsewhere.to(own))
    assert_near(both, (alone + elsewhere) * (x > 0), arithmetic)


def test_what_is_pooled_is_torchs(arithmetic: Arithmetic) -> None:
    x, weight, bias = drawn(0, 2, 32, 9, 10).relu(), drawn(1, 48, 32, 3, 3) / 17, drawn(2, 48)
    convolution = make(arithmetic, weight, bias)
    output, index = convolution.forward_pooled(x)
    leaf = x.clone().requires_grad_()
    pooled = F.max_pool2d(F.conv2d(leaf, weight, bias, padding=1).relu(), 2)
    assert_near(output, pooled.detach(), arithmetic)
    if "bfloat16" in arithmetic:
        return  # rounding decides which of four is the largest, too often to compare
    gradient = drawn(3, *output.shape) * (output > 0)
    (expected,) = torch.autograd.grad(pooled, leaf, gradient)
    assert_near(convolution.backward(gradient, (9, 10), index), expected, arithmetic)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("missing", [None, "There is no compiler here."])
def test_auto_takes_the_quickest_of_those_that_can_be_had(missing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"winograd_bfloat16": 0.5, "winograd": 1.0, "bfloat16": 2.0, "channels_last": 3.0, "float32": 4.0}
    monkeypatch.setattr(module, "_seconds", seconds.__getitem__)
    monkeypatch.setattr(winograd, "unavailable", lambda: missing)
    monkeypatch.setattr(winograd, "has_bf16", lambda: True)
    assert choose(CPU) == ("bfloat16" if missing else "winograd_bfloat16")
    module._quickest.cache_clear()
    monkeypatch.setattr(winograd, "has_bf16", lambda: False)
    assert choose(CPU) == ("bfloat16" if missing else "winograd")


@pytest.mark.usefixtures("unmeasured")
def test_what_auto_takes_here_can_be_asked_for_and_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose(CPU)
    assert choose(CPU, chosen) == chosen
    monkeypatch.setattr(module, "_seconds", lambda _: pytest.fail("it was measured again"))
    assert choose(CPU) == chosen


def test_asking_for_what_cannot_be_had_is_an_error_that_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "unavailable", lambda: "There is no compiler here.")
    with pytest.raises(UsageError, match=r"MEDLEY_ARITHMETIC is winograd.*no compiler"):
        choose(CPU, "winograd")
    with pytest.raises(UsageError, match="MEDLEY_ARITHMETIC is winograd"):
        choose(GPU, "winograd")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("missing", [None, "There is no compiler here."])
def test_what_must_be_the_same_each_time_is_chosen_without_a_clock(
    missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_seconds", lambda _: pytest.fail("it was measured"))
    monkeypatch.setattr(winograd, "unavailable", lambda: missing)
    assert choose(CPU, deterministic=True) == ("channels_last" if missing else "winograd")
    assert choose(CPU, "float32", deterministic=True) == "float32"
