"""The gallery's pages hold what they are given and nothing that it could turn into; curves go up where losses do."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from itertools import pairwise
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medley.media.curve import BOTTOM, LEFT, RIGHT, TOP, loss_curve
from medley.media.gallery import (
    PAIRS_A_PAGE,
    Entry,
    Input,
    Page,
    gallery_page,
    url,
)
from medley.media.templates import page_numbers, spoken_loss, spoken_time

PAGE = Page(batch="nightly", finished_at=datetime(2026, 3, 1, 23, 5, tzinfo=UTC))
BASE = "https://farm.example/batches/nightly/index.html"
HOSTILE = [
    '"><script>alert(1)</script>',
    "</script><!--",
    "</template></style></title>",
    "a#b?c%41&d=é夜 ' \\",
    "javascript:alert(1)",
    "//elsewhere.example/x",
    "data:text/html,x",
    "two\nlines\0\x1b[31m\u202e",
    "{{ 7 * 7 }}{% raw %}",
    "not utf-8 \udcff",
    "\ud800",
]


class Elements(HTMLParser):
    """A page as a browser sees it: its elements with their attributes, and its text."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def attributes(self, name: str) -> list[str]:
        """All values of an attribute."""
        return [value for _, attributes in self.all if (value := attributes.get(name)) is not None]

    def count(self, tag: str) -> int:
        return [found for found, _ in self.all].count(tag)

    def data(self) -> list[dict[str, object]]:
        """What the script is given."""
        start = next(text for text in self.text if text.startswith("[{"))
        return list(json.loads(start))


def painted(name: str = "noon") -> Entry:
    """A pair whose every text and path has a name in it."""
    return Entry(
        title=name,
        content=Input(name, f"../small/{name}.jpg"),
        styles=[Input(name, name)],
        picture=name,
        preview=name,
        size=(60, 40),
        frames=[(step, f"{name}/frames/{step:06d}.jpg") for step in (0, 10, 20)],
        losses=[(0, 3e6), (10, 2e4), (20, 1234.5)],
        loss=1234.5,
        seconds=72.2,
        facts={name: name},
    )


