"""The optimiser of the fast path, beside torch's own and beside the loop of the textbook, in float64."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from medley_workers.numbers.lbfgs import LBFGS, STEP_CAP, PicturePreconditioner

SHAPE = (3, 6, 7)
VALUES = 3 * 6 * 7

Slope = Callable[[Tensor], Tensor]


class Identity(PicturePreconditioner):
    """Knows nothing of pictures."""

    def __init__(self) -> None:
        pass

    def observe(self, change: Tensor) -> None:
        pass

    def __call__(self, x: Tensor) -> Tensor:
        return x


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def canvas(seed: int, number: int = 1) -> Tensor:
    return drawn(seed, number, *SHAPE)


def bowl(seed: int, narrow: float = 50.0) -> Slope:
    """The gradient of a convex quadratic of canvases (N, C, H, W), ``narrow`` times as steep one way as another."""
    axes, _ = torch.linalg.qr(drawn(seed, VALUES, VALUES))
    matrix = axes @ torch.diag(torch.linspace(1.0, narrow, VALUES, dtype=torch.float64)) @ axes.T
    return lambda x: (x.flatten(1) @ matrix).view_as(x)


def moved(optimizer: LBFGS, slope: Slope, start: Tensor, steps: int) -> list[Tensor]:
    canvases = [start]
    for _ in range(steps):
        canvases.append(optimizer.step(canvases[-1], slope(canvases[-1])))
    return canvases


def length(x: Tensor) -> Tensor:
    """Root mean square, of each picture."""
    return x.flatten(1).square().mean(dim=1).sqrt()


def torchs_first(gradient: Tensor) -> float:
    """The length of torch's first step."""
    return float(length(gradient * min(1.0, 1.0 / float(gradient.abs().sum()))))


@pytest.mark.parametrize("history", [60, 4, 1])
def test_without_a_guess_the_steps_are_torchs(history: int) -> None:
    slope, start = bowl(0), canvas(1)
    leaf = start.clone().requires_grad_()
    theirs = torch.optim.LBFGS([leaf], lr=1.0, max_iter=1, history_size=history)
    ours = LBFGS(start, Identity(), first=torchs_first(slope(start)), history=history)
    x, before = start, float(length(start))
    for number in range(25):
        leaf.grad = slope(leaf.detach())
        theirs.step(lambda: 0.0)  # type: ignore[no-untyped-call]
        x = ours.step(x, slope(x))
        assert torch.allclose(x, leaf, rtol=0, atol=1e-8), f"after {number + 1} steps"
    assert float(length(x)) < 0.3 * before, "it was about something"


def textbook(gradient: Tensor, pairs: Sequence[tuple[Tensor, Tensor]], guess: Callable[[Tensor], Tensor]) -> Tensor:
    """Nocedal and Wright, algorithm 7.4, for one canvas: minus the inverse curvature times the gradient."""
    q, alphas = gradient.clone(), []
    for move, change in reversed(pairs):
        alphas.append(float((move * q).sum() / (move * change).sum()))
        q = q - alphas[-1] * change
    move, change = pairs[-1]
    r = float((move * change).sum() / (change * guess(change)).sum()) * guess(q)
    for (move, change), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + (alpha - float((change * r).sum() / (move * change).sum())) * move
    return -r


@pytest.mark.parametrize("history", [1, 3, 8, 60])
def test_steps_are_those_of_the_textbook_with_the_guess_of_pictures(history: int) -> None:
    """In a ring of so many pairs, which the thirty steps fill several times; with a bound that cuts steps off."""
    slope, start = bowl(2), canvas(3) * 3
    guess = PicturePreconditioner(start.float())
    guess._filter = guess._filter.double()
    mine = PicturePreconditioner(start.float())
    mine._filter = mine._filter.double()
    optimizer = LBFGS(start, guess, history=history, within=lambda x: x.clamp(-4.0, 4.0))
    pairs: list[tuple[Tensor, Tensor]] = []
    x = start.clamp(-4.0, 4.0)
    for number in range(30):
        gradient = slope(x)
        if pairs:
            mine.observe(pairs[-1][1])
            direction = textbook(gradient, pairs[-history:], mine)
            direction = direction * min(1.0, STEP_CAP / float(length(direction)))
        else:
            direction = -mine(gradient)
            direction = direction / length(direction)
        after = optimizer.step(x, gradient)
        assert torch.allclose(after, (x + direction).clamp(-4.0, 4.0), rtol=0, atol=1e-7), f"step {number + 1}"
        pairs.append((after - x, slope(after) - gradient))
        x = after


