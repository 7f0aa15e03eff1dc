"""The fast path: where it ends, what it tells on the way, and what it leaves alone."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import draw_picture
from medley.errors import UsageError
from medley.records.options import StyleTransferOptions
from medley_workers.numbers.arithmetic import Arithmetic
from medley_workers.numbers.colours import keep_colours
from medley_workers.numbers.extractor import Extractor
from medley_workers.numbers.fast import Descent
from medley_workers.numbers.fast_network import FastNetwork
from medley_workers.numbers.losses import Objective
from medley_workers.numbers.scale import Subject
from medley_workers.numbers.tensors import MEAN_BGR, to_picture, to_tensor
from medley_workers.numbers.transfer import Snapshot, Step, transfer
from studio import network

BLACK = -torch.tensor(MEAN_BGR).reshape(3, 1, 1)
SIZE = (48, 36)
THREE: dict[str, Any] = {
    "content_layers": ("block3_relu1",),
    "style_layers": ("block1_relu1", "block2_relu1", "block3_relu1"),
    "num_steps": 20,
    "levels": 2,
}
"""Options for those who look at other things than the picture: two levels, and all phases in few steps."""

Draw = Callable[..., Tensor]


@pytest.fixture(scope="module")
def draw(tmp_path_factory: pytest.TempPathFactory) -> Draw:
    """Pictures as they are looked at, of a seed and a size."""
    folder = tmp_path_factory.mktemp("pictures")

    def drawn(seed: int, size: tuple[int, int] = SIZE) -> Tensor:
        with Image.open(draw_picture(folder / f"{seed}.png", seed)) as picture:
            return to_tensor(picture, size)

    return drawn


def options(**changes: Any) -> StyleTransferOptions:
    return StyleTransferOptions.model_validate({**THREE, **changes})


def subject_of(draw: Draw, number: int = 0, **changes: Any) -> Subject:
    """Of two styles, one of another size than the content."""
    styles = [draw(100 + number), draw(200 + number, (40, 52))]
    return Subject(**{"content": draw(number), "styles": styles, "weights": [0.8, 0.4], **changes})


@dataclass
class Told:
    """A step as it was when it was told."""

    index: int
    loss: float | None
    canvas: Tensor
    is_last: bool


def told(step: Step) -> Told:
    loss = None if step.losses is None else float(step.losses.total)
    return Told(step.index, loss, step.canvas.clone(), step.is_last)


def fast_network(arithmetic: Arithmetic = "channels_last", most_bytes: int = 0) -> FastNetwork:
    return FastNetwork(network(), arithmetic, most_bytes)


def painted_together(
    subjects: Sequence[Subject], asked: StyleTransferOptions, snapshot: Snapshot | None = None
) -> Mapping[int, list[Told]]:
    found: dict[int, list[Told]] = {number: [] for number in range(len(subjects))}
    for steps in Descent(fast_network(), subjects, asked).steps(snapshot):
        for step in steps:
            found[step.picture].append(told(step))
    return found


def painted(subject: Subject, asked: StyleTransferOptions, snapshot: Snapshot | None = None) -> list[Told]:
    return painted_together([subject], asked, snapshot)[0]


def plain_loss(subject: Subject, asked: StyleTransferOptions, canvas: Tensor) -> float:
    """Of a canvas, by the objective itself."""
    colours = keep_colours(subject.content, asked)
    styles = [colours.style(style) for style in subject.styles]
    objective = Objective(network(), colours.seen(subject.content), styles, subject.weights, asked)
    with torch.no_grad():
        return float(objective(colours.view(canvas)).total)


def loss_of_picture(subject: Subject, asked: StyleTransferOptions, canvas: Tensor) -> float:
    """Of what people see, in eight bits."""
    colours = keep_colours(subject.content, asked)
    shown = Image.fromarray(colours.picture(canvas))
    return plain_loss(subject, asked, colours.canvas(colours.seen(to_tensor(shown, shown.size))))


def assert_steps(steps: Sequence[Told], num_steps: int) -> None:
    assert [step.index for step in steps] == list(range(num_steps + 1))
    assert [step.is_last for step in steps] == [False] * num_steps + [True]


def assert_inside(canvas: Tensor) -> None:
    assert bool(((canvas >= BLACK - 1e-4) & (canvas <= BLACK + 255 + 1e-4)).all())


@pytest.fixture(scope="module")
def default(draw: Draw) -> tuple[Subject, StyleTransferOptions, list[Told]]:
    """A painting with the default layers; what is given is not to be changed."""
    subject = Subject(draw(1, (64, 48)), [draw(101, (64, 48))], [1.0])
    asked = StyleTransferOptions(num_steps=60, levels=2)
    found = [told(step) for (step,) in Descent(fast_network("auto"), [subject], asked).steps()]  # type: ignore[arg-type]
    return subject, asked, found


Default = tuple[Subject, StyleTransferOptions, list[Told]]


def test_sixty_steps_come_lower_than_sixty_exact_ones(default: Default) -> None:
    subject, asked, steps = default
    objective = Objective(network(), subject.content, subject.styles, subject.weights, asked)
    *_, exact = transfer(objective, subject.content, asked)
    found = plain_loss(subject, asked, steps[-1].canvas)
    print(f"fast {found:.0f}, exact {exact.loss():.0f}")
    assert found < exact.loss()


def test_every_canvas_can_be_shown_and_what_is_shown_is_as_good(default: Default) -> None:
    subject, asked, steps = default
    for step in steps:
        assert_inside(step.canvas)
    last = steps[-1]
    assert last.loss is not None
    assert loss_of_picture(subject, asked, last.canvas) <= 1.2 * last.loss


def test_losses_are_told_at_full_size_and_fall(default: Default) -> None:
    _, _, steps = default
    assert_steps(steps, 60)
    known = [step.index for step in steps if step.loss is not None]
    assert known[0] == 0
    assert known[1:] == list(range(known[1], 61)), "from the first step at full size on"
    assert 1 < known[1] < 15
    losses = {step.index: step.loss for step in steps if step.loss is not None}
    assert losses[60] < losses[known[1]] < losses[0]
    assert losses[60] < losses[0] / 20


ASKED: dict[str, dict[str, Any]] = {
    "plain": {},
    "noise": {"init": "noise", "seed": 3},
    "luminance": {"preserve_color": "luminance"},
    "linalg": {"preserve_color": "linalg"},
    "linalg from noise": {"preserve_color": "linalg", "init": "noise"},
    "one level": {"levels": 1},
    "three levels": {"levels": 3, "num_steps": 24},
    "no whitened steps": {"whitened_steps": 0},
    "many whitened steps": {"whitened_steps": 50, "levels": 1},
    "average pooling and smoothness": {"pooling": "avg", "tv_weight": 50.0},
    "weights of layers": {"style_layer_weights": (0.1, 0.002), "content_weight": 20.0},
    "without content": {"content_layers": ()},
    "without style": {"style_layers": (), "init": "noise"},
    "nine steps": {"num_steps": 9},
    "two steps": {"num_steps": 2},
    "one step": {"num_steps": 1},
}


@pytest.mark.parametrize("case", ASKED)
def test_all_steps_come_in_order_and_first_and_last_are_told_as_they_are(case: str, draw: Draw) -> None:
    asked, subject = options(**ASKED[case]), subject_of(draw)
    steps = painted(subject, asked)
    assert_steps(steps, asked.num_steps)
    for step in (steps[0], steps[-1]):
        assert step.loss == pytest.approx(plain_loss(subject, asked, step.canvas), rel=1e-5)
    assert steps[0].loss is not None
    assert steps[-1].loss is not None
    assert steps[-1].loss < steps[0].loss
    colours = keep_colours(subject.content, asked)
    for step in steps:
        assert step.canvas.shape == steps[0].canvas.shape
        assert_inside(colours.view(step.canvas))
    shown = loss_of_picture(subject, asked, steps[-1].canvas)
    print(f"{case}: {steps[0].loss:.6g} to {steps[-1].loss:.6g}, shown {shown:.6g}")
    if asked.style_layers:  # the content alone is reached so nearly that rounding is all there is
        assert shown <= 1.2 * steps[-1].loss


@pytest.mark.parametrize("preserve_color", [None, "linalg", "luminance"])
def test_the_first_canvas_is_what_was_asked_for(preserve_color: str | None, draw: Draw) -> None:
    init = draw(9)
    for changes, given in (({}, None), ({"init": "noise"}, None), ({}, init)):
        asked = options(preserve_color=preserve_color, **changes)
        subject = subject_of(draw, init=given)
        start = given if given is not None else subject.content
        if asked.init == "noise":
            start = torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
        colours = keep_colours(subject.content, asked)
        (first,) = next(iter(Descent(fast_network(), [subject], asked).steps()))
        expected = colours.within(colours.canvas(start))
        assert torch.allclose(first.canvas, expected, atol=1e-3)
        assert first.index == 0


def test_colours_are_kept(draw: Draw) -> None:
    subject = subject_of(draw)
    for preserve_color in ("linalg", "luminance"):
        asked = options(preserve_color=preserve_color)
        colours = keep_colours(subject.content, asked)
        shown = torch.from_numpy(colours.picture(painted(subject, asked)[-1].canvas).copy()).float()
        content = torch.from_numpy(to_picture(subject.content).copy()).float()
        if preserve_color == "linalg":
            assert torch.allclose(shown.mean(dim=(0, 1)), content.mean(dim=(0, 1)), atol=1.0)
            assert torch.allclose(shown.std(dim=(0, 1)), content.std(dim=(0, 1)), rtol=0.03)
        else:
            assert torch.allclose(shown.diff(dim=2), content.diff(dim=2), atol=2.0)  # chroma, but for rounding
        assert float((shown - content).abs().mean()) > 3, "something was painted"


def test_what_was_given_stays_as_it_was(draw: Draw) -> None:
    subject = subject_of(draw, init=draw(9))
    pictures = [subject.content, *subject.styles, subject.init]
    before = [picture.clone() for picture in pictures if picture is not None]
    painted(subject, options(num_steps=6))
    assert all(torch.equal(*pair) for pair in zip(before, pictures, strict=True))  # type: ignore[arg-type]


def test_a_painting_ends_where_its_loss_is_as_low_as_was_asked_for(draw: Draw) -> None:
    subject, asked = subject_of(draw), options()
    steps = painted(subject, asked)
    target = losses_of(steps)[15] * 1.02
    found = painted(subject, options(target_loss=target))
    assert 5 < found[-1].index <= 15
    assert [step.index for step in found] == list(range(found[-1].index + 1))
    assert [step.is_last for step in found] == [False] * found[-1].index + [True]
    assert found[-1].loss == pytest.approx(plain_loss(subject, asked, found[-1].canvas), rel=1e-5)
    assert losses_of(found)[found[-1].index] <= target


def losses_of(steps: Sequence[Told]) -> dict[int, float]:
    return {step.index: step.loss for step in steps if step.loss is not None}


def test_a_target_that_the_start_has_reached_leaves_it_as_it_is(draw: Draw) -> None:
    subject = subject_of(draw)
    start = painted(subject, options())[0]
    assert start.loss is not None
    (found,) = painted(subject, options(target_loss=start.loss * 1.001))
    assert (found.index, found.is_last) == (0, True)
    assert torch.equal(found.canvas, start.canvas)


def test_a_target_that_is_not_reached_ends_with_the_steps(draw: Draw) -> None:
    assert_steps(painted(subject_of(draw), options(target_loss=0.001)), 20)


def test_of_two_pictures_each_ends_by_its_own_loss(draw: Draw) -> None:
    """One is near its styles from the start; when it has ended, the other goes on to the last step."""
    subjects = [subject_of(draw, 0), subject_of(draw, 1)]
    last = {number: losses_of(steps) for number, steps in painted_together(subjects, options()).items()}
    quick, slow = sorted(last, key=lambda number: last[number][20])
    target = (last[quick][20] * last[slow][20]) ** 0.5
    assert last[quick][20] * 1.2 < target < last[slow][20] / 1.2, "the two are alike: choose others"
    found = painted_together(subjects, options(target_loss=target))
    assert found[quick][-1].is_last
    assert found[quick][-1].index < 20
    assert losses_of(found[quick])[found[quick][-1].index] <= target
    assert_steps(found[slow], 20)


@pytest.mark.parametrize("preserve_color", [None, "luminance"])
def test_two_pictures_together_end_as_each_alone(preserve_color: str | None, draw: Draw) -> None:
    """But for roundings, which tell after a while."""
    asked = options(preserve_color=preserve_color)
    subjects = [subject_of(draw, 0), subject_of(draw, 1)]
    together = painted_together(subjects, asked)
    for number, subject in enumerate(subjects):
        alone = painted(subject, asked)
        assert_steps(together[number], 20)
        for step, other in list(zip(together[number], alone, strict=True))[:3]:
            assert float((step.canvas - other.canvas).abs().mean()) < 0.1, f"{number} after {step.index}"
        assert losses_of(together[number])[20] == pytest.approx(losses_of(alone)[20], rel=0.15)


@pytest.mark.parametrize("where", ["content", "style"])
def test_a_picture_that_is_not_finite_does_not_disturb_the_other(where: str, draw: Draw) -> None:
    fine, broken = subject_of(draw, 0), subject_of(draw, 1)
    (broken.content if where == "content" else broken.styles[0])[0, 0, 3, 4] = torch.nan
    found = painted_together([fine, broken], options())
    alone = painted(fine, options())
    for step, other in list(zip(found[0], alone, strict=True))[:3]:
        assert float((step.canvas - other.canvas).abs().mean()) < 0.1
    assert losses_of(found[0])[20] == pytest.approx(losses_of(alone)[20], rel=0.15)
    assert_steps(found[1], 20)
    assert not math.isfinite(losses_of(found[1])[0])
    assert not math.isfinite(losses_of(found[1])[20])


def test_a_picture_that_is_not_finite_does_not_choose_the_layers(draw: Draw) -> None:
    asked = options(content_layers=("block1_relu1",), style_layer_weights=(1e-4, 1e-4, 1.0), num_steps=2)
    fine, broken = subject_of(draw, 0), subject_of(draw, 1)
    broken.content[0, 0, 3, 4] = torch.nan
    chosen = []
    for subjects in ([fine], [fine, broken]):
        descent = Descent(fast_network(), subjects, asked)
        next(iter(descent.steps()))
        chosen.append(descent.left_out)
    assert chosen[0] == chosen[1] == frozenset()


def test_deep_layers_that_have_next_to_nothing_of_the_loss_are_left_out_and_told_all_the_same(draw: Draw) -> None:
    asked = options(content_layers=("block1_relu1",), style_layer_weights=(1.0, 1e-3, 1e-9))
    subject = subject_of(draw)
    descent = Descent(fast_network(), [subject], asked)
    steps = [told(step) for (step,) in descent.steps()]
    assert descent.left_out == {"block3_relu1"}
    assert steps[-1].loss == pytest.approx(plain_loss(subject, asked, steps[-1].canvas), rel=1e-5)
    assert losses_of(steps)[19] == pytest.approx(plain_loss(subject, asked, steps[19].canvas), rel=1e-3)


def test_a_layer_that_comes_to_matter_is_in_the_plain_steps(draw: Draw) -> None:
    """Little of the loss before the first step, and more once the other has come near."""
    subject = subject_of(draw)
    layers = ("block1_relu1", "block3_relu1")
    each = [options(content_layers=(), style_layers=(layer,), style_layer_weights=(1.0,)) for layer in layers]
    first, deep = (plain_loss(subject, asked, subject.content) for asked in each)
    asked = options(
        content_layers=("block1_relu1",), content_weight=0.0, num_steps=40, style_layers=layers,
        style_layer_weights=(1.0, 0.04 * first / deep),
    )  # fmt: skip
    descent = Descent(fast_network(), [subject], asked)
    left_out: list[frozenset[str]] = []
    for (step,) in descent.steps():
        left_out.append(descent.left_out)
        last = told(step)
    assert left_out[1] == {"block3_relu1"}
    assert left_out[-1] == frozenset()
    assert last.loss == pytest.approx(plain_loss(subject, asked, last.canvas), rel=1e-5)


@pytest.mark.parametrize("at", [8, 14, 19, 20])
def test_a_canvas_that_was_kept_is_gone_on_with(at: int, draw: Draw) -> None:
    """The optimiser begins anew: at the end, that costs little."""
    subject, asked = subject_of(draw), options()
    steps = painted(subject, asked)
    found = painted(subject, asked, Snapshot(at, steps[at].canvas, {}))
    assert [step.index for step in found] == list(range(at, 21))
    assert torch.equal(found[0].canvas, steps[at].canvas)
    assert [step.is_last for step in found] == [False] * (20 - at) + [True]
    assert losses_of(found)[20] <= losses_of(steps)[at] * 1.05
    assert losses_of(found)[20] < 2 * losses_of(steps)[20]
    assert found[-1].loss == pytest.approx(plain_loss(subject, asked, found[-1].canvas), rel=1e-5)


def test_what_is_gone_on_with_at_the_start_has_a_first_step(draw: Draw) -> None:
    """As the exact path's has."""
    subject, asked = subject_of(draw), options(num_steps=6)
    found = painted(subject, asked, Snapshot(0, subject.content, {}))
    assert [step.index for step in found] == list(range(7))


