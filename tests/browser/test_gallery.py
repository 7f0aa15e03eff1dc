"""The gallery in a real browser: from a folder and from a web server, and whatever the files are called."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from browser.visiting import check, file_url, served, visiting
from medley.media.gallery import Entry, Input, Page, gallery_page

HOSTILE = "\"><img src=x onerror=window.__pwned=1><script>window.__pwned=1<!script>'#?%41&amp; é夜\n{{7*7}}.jpg"
"""A file's name, as a file system takes it: all but a slash."""

MARKUP = "</script></template><script>window.__pwned=1</script>"


def draw(path: Path, colour: str, size: tuple[int, int]) -> str:
    """A picture in a plain colour; returns its path from the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return f"../../{path.parent.name}/{path.name}"


def film(path: Path) -> str:
    """A second of H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for n in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), n * 20, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.name


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a batch of two pages: a pair with frames, a hostile one without, a failed one, a bare one."""
    root = tmp_path_factory.mktemp("storage")
    folder = root / "batches" / "night & day"
    folder.mkdir(parents=True)
    entries = [
        Entry(
            title="noon × swirls",
            content=Input("noon.jpg", draw(root / "small" / "noon.jpg", "red", (48, 32))),
            styles=[Input("swirls.jpg", draw(root / "small" / "swirls.jpg", "blue", (32, 32)))],
            picture=draw(root / "job1" / "pastiche.png", "purple", (96, 64)),
            preview=draw(root / "job1" / "thumb.jpg", "purple", (48, 32)),
            size=(96, 64),
            frames=[(n, draw(root / "job1" / f"{n:06d}.jpg", "red", (96, 64))) for n in (0, 5, 10)],
            losses=[(n, 2e6 / (1 + n)) for n in range(11)],
            loss=2e6 / 11,
            seconds=72.4,
            facts={"Device": "cpu"},
        ),
        Entry(
            title=f"{MARKUP} × {HOSTILE}",
            content=Input(HOSTILE, draw(root / "small" / HOSTILE, "red", (32, 48))),
            styles=[Input(HOSTILE, draw(root / "small" / HOSTILE, "red", (32, 48)))] * 5,
            picture=draw(root / "job2" / f"{HOSTILE}.png", "green", (64, 96)),
            size=(64, 96),
            losses=[(0, 5.0), (9, 4.0)],
            facts={HOSTILE: MARKUP},
        ),
        Entry(title=HOSTILE, content=Input("a"), problem=f"{MARKUP} {HOSTILE * 9}"),
        Entry(title="bare", content=Input("b"), picture=draw(root / "job4" / "bare.png", "orange", (50, 50))),
    ]
    urls = ["index.html", "index-2.html"]
    first = Page(
        batch="night & day",
        finished_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        urls=urls,
        entries=entries,
        video=film(folder / "medley.mp4"),
        video_size=(96, 64),
        options={"size": "96 px", HOSTILE: HOSTILE},
        done=3,
        failed=1,
        skipped=30,
        skipped_files=[(HOSTILE, MARKUP)],
    )
    second = Page(batch="night & day", finished_at=first.finished_at, number=2, urls=urls, entries=entries[:1])
    for page, name in zip((first, second), urls, strict=True):
        (folder / name).write_bytes(gallery_page(page))
    return root


@pytest.fixture(params=["folder", "server"])
def index(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    """The URL of the first page, both ways."""
    if request.param == "folder":
        yield file_url(root / "batches" / "night & day" / "index.html")
    else:
        with served(root) as url:
            yield f"{url}/batches/night%20&%20day/index.html"


@pytest.mark.parametrize("width", [1440, 390])
def test_page_needs_nothing_else_and_fits(browser: Browser, index: str, width: int) -> None:
    with visiting(browser, index, width) as visit:
        check(visit)
        for card in range(3):
            visit.page.locator(".painted a").nth(card).click()
            visit.page.locator("dialog").wait_for()
            assert visit.page.evaluate("viewer.scrollWidth - innerWidth") <= 0
            visit.page.keyboard.press("Escape")
        check(visit)
        assert visit.page.evaluate("window.__pwned") is None


def test_hostile_names_are_shown_as_they_are(browser: Browser, index: str) -> None:
    with visiting(browser, index, color_scheme="dark") as visit:
        visit.page.locator("summary").first.click()
        for text in (visit.page.locator(".skipped b"), visit.page.locator(".failed h2")):
            assert text.text_content() == HOSTILE.replace("\n", "\\n")
        assert MARKUP in (visit.page.locator(".painted h2").nth(1).text_content() or "")
        assert visit.page.locator("img[src=x], [onerror]").count() == 0
        check(visit)


def test_slider_goes_from_the_photo_to_the_picture(browser: Browser, index: str) -> None:
    with visiting(browser, index) as visit:
        visit.page.locator(".painted a").first.click()
        slider = visit.page.get_by_role("slider")
        expect(slider).to_be_focused()
        expect(visit.page.locator(".readout")).to_have_text("Step 10 of 10, loss 181,818")
        expect(visit.page.locator(".canvas img")).to_have_attribute("src", re.compile(r"/pastiche\.png$"))
        places = []
        for name, step in (("000005.jpg", 5), ("000000.jpg", 0)):
            visit.page.keyboard.press("ArrowLeft")
            expect(visit.page.locator(".canvas img")).to_have_attribute("src", re.compile(f"/{name}$"))
            expect(slider).to_have_attribute("aria-valuetext", re.compile(f"^Step {step} of 10, loss "))
            places.append(visit.page.locator("circle.now").bounding_box())
        assert places[0] is not None
        assert places[1] is not None
        assert places[1]["x"] < places[0]["x"]
        assert places[1]["y"] < places[0]["y"]
        visit.page.get_by_role("button", name="Play").click()
        expect(visit.page.locator(".canvas img")).to_have_attribute("src", re.compile(r"/pastiche\.png$"))
        check(visit)


def test_without_frames_the_picture_fades_in(browser: Browser, index: str) -> None:
    with visiting(browser, f"{index}#p2") as visit:
        images = visit.page.locator(".canvas img")
        expect(images).to_have_count(2)
        for value, opacity, text in (("0", "0", "Photo"), ("40", "0.4", "40 % of the way"), ("100", "1", "Picture")):
            visit.page.get_by_role("slider").fill(value)
            assert images.nth(1).evaluate("image => getComputedStyle(image).opacity") == opacity
            expect(visit.page.locator(".readout")).to_have_text(text)
        check(visit)


def test_picture_without_a_way_has_no_slider(browser: Browser, index: str) -> None:
    with visiting(browser, f"{index}#p4") as visit:
        expect(visit.page.locator("dialog")).to_be_visible()
        expect(visit.page.get_by_role("slider")).to_have_count(0)
        expect(visit.page.locator(".canvas img")).to_have_attribute("src", re.compile(r"/bare\.png$"))


def test_keyboard_is_enough(browser: Browser, index: str) -> None:
    with visiting(browser, index) as visit:
        page = visit.page
        page.locator(".painted a").first.focus()
        page.keyboard.press("Enter")
        title = page.locator("#viewer-title")
        expect(title).to_have_text("noon × swirls")
        page.keyboard.press("PageDown")
        expect(title).to_contain_text(MARKUP)
        page.keyboard.press("PageDown")
        expect(title).to_have_text("bare")
        assert page.url == f"{index}#p4"
        page.keyboard.press("PageDown")
        expect(title).to_have_text("bare")
        page.keyboard.press("PageUp")
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_be_hidden()
        expect(page.locator(".painted a").nth(1)).to_be_focused()
        expect(page).to_have_url(index)


def test_back_closes_and_a_link_opens(browser: Browser, index: str) -> None:
    with visiting(browser, index) as visit:
        page = visit.page
        page.locator(".painted a").first.click()
        expect(page).to_have_url(f"{index}#p1")
        page.go_back()
        expect(page.locator("dialog")).to_be_hidden()
        page.go_forward()
        expect(page.locator("#viewer-title")).to_have_text("noon × swirls")
        page.get_by_role("button", name="Close").click()
        expect(page).to_have_url(index)
        page.goto(f"{index}#p1")
        expect(page.locator("dialog")).to_be_visible()
        page.reload()
        expect(page.locator("dialog")).to_be_visible()
        page.get_by_role("button", name="Close").click()
        expect(page.locator("dialog")).to_be_hidden()
        expect(page).to_have_url(index)


def test_pages_lead_to_each_other(browser: Browser, index: str) -> None:
    with visiting(browser, index) as visit:
        visit.page.get_by_role("link", name="Next page").click()
        expect(visit.page.locator("[aria-current]")).to_have_text("2")
        check(visit)
        visit.page.get_by_role("link", name="Page 1", exact=True).click()
        expect(visit.page).to_have_url(index)


def test_without_script_the_cards_are_links(browser: Browser, index: str) -> None:
    with visiting(browser, index, java_script_enabled=False) as visit:
        visit.page.locator(".painted a").first.click()
        expect(visit.page).to_have_url(re.compile(r"/job1/pastiche\.png$"))


def test_policy_lets_nothing_else_run_or_load(browser: Browser, index: str) -> None:
    with visiting(browser, index) as visit:
        visit.page.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "window.__pwned = 1";
            document.body.append(script);
            const image = new Image();
            image.setAttribute("onerror", "window.__pwned = 1");
            image.src = "http://127.0.0.1:9/x.png";
            document.body.append(image);
            return new Promise((done) => image.addEventListener("error", done));
        }""")
        assert visit.page.evaluate("window.__pwned") is None
        assert len([complaint for complaint in visit.complaints if "Content Security Policy" in complaint]) >= 3