def test_each_picture_of_a_batch_moves_as_if_it_were_alone() -> None:
    starts = [canvas(seed) * scale for seed, scale in ((1, 1.0), (2, 30.0), (3, 0.01))]
    slopes = [bowl(4), bowl(5, 500.0), bowl(6, 2.0)]

    def both(x: Tensor) -> Tensor:
        return torch.cat([slope(x[n : n + 1]) for n, slope in enumerate(slopes)])

    def optimizer(start: Tensor) -> LBFGS:
        return LBFGS(start, double(PicturePreconditioner(start.float())), history=5)

    together = moved(optimizer(torch.cat(starts)), both, torch.cat(starts), 15)
    for number, (start, slope) in enumerate(zip(starts, slopes, strict=True)):
        alone = moved(optimizer(start), slope, start, 15)
        for one, other in zip(together, alone, strict=True):
            assert torch.allclose(one[number : number + 1], other, rtol=1e-7, atol=1e-9)


def double(guess: PicturePreconditioner) -> PicturePreconditioner:
    guess._filter = guess._filter.double()
    return guess


def test_a_pair_without_curvature_is_not_used() -> None:
    """Of two pictures, one finds that the gradient went with the move, and the other goes on as it would alone."""
    slope, start, history = bowl(7), canvas(8, 2), 4
    upside_down = {3, 4}
    optimizer = LBFGS(start, Identity(), history=history)
    pairs: list[list[tuple[Tensor, Tensor] | None]] = [[], []]
    x, gradient = start, slope(start)
    for number in range(12):
        after = optimizer.step(x, gradient)
        for n in range(2):
            if used := [pair for pair in pairs[n][-history:] if pair]:
                direction = textbook(gradient[n : n + 1], used, Identity())
                expected = direction * min(1.0, STEP_CAP / float(length(direction)))
                assert torch.allclose(after[n : n + 1] - x[n : n + 1], expected, atol=1e-8), (number, n)
        move, change = after - x, slope(after) - slope(x)
        if number in upside_down:
            change[1] = -change[1]
        for n in range(2):
            is_curved = float((move[n] * change[n]).sum()) > 0
            pairs[n].append((move[n : n + 1], change[n : n + 1]) if is_curved else None)
        x, gradient = after, gradient + change
    assert [sum(pair is None for pair in of_one) for of_one in pairs] == [0, 2]


def test_while_the_gradient_stays_the_same_the_direction_does() -> None:
    """On a slope that is straight, there is no curvature to learn of."""
    straight = drawn(9, 1, *SHAPE)
    for guess in (Identity(), double(PicturePreconditioner(straight.float()))):
        canvases = moved(LBFGS(straight, guess), lambda _: straight, canvas(10), 4)
        moves = [after - before for before, after in pairwise(canvases)]
        for move in moves:
            assert torch.isfinite(move).all()
            assert torch.allclose(move / length(move), moves[0] / length(moves[0]))


def test_where_nothing_can_be_gained_nothing_moves() -> None:
    """Beside one that moves; in float32, whose range is small."""
    start, matrix = canvas(11, 2).float(), bowl(12)

    def slope(x: Tensor) -> Tensor:
        return matrix(x.double()).float()

    def flat_beside_a_bowl(x: Tensor) -> Tensor:
        gradient = slope(x)
        gradient[0] = 0
        return gradient

    optimizer = LBFGS(start, PicturePreconditioner(start), first=STEP_CAP)
    alone = LBFGS(start[1:], PicturePreconditioner(start[1:]), first=STEP_CAP)
    together = moved(optimizer, flat_beside_a_bowl, start, 5)
    assert torch.equal(together[-1][0], start[0])
    assert torch.allclose(together[-1][1:], moved(alone, slope, start[1:], 5)[-1], rtol=1e-3, atol=1e-3)