def test_a_content_in_its_own_style_stays_what_it_is(draw: Draw) -> None:
    """There is nothing to gain, and that is no error."""
    content = draw(1)
    for asked in (options(), options(levels=1), options(levels=1, whitened_steps=0)):
        steps = painted(Subject(content, [content.clone()], [1.0]), asked)
        assert_steps(steps, 20)
        assert all(math.isfinite(loss) for loss in losses_of(steps).values())
        assert float((steps[-1].canvas - content).abs().mean()) < 3


def test_a_picture_that_cannot_move_is_no_error(draw: Draw) -> None:
    """Black that would be blacker."""
    black = BLACK.expand(1, 3, SIZE[1], SIZE[0]).clone()
    steps = painted(Subject(black, [black.clone()], [1.0]), options())
    assert all(math.isfinite(loss) for loss in losses_of(steps).values())
    steps = painted(Subject(draw(1), [black.clone()], [1.0]), options())
    assert losses_of(steps)[20] < losses_of(steps)[0]


@pytest.mark.parametrize("size", [(48, 3), (3, 48)])
def test_pictures_too_small_are_refused(size: tuple[int, int], draw: Draw) -> None:
    fine, small = draw(0), draw(1, size)
    for content, style in ((small, fine), (fine, small)):
        with pytest.raises(UsageError, match="too small"):
            Descent(fast_network(), [Subject(content, [style], [1.0])], options())


