"""Pages opened in Chromium, what it complains of or asks for while they are open, and what all pages must stand."""

import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, sync_playwright

from servers import answering

LOADED = """async () => {
    for (const image of document.images) {
        if (!image.checkVisibility()) continue;
        image.scrollIntoView();
        if (!image.complete) await new Promise((done) => { image.onload = image.onerror = done });
    }
    scrollTo(0, 0);
    return [...document.images].filter((i) => i.checkVisibility() && !i.naturalWidth).map((i) => i.src);
}"""
"""The pictures that do not load, after scrolling to each."""

UNNAMED = """() => [...document.querySelectorAll("a, button, input, select, textarea, summary, video, svg[role=img]")]
    .filter((e) => e.checkVisibility())
    .filter((e) => !e.ariaLabel && !e.textContent.trim() && !e.labels?.length && !e.querySelector("img:not([alt=''])"))
    .map((e) => e.outerHTML)"""
"""Controls and links of which a screen reader could say nothing."""


@dataclass
class Visit:
    """An open page, and what happened since it was asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def foreign(self) -> list[str]:
        """Requests to anywhere but where the page came from."""
        own = urlsplit(self.page.url)
        return [url for url in self.requests if urlsplit(url)[:2] != own[:2] and not url.startswith("data:")]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, headless; it plays H.264, which the one that Playwright downloads does not.

    Raises:
        FileNotFoundError: it is not installed.
    """
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise FileNotFoundError("chromium")
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(browser: Browser, url: str, width: int = 1280, height: int = 900, **options: Any) -> Iterator[Visit]:
    """Open a page in a context of its own; ``options`` are Playwright's for contexts."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(10_000)
    try:
        visit = Visit(context.new_page())
        _listen(visit)
        visit.page.goto(url)
        yield visit
    finally:
        context.close()


def served(folder: Path) -> AbstractContextManager[str]:
    """A plain web server over a folder, on a free port; yields its URL."""
    return answering(functools.partial(_Handler, directory=str(folder)))


def file_url(path: Path) -> str:
    """A file's URL, whatever its name; ``Path.as_uri`` refuses names that are not Unicode."""
    return "file://" + quote(os.fsencode(path.resolve()))


def check(visit: Visit) -> None:
    """What every page must stand: no complaint, nothing from elsewhere, and all of it seen, told and in the width."""
    page = visit.page
    assert page.evaluate(LOADED) == []
    assert page.evaluate("[...document.images].filter((i) => !i.hasAttribute('alt')).map((i) => i.src)") == []
    assert page.evaluate(UNNAMED) == []
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang")
    assert page.title()
    assert page.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0
    for video in page.locator("video").all():
        video.evaluate("v => v.readyState || new Promise((done) => { v.onloadedmetadata = v.onerror = done })")
        assert video.evaluate("v => [v.error?.message, v.duration > 0, v.videoWidth > 0]") == [None, True, True]
    assert visit.complaints == []
    assert visit.foreign() == []


def _listen(visit: Visit) -> None:
    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visit.complaints.append(f"{message.type}: {message.text}")

    def failed(request: Request) -> None:
        # A browser leaves off reading a video once it knows what it is, and all of a page that it leaves.
        if "ERR_ABORTED" not in (request.failure or ""):
            visit.complaints.append(f"{request.failure}: {request.url}")

    def answered(response: Response) -> None:
        if response.status >= 400:
            visit.complaints.append(f"{response.status}: {response.url}")

    page = visit.page
    page.on("console", said)
    page.on("pageerror", lambda error: visit.complaints.append(f"uncaught: {error}"))
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("requestfailed", failed)
    page.on("response", answered)


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Tests are quiet."""
