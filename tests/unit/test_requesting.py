"""What the arguments of ``run`` come to."""

from pathlib import Path

import pytest

from conftest import draw_picture
from medley.jobs import Picture
from medley.settings import Settings
from medley_producer.arguments import make_parser
from medley_producer.requesting import asked_of_run
from medley_producer.submit import Request


def asked(dataset: Path, *line: str) -> Request:
    pools = ["--content", str(dataset / "contents"), "--styles", str(dataset / "styles"), "--out", "out"]
    args = make_parser().parse_args(["run", *pools, *line])
    return asked_of_run(args, Settings.load(), lambda *_: None).request


def test_a_draft_shows_the_pairs_that_the_best_will_have(dataset: Path) -> None:
    draft, best = asked(dataset, "--quality", "draft"), asked(dataset, "--quality", "best")
    assert draft.sampling.sample_seed == best.sampling.sample_seed
    assert draft.name != best.name
    assert (best.options.size, best.options.num_steps) == (1024, 500)


@pytest.mark.parametrize(
    ("line", "size", "pixels", "steps"),
    [
        ("--quality draft --size 300", 300, 250_000, 150),
        ("--quality draft --size-pixels 9000", None, 9_000, 150),
        ("--quality draft --num-steps 7", 256, 250_000, 7),
    ],
)
def test_what_is_given_beside_a_quality_counts(
    dataset: Path, line: str, size: int | None, pixels: int, steps: int
) -> None:
    options = asked(dataset, *line.split()).options
    assert (options.size, options.size_pixels, options.num_steps) == (size, pixels, steps)


def test_other_weights_make_another_batch_of_the_same_pairs(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = asked(dataset)
    own = dataset / "own.safetensors"
    own.write_bytes((2).to_bytes(8, "little") + b"{}")
    monkeypatch.setenv("MEDLEY_VGG", str(own))
    theirs = asked(dataset)
    assert theirs.vgg.where == str(own)
    assert theirs.name != ours.name
    assert theirs.sampling == ours.sampling


def test_other_photos_and_another_first_picture_make_another_batch(dataset: Path) -> None:
    first = draw_picture(dataset / "first.png", seed=50)
    begun = asked(dataset, "--init", str(first))
    assert isinstance(begun.options.init, Picture)
    assert begun.init == str(first)
    names = {begun.name, asked(dataset).name, asked(dataset, "--random-init").name}
    draw_picture(first, seed=51)
    draw_picture(dataset / "contents" / "new.png", seed=52)
    assert len(names | {asked(dataset, "--init", str(first)).name, asked(dataset).name}) == 5