class Looks:
    """Counts the pictures that a network looks at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pictures = 0
        forward = Extractor.forward

        def counted(extractor: Extractor, image: Tensor, **how: Any) -> dict[str, Tensor]:
            self.pictures += 1
            return forward(extractor, image, **how)

        monkeypatch.setattr(Extractor, "forward", counted)


def named(draw: Draw, content: int, style: int) -> Subject:
    return Subject(draw(content), [draw(style)], [1.0], names=(f"content {content}", f"style {style}"))


def test_a_photo_and_a_style_are_looked_at_once(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    keeping = fast_network(most_bytes=10**9)
    seen = []
    for content, style in ((0, 100), (0, 101), (1, 100), (1, 101), (0, 100)):
        before = looks.pictures
        Descent(keeping, [named(draw, content, style)], options())
        seen.append(looks.pictures - before)
    assert seen == [2, 1, 1, 0, 0]


@pytest.mark.parametrize("change", [{"most_bytes": 0}, {"names": ()}])
def test_without_room_or_names_nothing_is_kept(
    change: dict[str, Any], draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = fast_network(most_bytes=change.get("most_bytes", 10**9))
    names = change.get("names", ("c", "s"))
    looks = Looks(monkeypatch)
    for _ in range(2):
        Descent(keeping, [Subject(draw(0), [draw(100)], [1.0], names=names)], options())
    assert looks.pictures == 4


OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "layers of the other kind": (
        {"content_layers": ("block2_relu1",), "style_layers": ("block1_relu1",)},
        {"content_layers": ("block1_relu1",), "style_layers": ("block2_relu1",)},
    ),
    "a layer of both kinds": ({}, {"content_layers": ("block3_relu1", "block1_relu1")}),
    "pooling": ({}, {"pooling": "avg"}),
    "colours": ({}, {"preserve_color": "luminance"}),
    "other colours": ({"preserve_color": "linalg"}, {"preserve_color": "luminance"}),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_was_kept_for_other_options_is_not_taken(case: str, draw: Draw) -> None:
    first, second = (options(**changes) for changes in OTHERS[case])
    keeping = fast_network(most_bytes=10**9)
    for asked in (first, second, first):
        subject = named(draw, 0, 100)
        colours = keep_colours(subject.content, asked)
        image = colours.view(colours.canvas(draw(5)))
        found = Descent(keeping, [subject], asked).losses(image)
        assert float(found.total) == pytest.approx(plain_loss(subject, asked, colours.canvas(draw(5))), rel=1e-4)


def test_the_style_of_a_smaller_level_is_not_taken_for_that_of_a_smaller_picture(draw: Draw) -> None:
    """Both are compared with contents of one size, and the styles are twice as large for the one as for the other."""
    keeping = fast_network(most_bytes=10**9)
    asked = options(style_size=64, num_steps=10)
    names, style = ("c", "s"), draw(100, (64, 48))
    large, small = (Subject(draw(0, size), [style], [1.0], names=names) for size in ((96, 72), (48, 36)))
    for _ in Descent(keeping, [large], asked).steps():
        pass
    found = Descent(keeping, [small], asked).losses(small.content)
    assert float(found.total) == pytest.approx(plain_loss(small, asked, small.content), rel=1e-4)


def test_the_loss_of_one_picture_is_told_of_each_subject(draw: Draw) -> None:
    subjects = [subject_of(draw, 0), subject_of(draw, 1)]
    found = Descent(fast_network(), subjects, options()).losses(draw(7))
    for number, subject in enumerate(subjects):
        assert float(found.total[number]) == pytest.approx(plain_loss(subject, options(), draw(7)), rel=1e-5)


def test_a_history_is_kept_to(draw: Draw) -> None:
    """Where memory is short, the pairs are fewer."""
    subject, asked = subject_of(draw), options()
    ends = []
    for history in (60, 2):
        *_, (last,) = Descent(fast_network(), [subject], asked, history=history).steps()
        ends.append(told(last))
    assert not torch.equal(ends[0].canvas, ends[1].canvas)
    assert losses_of(ends[1:])[20] < 2 * losses_of(ends[:1])[20]


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what a GPU would be waited for: values that are looked at, and constants that are copied there."""

    NAMES = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "lift_fresh")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(x is not None and x.dtype == torch.bool for x in args[1])
        if name in self.NAMES or by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_the_counter_sees_what_is_waited_for() -> None:
    x = torch.ones(3)
    looks: dict[str, Callable[[], object]] = {
        "item": lambda: x.sum().item(),
        "bool": lambda: bool(x.sum() > 0),
        "float": lambda: float(x[0]),
        "nonzero": x.nonzero,
        "a mask": lambda: x[x > 0],
        "equal": lambda: torch.equal(x, x),
        "a constant": lambda: torch.tensor([1.0, 2.0]),
    }
    for name, look in looks.items():
        with Waits() as waits:
            look()
        assert waits.found, name