def test_a_picture_that_is_not_finite_does_not_disturb_the_other() -> None:
    start, slope = canvas(13, 2), bowl(14)
    broken = start.clone()
    broken[0] = torch.nan
    found = moved(LBFGS(start, double(PicturePreconditioner(start.float()))), slope, broken, 8)[-1]
    assert torch.isnan(found[0]).all()
    alone = moved(LBFGS(start[1:], double(PicturePreconditioner(start[1:].float()))), slope, start[1:], 8)[-1]
    assert torch.allclose(found[1:], alone)


def test_the_first_step_is_as_long_as_was_said_and_no_other_longer_than_the_cap() -> None:
    start, slope = canvas(15, 2) * 1_000, bowl(16, 3_000.0)
    for first in (1.0, STEP_CAP, 2.0):
        optimizer = LBFGS(start, double(PicturePreconditioner(start.float())), first=first)
        canvases = moved(optimizer, slope, start, 20)
        lengths = [length(after - before) for before, after in pairwise(canvases)]
        assert lengths[0].tolist() == pytest.approx([first, first])
        assert max(float(found.max()) for found in lengths[1:]) <= STEP_CAP * (1 + 1e-9)
        assert max(float(found.max()) for found in lengths[1:]) > 0.9 * STEP_CAP, "the cap was needed"


def test_every_canvas_is_within_what_can_be_painted() -> None:
    slope, start = bowl(17), canvas(18)
    goal = torch.linspace(-3, 3, VALUES, dtype=torch.float64).view_as(start)
    optimizer = LBFGS(start, double(PicturePreconditioner(start.float())), within=lambda x: x.clamp(-1, 1))
    canvases = moved(optimizer, lambda x: slope(x - goal), start.clamp(-1, 1), 40)
    assert all(float(found.abs().max()) <= 1 for found in canvases)
    assert float((canvases[-1] - goal).norm()) < float((canvases[0] - goal).norm())


@pytest.mark.parametrize("size", [(6, 7), (9, 4), (2, 2)])
def test_the_guess_is_symmetric_and_positive(size: tuple[int, int]) -> None:
    """Or directions would not lead down."""
    x, y = (drawn(seed, 2, 3, *size) for seed in (19, 20))
    guess = double(PicturePreconditioner(x.float()))
    for _ in range(3):
        assert torch.allclose((x * guess(y)).sum(dim=(1, 2, 3)), (y * guess(x)).sum(dim=(1, 2, 3)))
        assert ((x * guess(x)).sum(dim=(1, 2, 3)) > 0).all()
        guess.observe(drawn(21, 2, 3, *size) ** 3)


def test_pixels_whose_gradient_changed_much_are_moved_less() -> None:
    flat = torch.zeros((1, 3, 16, 16), dtype=torch.float64)
    guess = double(PicturePreconditioner(flat.float()))
    change = flat + 0.1
    change[..., :8] = 10.0
    guess.observe(change)
    noise = drawn(22, *flat.shape)
    found = guess(noise)
    assert float(found[..., :6].norm()) < 0.5 * float(found[..., 10:].norm())


def test_coarse_detail_is_moved_more_than_fine() -> None:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    guess = PicturePreconditioner(torch.zeros((1, 1, 16, 16)))
    gains = []
    for waves in (1, 2, 4):
        wave = torch.sin(2 * torch.pi * waves * x / 16).expand(1, 1, 16, 16) + 0 * y
        gains.append(float(guess(wave).norm() / wave.norm()))
    assert gains == pytest.approx([16.0, 8.0, 4.0], rel=1e-4)