def page_of(name: str) -> Page:
    """A page that has everything, each part with a name in it."""
    failed = Entry(title=name, content=Input(name), problem=name)
    return replace(
        PAGE,
        batch=name,
        urls=[name, f"{name}2"],
        entries=[painted(name), failed],
        video=name,
        video_size=(60, 40),
        sheet=name,
        options={name: name},
        done=1,
        failed=1,
        skipped=1,
        skipped_files=[(name, name)],
        filmstrip=[name],
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_names_become_neither_elements_nor_attributes(name: str) -> None:
    tame, hostile = (Elements(gallery_page(page_of(each))) for each in ("noon", name))
    assert [(tag, list(attributes)) for tag, attributes in hostile.all] == [
        (tag, list(attributes)) for tag, attributes in tame.all
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_links_lead_to_the_file_of_that_name(name: str) -> None:
    page = Elements(gallery_page(page_of(name)))
    links = [*page.attributes("href"), *page.attributes("src"), *page.attributes("poster")]
    assert len(links) > 10
    for link in links:
        if link != "data:,":
            assert link.isascii()
            assert urlsplit(link)[:2] == ("", "")
            assert urlsplit(urljoin(BASE, link))[3:] == ("", "")
            assert urljoin(BASE, link).startswith("https://farm.example/")
    if name not in ("\ud800", "//elsewhere.example/x"):
        assert unquote_to_bytes(url(name)) == name.encode(errors="surrogateescape")


def test_characters_that_cannot_be_shown_are_spelled_out() -> None:
    text = gallery_page(page_of("two\nlines\0\u202e")).decode()
    assert "two\\nlines\\x00\\u202e" in text
    assert "\0" not in text


def test_frames_end_in_the_picture_and_losses_are_told() -> None:
    way, nothing = Elements(gallery_page(replace(PAGE, entries=[painted("a b"), painted()]))).data()
    assert way == {
        "before": "a%20b/frames/0000",
        "names": ["0", "1"],
        "after": "0.jpg",
        "steps": [0, 10, 20],
        "losses": ["3,000,000", "20,000", "1,234"],
    }
    assert nothing["steps"] == [0, 10, 20]


def test_frames_before_the_last_step_all_count() -> None:
    entry = replace(painted(), losses=[(0, 3e6), (25, 1e3)], loss=1e3)
    (way,) = Elements(gallery_page(replace(PAGE, entries=[entry]))).data()
    assert way["steps"] == [0, 10, 20, 25]
    assert way["losses"] == ["3,000,000", "", "", "1,000"]


def test_frame_at_the_last_step_alone_is_no_way() -> None:
    entries = [painted(), replace(painted(), frames=[(20, "20.jpg")]), replace(painted(), frames=[])]
    assert Elements(gallery_page(replace(PAGE, entries=entries))).data()[1:] == [{}, {}]


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.lists(st.text(alphabet="a0/é", max_size=6), min_size=1, max_size=5))
def test_frames_that_share_little_keep_their_urls(names: list[str]) -> None:
    entry = replace(painted(), frames=list(enumerate(names)))
    (way,) = Elements(gallery_page(replace(PAGE, entries=[entry]))).data()
    assert isinstance(way["names"], list)
    assert [f"{way['before']}{name}{way['after']}" for name in way["names"]] == [url(name) for name in names]


def test_full_page_is_lean() -> None:
    folder = f"../../jobs/{'0123456789abcdef' * 4}/attempt"
    entry = replace(
        painted(),
        picture=f"{folder}/pastiche.png",
        preview=f"{folder}/thumb.jpg",
        frames=[(step, f"{folder}/frames/{step:06d}.jpg") for step in range(0, 301, 10)],
        losses=[(step, 1e7 / (step + 1)) for step in range(301)],
    )
    sizes = [len(gallery_page(replace(PAGE, entries=[entry] * n))) for n in (0, PAIRS_A_PAGE)]
    assert sizes[1] - sizes[0] < PAIRS_A_PAGE * 4_000


def test_failed_pair_says_why_and_has_no_viewer() -> None:
    page = replace(PAGE, entries=[Entry(title="a", content=Input("b"), problem="noon.jpg is empty.")], failed=1)
    elements = Elements(gallery_page(page))
    assert "noon.jpg is empty." in elements.text
    assert "1 failed" in elements.text
    assert elements.count("template") == 0
    assert "[{}]" in elements.text


def test_walk_has_its_video_and_filmstrip() -> None:
    walk = replace(
        PAGE, video="walk.mp4", video_size=(640, 360), filmstrip=["f 1.jpg", "f2.jpg"], options={"seed": "7"}
    )
    elements = Elements(gallery_page(walk))
    (video,) = [attributes for tag, attributes in elements.all if tag == "video"]
    assert (video["src"], video["width"], video["height"]) == ("walk.mp4", "640", "360")
    assert [a["src"] for tag, a in elements.all if tag == "img"] == ["f%201.jpg", "f2.jpg"]
    assert elements.count("dialog") == elements.count("script") == 0
    assert not any("picture" in text for text in elements.text if "{" not in text)


def test_poster_has_the_shape_of_the_video() -> None:
    entries = [replace(painted(), size=size, preview=f"{size[0]}.jpg") for size in ((40, 60), (60, 40), (90, 60))]
    for size, poster in (((600, 400), ["60.jpg"]), ((400, 400), [])):
        page = replace(PAGE, entries=entries, video="medley.mp4", video_size=size)
        assert Elements(gallery_page(page)).attributes("poster") == poster


def test_nothing_to_show_is_said() -> None:
    assert "There are no pictures." in Elements(gallery_page(PAGE)).text


@pytest.mark.parametrize(
    ("number", "pages", "numbers"),
    [
        (1, 1, [1]),
        (1, 3, [1, 2, 3]),
        (1, 9, [1, 2, 3, 0, 9]),
        (5, 9, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (50, 999, [1, 0, 48, 49, 50, 51, 52, 0, 999]),
    ],
)
def test_numbers_of_pages(number: int, pages: int, numbers: list[int]) -> None:
    assert page_numbers(number, pages) == numbers


def test_pages_link_to_their_neighbours_and_the_ends() -> None:
    page = replace(PAGE, number=3, urls=[f"index-{n}.html" for n in range(1, 6)], entries=[painted()])
    links = {a["rel"]: a["href"] for tag, a in Elements(gallery_page(page)).all if tag == "a" and a.get("rel")}
    links.pop("noopener")
    assert links == {"first": "index-1.html", "prev": "index-2.html", "next": "index-4.html", "last": "index-5.html"}


def test_numbers_are_for_people() -> None:
    assert [spoken_loss(n) for n in (1234567.8, 999.94, 0.00012345, 0.0, None, math.nan, math.inf)] == [
        "1,234,568",
        "999.9",
        "0.0001234",
        "0",
        "",
        "",
        "",
    ]
    assert [spoken_time(n) for n in (0.04, 9.97, 59.7, 72, 3599.6, 7322, None, math.nan)] == [
        "0.0 s",
        "10 s",
        "1 min 0 s",
        "1 min 12 s",
        "1 h 0 min",
        "2 h 2 min",
        "",
        "",
    ]


def test_time_is_told_in_utc() -> None:
    page = replace(PAGE, finished_at=datetime(2026, 3, 1, 1, tzinfo=timezone(timedelta(hours=2))))
    assert "28 February 2026, 23:00 UTC" in Elements(gallery_page(page)).text


LOSSES = st.dictionaries(st.integers(0, 10_000), st.floats(0, 1e30), min_size=2, max_size=80).map(
    lambda losses: sorted(losses.items())
)


@settings(derandomize=True, deadline=None)
@given(LOSSES)
def test_curve_rises_with_the_loss_and_goes_right_with_the_step(losses: Sequence[tuple[int, float]]) -> None:
    curve = loss_curve(losses)
    assert curve is not None
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in curve.points)
    assert all(a[0] <= b[0] for a, b in pairwise(curve.points))
    assert all(a.at >= b.at for a, b in pairwise(curve.losses))
    assert 1 <= len(curve.losses) <= 5
    assert all(TOP <= tick.at <= BOTTOM for tick in curve.losses)
    if len(losses) == len(curve.points):
        by_loss = sorted(zip(losses, curve.points, strict=True), key=lambda pair: pair[0][1])
        assert all(lower[1] >= higher[1] for (_, lower), (_, higher) in pairwise(by_loss))


@pytest.mark.parametrize("losses", [[], [(0, 1.0)], [(0, math.nan), (1, math.inf), (2, 5.0)], [(3, 1.0), (3, 2.0)]])
def test_no_curve_without_two_numbers(losses: list[tuple[int, float]]) -> None:
    assert loss_curve(losses) is None


def test_curve_never_has_a_nan() -> None:
    entry = replace(painted(), losses=[(0, math.inf), (5, math.nan), (6, 3.0), (7, 3.0)], loss=math.nan)
    html = gallery_page(replace(PAGE, entries=[entry])).decode()
    assert not re.search(r"\b(nan|inf)\b", html.partition("<main>")[2].partition("<script>")[0], re.IGNORECASE)


def test_labels_are_few_and_round() -> None:
    def labels(*losses: float) -> list[str]:
        curve = loss_curve(list(enumerate(losses)))
        return [tick.label for tick in curve.losses] if curve else []

    assert labels(5e7, 2e4) == ["100k", "1M", "10M"]
    assert labels(3e6, 2e4) == ["30k", "300k", "3M"]
    assert labels(10, 4) == ["4", "6", "8", "10"]
    assert labels(5, 5) == ["5"]


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_stands_out_from_its_ground(scheme: int) -> None:
    """WCAG's AA: a contrast of 4.5 to 1."""
    blocks = re.findall(r":root \{([^}]*)\}", gallery_page(PAGE).decode())
    colours = dict(re.findall(r"--(\w+): #(\w{6});", blocks[scheme]))

    def light(name: str) -> float:
        red, green, blue = (c / 255 for c in bytes.fromhex(colours[name]))
        return sum(
            share * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
            for share, c in ((0.2126, red), (0.7152, green), (0.0722, blue))
        )

    for ink in ("ink", "soft", "warn", "accent"):
        for ground in ("paper", "mat"):
            dim, bright = sorted((light(ink), light(ground)))
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (ink, ground)
