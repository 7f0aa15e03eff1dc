"""What the arguments of ``run`` and ``submit`` come to."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import draw_picture
from medley.errors import UsageError
from medley.records.pictures import Picture
from medley.settings import Settings
from medley.telling import quiet
from medley_producer.commands.requesting import dated_name, request_of_run, request_of_submit
from medley_producer.options.arguments import make_parser
from medley_producer.submit import Request


def asked(dataset: Path, *line: str) -> Request:
    pools = ["--content", str(dataset / "contents"), "--styles", str(dataset / "styles"), "--out", "out"]
    args = make_parser().parse_args(["run", *pools, *line])
    return request_of_run(args, Settings.load(), quiet)[0]


def test_a_draft_shows_the_pairs_that_the_best_will_have(dataset: Path) -> None:
    draft, best = asked(dataset, "--quality", "draft"), asked(dataset, "--quality", "best")
    assert draft.sampling.sample_seed == best.sampling.sample_seed
    assert draft.name != best.name
    assert (best.options.size, best.options.num_steps) == (1024, 200)


@pytest.mark.parametrize(
    ("line", "size", "pixels", "steps"),
    [
        ("--quality draft --size 300", 300, 250_000, 60),
        ("--quality draft --size-pixels 9000", None, 9_000, 60),
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


NIGHT = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)


def test_a_date_in_a_batchs_name_is_todays() -> None:
    assert dated_name("nightly-{date}", None, NIGHT) == "nightly-2026-01-31"
    assert dated_name("{date}.{date}", "%y%j", NIGHT) == "26031.26031"
    assert dated_name("nightly", None, NIGHT) == "nightly"


@pytest.mark.parametrize(
    ("name", "date_format", "said"),
    [
        ("nightly-{date}", "%H:%M", "'nightly-23:30' cannot be a batch's name"),
        ("nightly-{date}", "%Y/%m", "'nightly-2026/01' cannot be a batch's name"),
        ("nightly-{Date}", None, "cannot be a batch's name"),
        ("nightly", "%Y", r"--date-format .* --batch nightly has none"),
    ],
)
def test_a_date_that_makes_no_name_is_refused(name: str, date_format: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        dated_name(name, date_format, NIGHT)


def test_what_cron_submits_depends_on_the_time_through_the_name_alone(dataset: Path) -> None:
    line = ["submit", "-c", str(dataset / "contents"), "-s", str(dataset / "styles"), "--batch", "nightly-{date}"]
    before = datetime.now(UTC)
    request = request_of_submit(make_parser().parse_args([*line, "--pairs", "5"]), Settings.load())
    assert request.name in {f"nightly-{now:%Y-%m-%d}" for now in (before, datetime.now(UTC))}
    assert request.sampling.sample_seed == request.name
    sampling = request.sampling.model_dump(exclude={"sample_seed"})
    yesterdays = request_of_submit(make_parser().parse_args([*line[:-1], "x", "--pairs", "5"]), Settings.load())
    assert yesterdays.sampling.model_dump(exclude={"sample_seed"}) == sampling