def waits_by_step(steps: Iterator[Sequence[Step]], monkeypatch: pytest.MonkeyPatch) -> dict[int, list[str]]:
    """What is waited for before each step is told; steps at smaller sizes are left out."""
    found: dict[int, list[str]] = {}
    with Waits() as waits, monkeypatch.context() as patch:
        for name in ("tolist", "numpy", "cpu"):  # which a tensor on the CPU does by itself
            patch.setattr(Tensor, name, lambda *_, name=name: pytest.fail(f"{name} waits"))
        for told_at, (step,) in enumerate(steps):
            if step.losses is not None and told_at:
                found[step.index] = list(waits.found)
            waits.found.clear()
    return found


@pytest.mark.parametrize("preserve_color", [None, "linalg", "luminance"])
def test_no_step_at_full_size_waits_for_the_device(
    preserve_color: str | None, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the first of a phase, before which layers are chosen and targets are made."""
    descent = Descent(fast_network(), [subject_of(draw)], options(preserve_color=preserve_color))
    found = waits_by_step(descent.steps(), monkeypatch)
    schedule = descent.schedule
    coarse = sum(level.cost for level in schedule.levels[:-1])
    first_plain = 20 - schedule.plain_steps
    assert sorted(found) == list(range(coarse, 21))
    waited = {index: names for index, names in found.items() if names and index not in (coarse, first_plain)}
    assert waited == {}


def test_steps_go_on_from_where_they_were(default: Default) -> None:
    """No step at full size is longer than the optimiser allows."""
    _, _, steps = default
    at_full_size = [step for step in steps if step.loss is not None][1:]
    moves = [float((after.canvas - before.canvas).square().mean().sqrt()) for before, after in pairwise(at_full_size)]
    assert max(moves) < 5.01
    assert min(moves) > 0
