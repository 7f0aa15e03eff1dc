"""L-BFGS for several pictures at once, with a first guess of the curvature that knows what pictures are like.

Liu and Nocedal, "On the limited memory BFGS method for large scale optimization" (1989), in the compact form of Byrd,
Nocedal and Schnabel (1994): two small triangular systems take the place of a loop over the pairs, and no value is
looked at, for which the device would be waited for.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from medley.costs import FAST_HISTORY

STEP_CAP = 5.0
"""A step moves a picture's pixels by so many grey levels at most (root mean square): the first ones, whose curvature is
a guess, would overshoot otherwise. Searched for, as the numbers of :mod:`medley_workers.numbers.schedule` were."""

_LEAST_CURVATURE = 1e-10
"""A pair whose product is less tells nothing of the curvature, and is not used; the bound of torch.optim.LBFGS."""


class PicturePreconditioner:
    """The first guess of the inverse curvature, D F D, for canvases (N, C, H, W).

    F divides each spatial frequency by its size, as the spectrum of a picture's changes falls with it. D is of each
    pixel: small where the gradient changed much for what the picture changed. Both are symmetric and positive. It is
    medley's own, and its numbers were searched for as those of :mod:`medley_workers.numbers.schedule`.
    """

    _DECAY = 0.85
    """Of what was seen a step earlier, so much counts."""

    _BOX = 5
    """Px; the mean of so many squares in a row and a column is what is seen of a pixel."""

    _FLOOR = 0.005
    """Of the mean: no pixel counts as flatter than this."""

    _POWER = 0.3
    """How much D follows what was seen: nought would be not at all."""

    def __init__(self, canvas: Tensor) -> None:
        """For canvases like this one, (N, C, H, W)."""
        height, width = canvas.shape[2:]
        down = torch.fft.fftfreq(height, device=canvas.device)[:, None]
        across = torch.fft.rfftfreq(width, device=canvas.device)[None]
        lowest = 1.0 / max(height, width)
        self._size = (height, width)
        self._filter = (down.square() + across.square()).clamp(min=lowest**2).rsqrt()  # (H, W // 2 + 1)
        self._seen: Tensor | None = None
        self._pixels: Tensor | None = None

    def observe(self, change: Tensor) -> None:
        """Learn from how the gradient changed in the last step."""
        edge = self._BOX // 2
        squares = change.square().sum(dim=1, keepdim=True)
        seen = F.avg_pool2d(F.pad(squares, (edge,) * 4, mode="replicate"), self._BOX, stride=1)
        seen = seen / _mean(seen).clamp(min=torch.finfo(seen.dtype).tiny)
        self._seen = seen if self._seen is None else self._DECAY * self._seen + seen
        mean = _mean(self._seen).clamp(min=torch.finfo(seen.dtype).tiny)
        pixels = (self._seen / mean + self._FLOOR).pow(-self._POWER)
        self._pixels = pixels / _mean(pixels)

    def __call__(self, x: Tensor) -> Tensor:
        """The guess, times ``x``."""
        if self._pixels is not None:
            x = x * self._pixels
        x = torch.fft.irfft2(torch.fft.rfft2(x) * self._filter, s=self._size)
        return x if self._pixels is None else x * self._pixels


class LBFGS:
    """Moves canvases (N, C, H, W), each for itself. No step is searched for: each has the length that is guessed."""

    def __init__(
        self,
        canvas: Tensor,
        precondition: PicturePreconditioner,
        *,
        first: float = 1.0,
        history: int = FAST_HISTORY,
        within: Callable[[Tensor], Tensor] = lambda canvas: canvas,
    ) -> None:
        """Begin.

        Args:
            canvas: like those that are to be moved; not looked at
            precondition: the first guess of the inverse curvature
            first: the first step's length, in grey levels (root mean square)
            history: pairs of vectors that are remembered
            within: brings a canvas back to what can be painted, which the next step starts from
        """
        number, values = len(canvas), canvas[0].numel()
        self._precondition = precondition
        self._first = first
        self._within = within
        self._most = history
        self._pairs = 0
        self._moves = canvas.new_zeros(number, history, values)
        self._changes = canvas.new_zeros(number, history, values)
        self._products = canvas.new_zeros(number, history, history)  # (move, change), read where the move is no newer
        self._scale = canvas.new_ones(number, 1, 1, 1)
        self._last: tuple[Tensor, Tensor] | None = None

    def step(self, canvas: Tensor, gradient: Tensor) -> Tensor:
        """The canvases after one step, from their gradients (N, C, H, W); the next call is for what is returned."""
        if self._last is not None:
            self._remember(canvas - self._last[0], gradient - self._last[1])
        direction = self._direction(gradient)
        length = direction.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        if self._pairs:
            factor = (STEP_CAP / length).clamp(max=1.0)
        else:
            factor = torch.where(length > 0, self._first / length, 0.0)
        self._last = canvas, gradient
        return self._within(canvas + direction * factor)

    def _remember(self, move: Tensor, change: Tensor) -> None:
        self._precondition.observe(change)
        product = (move * change).sum(dim=(1, 2, 3))
        is_curved = (product > _LEAST_CURVATURE).view(-1, 1, 1, 1)
        guessed = (change * self._precondition(change)).sum(dim=(1, 2, 3))
        scale = (product / guessed).view(-1, 1, 1, 1)
        self._scale = torch.where(is_curved, scale, self._scale)
        place = self._pairs % self._most
        self._pairs += 1
        # Of a pair that tells nothing, only the product with itself is not nought, so that it has no part in anything.
        self._moves[:, place] = torch.where(is_curved, move, 0).flatten(1)
        self._changes[:, place] = torch.where(is_curved, change, 0).flatten(1)
        filled = min(self._pairs, self._most)
        products = (self._moves[:, :filled] @ self._changes[:, place, :, None])[..., 0]  # (N, pairs)
        products[:, place] = torch.where(is_curved.flatten(), product, 1)
        self._products[:, :filled, place] = products

    def _direction(self, gradient: Tensor) -> Tensor:
        if not self._pairs:
            return -self._precondition(gradient)
        filled = min(self._pairs, self._most)
        oldest = self._pairs % self._most if filled == self._most else 0
        moves, changes = self._moves[:, :filled], self._changes[:, :filled]
        products = self._products[:, :filled, :filled].roll((-oldest, -oldest), dims=(1, 2))  # the oldest pair first
        flat = gradient.flatten(1).unsqueeze(2)  # (N, values, 1)
        alpha = torch.linalg.solve_triangular(products, -(moves @ flat).roll(-oldest, dims=1), upper=True)
        rest = -gradient - (alpha.roll(oldest, dims=1).mT @ changes).view_as(gradient)
        guess = self._scale * self._precondition(rest)
        own = products.diagonal(dim1=1, dim2=2).unsqueeze(2) * alpha
        shares = own - (changes @ guess.flatten(1).unsqueeze(2)).roll(-oldest, dims=1)
        shares = torch.linalg.solve_triangular(products.mT, shares, upper=False)
        direction: Tensor = guess + (shares.roll(oldest, dims=1).mT @ moves).view_as(gradient)
        return direction


def _mean(x: Tensor) -> Tensor:
    """Of each picture, (N, 1, 1, 1)."""
    mean: Tensor = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean
