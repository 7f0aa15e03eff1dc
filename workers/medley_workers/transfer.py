"""Gradient descent on a picture, a step at a time. It knows no queue and no storage."""

import math
from collections.abc import Iterator
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

    ``index`` is how many steps the picture has had, ``losses`` the losses of this very picture, and ``image`` the
    picture, (1, 3, H, W), which is valid until the next step is asked for.
    """

    index: int
    losses: Losses
    image: Tensor

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


def start_image(content: Tensor, options: StyleTransferOptions) -> Tensor:
    """The picture before the first step, like ``content`` (1, 3, H, W): a copy of it, or noise.

    The noise is pastiche's, normal with a deviation of one grey level. It is drawn on the CPU from ``options.seed``,
    so that it is the same whatever the device.
    """
    if options.init == "content":
        return content.clone()
    generator = torch.Generator().manual_seed(options.seed)
    return torch.randn(content.shape, generator=generator).to(content.device)


def transfer(objective: Objective, start: Tensor, options: StyleTransferOptions) -> Iterator[Step]:
    """Paint: yields the picture and its loss before the first step, and after each one.

    Args:
        objective: what is minimised
        start: (1, 3, H, W), of the content's size, on any device; it is not changed
        options: ``num_steps`` and ``optimizer``

    Yields:
        Steps 0 to ``num_steps``. The loss is evaluated once for each. The values are not looked at here, as looking
        waits for the device: read :meth:`Step.loss` now and then, and end with :func:`finished_picture`.
    """
    image = start.detach().to(objective.device, copy=True).requires_grad_()
    optimizer = _optimizer(image, options)
    for index in range(options.num_steps):
        losses = objective(image)
        with plain_float32():
            (image.grad,) = torch.autograd.grad(losses.total, image)
        losses = losses.detach()
        yield Step(index, losses, image.detach())
        # The gradient is there already, and neither optimiser uses the value, for which it would wait for the device.
        optimizer.step(lambda: 0.0)
    with torch.no_grad():
        yield Step(options.num_steps, objective(image), image.detach())


def finished_picture(step: Step) -> Pixels:
    """The picture of the last step, (H, W, 3) of RGB, fit to be kept.

    Raises:
        NumbersError: the loss is not finite, or the picture is one flat colour.
    """
    step.loss()
    picture = to_picture(step.image)
    if (picture == picture[0, 0]).all():
        raise NumbersError(
            "The picture ended as one flat colour. Look at the content and the styles: one may be blank, "
            "or the weights leave nothing to paint."
        )
    return picture


def _optimizer(image: Tensor, options: StyleTransferOptions) -> torch.optim.Optimizer:
    """pastiche's optimisers; L-BFGS makes one update a step and keeps torch's default history of 100."""
    if options.optimizer == "lbfgs":
        return torch.optim.LBFGS([image], lr=1.0, max_iter=1)
    return torch.optim.Adam([image], lr=1.0)
