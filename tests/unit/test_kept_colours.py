"""Ways to keep the content's colours, by themselves; what a painting comes to with them is tested with whole jobs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from medley.records.options import StyleTransferOptions
from medley_workers.numbers.colours import Colours, LinearColours, LuminanceOnly, keep_colours
from medley_workers.numbers.tensors import MEAN_BGR, Pixels, to_picture

MEAN = torch.tensor(MEAN_BGR).reshape(3, 1, 1)
LUMA_RGB = np.array([0.299, 0.587, 0.114])
CHROMA_RGB = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # I and Q, by the NTSC's definition


def mixed(seed: int, height: int = 12, width: int = 16, spread: float = 30.0) -> Tensor:
    """A picture whose colours go together in some way, within 0..255 for the most part."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(3) + torch.randn((3, 3), generator=generator) * 0.4
    colours = mixing @ (torch.randn((3, height * width), generator=generator) * spread)
    return (colours + torch.randn((3, 1), generator=generator) * 20).reshape(1, 3, height, width)


def pixels(seed: int, **shape: int) -> Tensor:
    """A picture of whole numbers within 0..255."""
    return (mixed(seed, **shape) + MEAN).round().clamp(0, 255) - MEAN


def grey(picture: Tensor) -> Tensor:
    return (picture + MEAN).mean(dim=1, keepdim=True) - MEAN


def flat(picture: Tensor) -> Tensor:
    return picture.mean(dim=(2, 3), keepdim=True).expand_as(picture).clone()


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "coloured": lambda picture: picture,
    "grey": grey,
    "flat": flat,
    "flat grey": lambda p: flat(grey(p)),
}


def mean_and_covariance(picture: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    colours = picture.double().reshape(3, -1).numpy()
    return colours.mean(axis=1), np.cov(colours, bias=True)


def luma(picture: Pixels) -> NDArray[np.float64]:
    values: NDArray[np.float64] = picture @ LUMA_RGB
    return values


def test_an_option_chooses_the_way() -> None:
    ways = {None: Colours, "linalg": LinearColours, "luminance": LuminanceOnly}
    for name, way in ways.items():
        assert type(keep_colours(mixed(0), StyleTransferOptions(preserve_color=name))) is way


def test_without_the_option_everything_is_what_it_was() -> None:
    colours, picture = keep_colours(mixed(0), StyleTransferOptions()), mixed(1)
    assert colours.style(picture) is colours.seen(picture) is colours.canvas(picture) is colours.view(picture)
    np.testing.assert_array_equal(colours.picture(picture), to_picture(picture))


def test_a_style_gets_the_contents_mean_and_covariance() -> None:
    content, style = mixed(0), mixed(1, 9, 20)
    recoloured = LinearColours(content).style(style)
    assert recoloured.shape == style.shape
    for found, wanted in zip(mean_and_covariance(recoloured), mean_and_covariance(content), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-2)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 99), st.sampled_from(list(KINDS)), st.integers(0, 99), st.sampled_from(list(KINDS)),
    st.sampled_from([0.0, 1e-3, 0.3, 2.0]),
)  # fmt: skip
def test_no_style_is_stretched_beyond_the_contents_colours(
    seed: int, kind: str, style_seed: int, style_kind: str, noise: float
) -> None:
    """Grey and flat pictures have no covariance to divide by, and nearly so if they are noisy."""
    content = KINDS[kind](pixels(seed))
    style = KINDS[style_kind](pixels(style_seed, height=10, width=11)) + noise * mixed(5, 10, 11, spread=1.0)
    for colours in (LinearColours(content), LuminanceOnly(content)):
        seen, wanted = mean_and_covariance(colours.style(style)), mean_and_covariance(colours.seen(content))
        np.testing.assert_allclose(seen[0], wanted[0], atol=1e-2)
        assert np.trace(seen[1]) <= np.trace(wanted[1]) * 1.001 + 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_a_canvas_is_seen_with_the_contents_mean_and_covariance(kind: str) -> None:
    content = KINDS[kind](mixed(0, spread=15.0))
    colours = LinearColours(content)
    for canvas in (mixed(1), mixed(2, spread=5.0), mixed(3) + 500):
        for found, wanted in zip(mean_and_covariance(colours.view(canvas)), mean_and_covariance(content), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0.01, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [LinearColours, LuminanceOnly])
def test_painting_begins_with_the_content_itself(kind: str, way: type[LinearColours | LuminanceOnly]) -> None:
    content = KINDS[kind](pixels(0))
    colours = way(content)
    canvas = colours.canvas(content)
    np.testing.assert_allclose(colours.view(canvas), colours.seen(content), atol=1e-3)
    assert np.abs(colours.picture(canvas).astype(int) - to_picture(content)).max() <= 1


