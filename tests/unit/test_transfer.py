"""Painting a step at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medley.errors import NumbersError
from medley.records.options import StyleTransferOptions
from medley.records.weights import DEFAULT_WEIGHTS
from medley_workers.network.loading import load_weights
from medley_workers.network.vgg import Network
from medley_workers.network.weights import find_weights
from medley_workers.numbers.losses import Losses, Objective
from medley_workers.numbers.transfer import Step, deterministic, finished_picture, start_image, transfer

Options = Callable[..., StyleTransferOptions]


class Counted(Objective):
    """An objective that counts how often it is evaluated."""

    evaluations = 0

    def __call__(self, image: Tensor) -> Losses:
        self.evaluations += 1
        return super().__call__(image)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(load_weights(find_weights(DEFAULT_WEIGHTS)), "cpu")


@pytest.fixture
def content() -> Tensor:
    return picture(0)


@pytest.fixture
def objective(network: Network, content: Tensor) -> Counted:
    return Counted(network, content, [picture(1)], [1.0], options())


def picture(seed: int) -> Tensor:
    return torch.randn((1, 3, 18, 20), generator=torch.Generator().manual_seed(seed)) * 40


def options(**changes: Any) -> StyleTransferOptions:
    layers = {"content_layers": ("block2_relu1",), "style_layers": ("block1_relu1", "block2_relu1")}
    return StyleTransferOptions.model_validate({**layers, "num_steps": 8, **changes})


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_each_step_has_its_own_pictures_loss(optimizer: str, objective: Counted, content: Tensor) -> None:
    start = start_image(content, options())
    indices, losses = [], []
    for step in transfer(objective, start, options(optimizer=optimizer)):
        indices.append(step.index)
        losses.append(step.loss())
        assert losses[-1] == float(objective(step.canvas).total)
        assert step.losses is not None
        assert not step.losses.total.requires_grad
    assert indices == list(range(9))
    assert losses[0] == float(objective(content).total)
    assert losses[-1] < losses[0] / 2
    assert torch.equal(start, content)


def test_nothing_is_evaluated_twice(objective: Counted, content: Tensor) -> None:
    for step in transfer(objective, content, options()):
        assert objective.evaluations == step.index + 1


def test_lbfgs_is_torchs_with_one_update_a_step(objective: Counted, content: Tensor) -> None:
    image = content.clone().requires_grad_()
    optimizer: torch.optim.Optimizer = torch.optim.LBFGS([image], max_iter=1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = objective(image).total
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    for _ in range(8):
        optimizer.step(closure)
    *_, last = transfer(objective, content, options())
    assert torch.equal(last.canvas, image)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_canvas_is_painted_on_through_its_view(optimizer: str, objective: Counted, content: Tensor) -> None:
    def view(canvas: Tensor) -> Tensor:
        return canvas.transpose(2, 3).expand(1, 3, 18, 20)  # its gradient is transposed too, which L-BFGS cannot take

    steps = transfer(objective, content[:, :1].transpose(2, 3), options(optimizer=optimizer), view)
    losses = []
    for step in steps:
        assert step.canvas.shape == (1, 1, 20, 18)
        losses.append(step.loss())
        assert losses[-1] == float(objective(view(step.canvas)).total)
    assert losses[-1] < losses[0] / 2


def test_the_same_request_gives_the_same_pixels(objective: Counted, content: Tensor) -> None:
    first, second = ([*transfer(objective, content, options())][-1] for _ in range(2))
    assert torch.equal(first.canvas, second.canvas)


def test_the_start_is_the_content_or_noise_from_the_seed(content: Tensor) -> None:
    assert torch.equal(start_image(content, options()), content)
    noise = start_image(content, options(init="noise", seed=7))
    assert noise.shape == content.shape
    assert float(noise.std()) == pytest.approx(1.0, abs=0.1)
    torch.manual_seed(123)
    assert torch.equal(noise, start_image(content, options(init="noise", seed=7)))
    assert not torch.equal(noise, start_image(content, options(init="noise", seed=8)))


def test_the_start_is_the_picture_that_is_given(content: Tensor) -> None:
    init = picture(3)
    start = start_image(content, options(), init)
    assert torch.equal(start, init)
    assert start is not init


def test_a_mode_of_torchs_that_was_on_stays_on() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with deterministic(True):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("at", [0, 1, 5, 8])
def test_what_was_kept_of_a_step_is_gone_on_with(at: int, optimizer: str, objective: Counted, content: Tensor) -> None:
    chosen = options(optimizer=optimizer)
    steps = []
    for step in transfer(objective, content, chosen):
        steps.append(step)
        if step.index == at:
            snapshot = step.snapshot()
            canvas = snapshot.canvas.clone()
    assert torch.equal(snapshot.canvas, canvas), "it stays as it was"
    went_on = [*transfer(objective, start_image(content, chosen), chosen, snapshot=snapshot)]
    assert [step.index for step in went_on] == list(range(at, 9))
    assert torch.equal(went_on[-1].canvas, steps[-1].canvas) or at == 8
    assert went_on[0].loss() == steps[at].loss()


def test_what_is_kept_of_lbfgs_is_bounded(objective: Counted, content: Tensor) -> None:
    *_, last = transfer(objective, content, options(num_steps=20))
    snapshot = last.snapshot()
    assert sum(tensor.numel() for tensor in snapshot.optimizer_state.values()) <= 10 * content.numel() + 1


def test_lbfgs_remembers_as_many_pairs_as_it_is_told(objective: Counted, content: Tensor) -> None:
    ends = [[*transfer(objective, content, options(num_steps=20), history=history)][-1] for history in (100, 5, 19)]
    assert torch.equal(ends[0].canvas, ends[2].canvas)
    assert not torch.equal(ends[0].canvas, ends[1].canvas)
    assert ends[1].loss() < 1.5 * ends[0].loss()


def test_a_loss_that_is_not_finite_is_an_error_when_it_is_looked_at(objective: Counted, content: Tensor) -> None:
    content[0, 0, 0, 0] = torch.inf
    *_, last = transfer(objective, content, options())
    with pytest.raises(NumbersError, match="after 8 steps"):
        last.loss()
    with pytest.raises(NumbersError, match="after 8 steps"):
        finished_picture(last)


def finished(image: Tensor) -> Step:
    zero = torch.zeros(())
    return Step(300, Losses(zero, zero, zero, zero), image)


def test_a_flat_picture_is_an_error() -> None:
    with pytest.raises(NumbersError, match="one flat colour"):
        finished_picture(finished(torch.full((1, 3, 4, 5), 12.3)))
    with pytest.raises(NumbersError, match="one flat colour"):
        finished_picture(finished(picture(0) - 10_000))


def test_the_finished_picture_is_the_last_image() -> None:
    pixels = finished_picture(finished(picture(0)))
    assert pixels.shape == (18, 20, 3)
    assert pixels.dtype == np.uint8
    assert 90 < pixels.mean() < 140


def test_a_painter_that_fails_at_the_last_step_leaves_gradients_on(objective: Counted, content: Tensor) -> None:
    steps = transfer(objective, content, options(num_steps=1))
    assert [next(steps).index, next(steps).index] == [0, 1]
    assert torch.is_grad_enabled(), "the next painting of this process could not be painted"