@pytest.mark.parametrize("kind", ["coloured", "grey"])
@pytest.mark.parametrize("way", [LinearColours, LuminanceOnly])
def test_the_gradient_through_a_view_is_the_slope(kind: str, way: type[LinearColours | LuminanceOnly]) -> None:
    """With colours that are not cut off; grey ones have two equal variances, where a root has no gradient."""
    colours = way(mixed(0, 3, 4, spread=8.0).double())
    canvas = colours.canvas(mixed(2, 3, 4, spread=8.0).double())
    canvas = (grey(canvas) + 0 * canvas if kind == "grey" else canvas).requires_grad_()
    assert torch.autograd.gradcheck(colours.view, canvas, eps=1e-6, atol=1e-4, rtol=1e-4)


def test_a_flat_canvas_has_a_gradient_too() -> None:
    canvas = flat(mixed(1)).requires_grad_()
    (gradient,) = torch.autograd.grad(LinearColours(mixed(0)).view(canvas)[..., 0, 0].sum(), canvas)
    assert gradient.isfinite().all()


def test_a_canvas_that_is_no_number_is_an_error_of_the_loss_alone() -> None:
    assert LinearColours(mixed(0)).view(torch.full((1, 3, 12, 16), torch.nan)).isnan().all()


def test_people_see_the_contents_mean_and_covariance_where_colours_are_cut_off() -> None:
    content = pixels(0, height=40, width=40)
    shown = LinearColours(content).picture(mixed(1, 40, 40).sign() * mixed(1, 40, 40).abs() ** 1.7)
    assert ((shown == 0) | (shown == 255)).mean() > 0.02
    painted = torch.from_numpy(shown.copy()).permute(2, 0, 1).flip(0).float() - MEAN
    (mean, covariance), (wanted, wanted_covariance) = mean_and_covariance(painted), mean_and_covariance(content)
    np.testing.assert_allclose(mean, wanted, atol=1.0)
    assert np.linalg.norm(covariance - wanted_covariance) < 0.05 * np.linalg.norm(wanted_covariance)


def test_every_pixel_keeps_the_contents_chroma_whatever_is_painted() -> None:
    content = pixels(0)
    colours = LuminanceOnly(content)
    canvas = colours.canvas(mixed(1, spread=200.0))
    assert ((canvas < 0) | (canvas > 255)).any()
    painted, before = colours.picture(canvas), to_picture(content)
    np.testing.assert_allclose(painted @ CHROMA_RGB.T, before @ CHROMA_RGB.T, atol=0.6)
    assert np.abs(luma(painted) - luma(before)).mean() > 20


def test_the_luminance_that_people_see_is_the_one_that_the_network_saw() -> None:
    colours = LuminanceOnly(pixels(0))
    canvas = colours.canvas(mixed(1, spread=200.0))
    seen = (colours.view(canvas) + MEAN)[0]
    assert torch.allclose(seen[0], seen[2], atol=1e-3), "grey"
    np.testing.assert_allclose(luma(colours.picture(canvas)), seen[0], atol=0.6)


def test_a_luminance_is_made_of_all_three_colours_as_on_television() -> None:
    picture = pixels(1)
    np.testing.assert_allclose(LuminanceOnly(pixels(0)).canvas(picture)[0, 0], luma(to_picture(picture)), atol=1e-3)


def test_a_styles_luminance_has_the_contents_mean_and_deviation() -> None:
    content, style = mixed(0), mixed(1, 9, 20)
    colours = LuminanceOnly(content)
    recoloured, wanted = colours.style(style), colours.seen(content)
    assert recoloured.shape == style.shape
    for measure in (torch.mean, torch.std):
        assert float(measure(recoloured[0, 0])) == pytest.approx(float(measure(wanted[0, 0])), rel=0.01)


def test_a_pixel_that_crossed_its_bound_can_come_back_and_goes_no_further() -> None:
    colours = LuminanceOnly(pixels(0))
    for beyond in (-100.0, 400.0):
        canvas = torch.full((1, 1, 12, 16), beyond, requires_grad=True)
        (inwards,) = torch.autograd.grad((colours.view(canvas) * (beyond - 127)).sum(), canvas)
        (outwards,) = torch.autograd.grad((colours.view(canvas) * (127 - beyond)).sum(), canvas)
        assert (inwards != 0).all()
        assert (outwards == 0).all()
